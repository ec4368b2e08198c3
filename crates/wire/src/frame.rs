//! Frames: a 16-byte header, a payload, zeros up to the next multiple of 16.

use crate::Payload;

/// Bytes of a frame header.
pub const FRAME_HEADER_BYTES: usize = 16;

/// Zeros to pad a payload with: take the first [`padding`] of them.
pub const PADDING: [u8; 16] = [0; 16];

/// How many zeros follow a payload of `length` bytes.
pub const fn padding(length: usize) -> usize {
    length.wrapping_neg() % 16
}

/// What a frame holds. The numbers are frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Client: the first message of a connection.
    Hello = 1,
    /// Client: starts sending for a device.
    Attach = 2,
    /// Client: stops sending for a device.
    Detach = 3,
    /// Client: sequences that will never come.
    Dropped = 4,
    /// Client: an orderly end.
    Bye = 5,
    /// Server: the answer to `Hello`.
    Welcome = 16,
    /// Server: the answer to `Attach`.
    Attached = 17,
    /// Server: sequences that reached a level.
    Ack = 18,
    /// Server: a batch that was not taken.
    Nack = 19,
    /// Server: a device or connection that is not taken.
    Refuse = 20,
    /// Server: how fast the client may send.
    Pace = 21,
    /// Server: the connection is about to end.
    GoAway = 22,
    /// Batch stream: a schema, before its first batch.
    Schema = 32,
    /// Batch stream: a batch.
    Batch = 33,
}

/// A frame header as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the payload holds.
    pub kind: FrameKind,
    /// Bytes of the payload, without padding.
    pub length: u32,
    /// Which attached device it concerns; 0 for none.
    pub alias: u32,
    /// CRC32C over the header with this field zero and the payload.
    pub crc: u32,
}

/// A complete, checked frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the payload holds.
    pub kind: FrameKind,
    /// Which attached device it concerns; 0 for none.
    pub alias: u32,
    /// The payload, without padding.
    pub payload: Payload,
}

/// Why a stream of frames cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The checksum does not fit.
    #[error("frame at stream offset {offset}: CRC32C does not match its content")]
    Checksum {
        /// Where the frame starts.
        offset: u64,
    },
}

/// The header of a frame that holds `payload`.
pub fn write_header(kind: FrameKind, alias: u32, payload: &[u8]) -> [u8; FRAME_HEADER_BYTES] {
    let _ = (kind, alias, payload);
    unimplemented!()
}

/// Cuts the bytes of one stream into frames, copying each payload once, into an aligned buffer of its announced size.
#[derive(Debug)]
pub struct FrameReader {
    offset: u64,
}

impl FrameReader {
    /// A reader for a control stream: every kind but [`FrameKind::Schema`] and [`FrameKind::Batch`].
    pub fn control() -> Self {
        Self { offset: 0 }
    }

    /// A reader for a batch stream: only [`FrameKind::Schema`] and [`FrameKind::Batch`], the latter up to
    /// `max_batch_bytes`.
    pub fn batches(max_batch_bytes: usize) -> Self {
        let _ = max_batch_bytes;
        Self { offset: 0 }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        let _ = chunk;
        unimplemented!()
    }

    /// The next complete frame, if there is one. After an error there are none.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is fallible and resumes after more bytes, unlike an iterator"
    )]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let _ = self.offset;
        unimplemented!()
    }

    /// Whether the stream may end here: no frame is half read.
    pub fn is_at_boundary(&self) -> bool {
        unimplemented!()
    }
}
