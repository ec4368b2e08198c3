//! Frames: a 16-byte header, a payload, and zeros up to the next multiple of 16 unless the kind is a compact one.

use std::collections::VecDeque;

use rkyv::util::AlignedVec;

use crate::Payload;
use crate::limits::{MAX_BATCH_BYTES, MAX_CONTROL_BYTES};

/// Bytes of a frame header.
pub const FRAME_HEADER_BYTES: usize = 16;

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
    /// Client: asks for a new certificate.
    Renew = 6,
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
    /// Server: a new certificate.
    Renewed = 23,
    /// Server: there is no new certificate.
    NotRenewed = 24,
    /// Batch stream: a schema, before its first batch.
    Schema = 32,
    /// Batch stream: a batch.
    Batch = 33,
    /// Batch stream: what follows is old data.
    Backlog = 34,
    /// Batch stream: a batch in its compact form.
    CompactBatch = 64,
    /// Server: an ack in its compact form.
    CompactAck = 65,
}

impl FrameKind {
    /// The kind of a number on the wire.
    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::Attach,
            3 => Self::Detach,
            4 => Self::Dropped,
            5 => Self::Bye,
            6 => Self::Renew,
            16 => Self::Welcome,
            17 => Self::Attached,
            18 => Self::Ack,
            19 => Self::Nack,
            20 => Self::Refuse,
            21 => Self::Pace,
            22 => Self::GoAway,
            23 => Self::Renewed,
            24 => Self::NotRenewed,
            32 => Self::Schema,
            33 => Self::Batch,
            34 => Self::Backlog,
            64 => Self::CompactBatch,
            65 => Self::CompactAck,
            _ => return None,
        })
    }

    /// How many zeros follow a payload of `length` bytes: none where it is not read where it lies.
    pub(crate) const fn padding(self, length: usize) -> usize {
        match self {
            Self::CompactBatch | Self::CompactAck => 0,
            _ => length.wrapping_neg() % FRAME_HEADER_BYTES,
        }
    }
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
#[error("frame at stream offset {offset}: {problem}")]
pub struct FrameError {
    /// Where the frame starts, bytes from the stream's start.
    pub offset: u64,
    /// What is wrong with it.
    pub problem: FrameProblem,
}

/// What is wrong with a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameProblem {
    /// A kind that is unknown, or that does not travel on this kind of stream.
    #[error("kind {0} is unknown or does not belong on this stream")]
    Kind(u8),
    /// Flags or reserved bits are set.
    #[error("flags or reserved bits are set; this version knows none")]
    Flags,
    /// The payload is longer than its kind may be.
    #[error("{length} bytes announced, at most {max} are allowed")]
    TooLong {
        /// What the header says.
        length: u32,
        /// What is allowed.
        max: usize,
    },
    /// The checksum does not fit.
    #[error("the CRC32C does not match the content")]
    Checksum,
    /// The padding is not zero.
    #[error("the padding is not zero")]
    Padding,
}

/// The header of a frame that holds `payload`, which must be within the limits of its kind.
pub fn write_header(kind: FrameKind, alias: u32, payload: &[u8]) -> [u8; FRAME_HEADER_BYTES] {
    debug_assert!(payload.len() <= MAX_BATCH_BYTES);
    let mut header = [0; FRAME_HEADER_BYTES];
    header[0] = kind as u8;
    header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[8..12].copy_from_slice(&alias.to_le_bytes());
    let crc = checksum(&header, payload);
    header[12..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Makes a frame of the payload that `write` appends to `out`, which must be within the limits of its kind.
pub fn append_frame(kind: FrameKind, alias: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let body = start + FRAME_HEADER_BYTES;
    out.resize(body, 0);
    write(out);
    let header = write_header(kind, alias, &out[body..]);
    out[start..body].copy_from_slice(&header);
    out.resize(out.len() + kind.padding(out.len() - body), 0);
}

/// CRC32C over a header whose own checksum is zero, and its payload.
fn checksum(header: &[u8; FRAME_HEADER_BYTES], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), payload)
}

/// Cuts the bytes of one stream into frames, copying each payload once, into an aligned buffer of its announced size.
#[derive(Debug)]
pub struct FrameReader {
    accepts: Accepts,
    /// Where the frame that is being read starts.
    offset: u64,
    header: [u8; FRAME_HEADER_BYTES],
    header_read: usize,
    /// The payload of the frame whose header is complete.
    body: Option<Body>,
    ready: VecDeque<Frame>,
    failed: Option<FrameError>,
}

/// What travels on the stream.
#[derive(Debug, Clone, Copy)]
enum Accepts {
    Control,
    Batches { max_bytes: usize },
}

#[derive(Debug)]
struct Body {
    kind: FrameKind,
    alias: u32,
    length: usize,
    payload: AlignedVec<16>,
    padding: usize,
    padding_read: usize,
}

impl FrameReader {
    /// A reader for a control stream: every kind that does not belong on a batch stream.
    pub fn control() -> Self {
        Self::new(Accepts::Control)
    }

    /// A reader for a batch stream: [`FrameKind::Schema`], [`FrameKind::Backlog`], [`FrameKind::Batch`] and
    /// [`FrameKind::CompactBatch`], the latter two up to `max_batch_bytes`.
    pub fn batches(max_batch_bytes: usize) -> Self {
        Self::new(Accepts::Batches { max_bytes: max_batch_bytes.min(MAX_BATCH_BYTES) })
    }

    fn new(accepts: Accepts) -> Self {
        Self {
            accepts,
            offset: 0,
            header: [0; FRAME_HEADER_BYTES],
            header_read: 0,
            body: None,
            ready: VecDeque::new(),
            failed: None,
        }
    }

    /// Takes the next bytes of the stream. What a chunk completes waits for [`Self::next`], so the memory in use is
    /// bounded by the chunk and one payload.
    pub fn push(&mut self, mut chunk: &[u8]) {
        while !chunk.is_empty() && self.failed.is_none() {
            if let Err(problem) = self.advance(&mut chunk) {
                self.failed = Some(FrameError { offset: self.offset, problem });
            }
        }
    }

    /// The next complete frame, if there is one. After an error there are none.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is fallible and goes on after more bytes, unlike an iterator"
    )]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        match (self.ready.pop_front(), &self.failed) {
            (None, Some(error)) => Err(error.clone()),
            (frame, _) => Ok(frame),
        }
    }

    /// Whether the stream may end here: no frame is half read.
    pub fn is_at_boundary(&self) -> bool {
        self.header_read == 0 && self.failed.is_none()
    }

    /// Takes header, payload or padding from the front of `chunk`, whichever comes next.
    fn advance(&mut self, chunk: &mut &[u8]) -> Result<(), FrameProblem> {
        let Some(body) = &mut self.body else {
            let part = take(chunk, FRAME_HEADER_BYTES - self.header_read);
            self.header[self.header_read..][..part.len()].copy_from_slice(part);
            self.header_read += part.len();
            if self.header_read == FRAME_HEADER_BYTES {
                self.body = Some(self.accepts.open(&self.header)?);
                self.finish_if_complete()?;
            }
            return Ok(());
        };
        if body.payload.len() < body.length {
            let part = take(chunk, body.length - body.payload.len());
            body.payload.extend_from_slice(part);
        } else {
            let part = take(chunk, body.padding - body.padding_read);
            if part.iter().any(|byte| *byte != 0) {
                return Err(FrameProblem::Padding);
            }
            body.padding_read += part.len();
        }
        self.finish_if_complete()
    }

    fn finish_if_complete(&mut self) -> Result<(), FrameProblem> {
        let complete =
            |body: &mut Body| body.payload.len() == body.length && body.padding_read == body.padding;
        let Some(body) = self.body.take_if(complete) else {
            return Ok(());
        };
        let mut header = self.header;
        let crc = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
        header[12..].fill(0);
        if checksum(&header, &body.payload) != crc {
            return Err(FrameProblem::Checksum);
        }
        self.offset += (FRAME_HEADER_BYTES + body.length + body.padding_read) as u64;
        self.header_read = 0;
        self.ready.push_back(Frame { kind: body.kind, alias: body.alias, payload: body.payload.into() });
        Ok(())
    }
}

impl Accepts {
    /// Checks a header, and makes room for its payload.
    fn open(self, header: &[u8; FRAME_HEADER_BYTES]) -> Result<Body, FrameProblem> {
        let [number, flags, reserved @ .., _, _, _, _, _, _, _, _, _, _, _, _] = *header;
        let kind = FrameKind::from_number(number).ok_or(FrameProblem::Kind(number))?;
        let max = match (self, kind) {
            (Self::Batches { max_bytes }, FrameKind::Batch | FrameKind::CompactBatch) => max_bytes,
            (Self::Batches { .. }, FrameKind::Schema) => MAX_CONTROL_BYTES,
            (Self::Batches { .. }, FrameKind::Backlog) => 0,
            (Self::Batches { .. }, _)
            | (
                Self::Control,
                FrameKind::Batch | FrameKind::CompactBatch | FrameKind::Schema | FrameKind::Backlog,
            ) => {
                return Err(FrameProblem::Kind(number));
            }
            (Self::Control, _) => MAX_CONTROL_BYTES,
        };
        if flags != 0 || reserved != [0, 0] {
            return Err(FrameProblem::Flags);
        }
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (length, alias) = (word(4), word(8));
        if length as usize > max {
            return Err(FrameProblem::TooLong { length, max });
        }
        let length = length as usize;
        let payload = AlignedVec::with_capacity(length);
        Ok(Body { kind, alias, length, payload, padding: kind.padding(length), padding_read: 0 })
    }
}

/// Cuts up to `count` bytes off the front of `chunk`.
fn take<'a>(chunk: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (part, rest) = chunk.split_at(count.min(chunk.len()));
    *chunk = rest;
    part
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: FrameKind, alias: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        append_frame(kind, alias, &mut bytes, |out| out.extend_from_slice(payload));
        bytes
    }

    fn only_problem(mut reader: FrameReader, bytes: &[u8]) -> FrameProblem {
        reader.push(bytes);
        reader.next().unwrap_err().problem
    }

    #[test]
    fn checksum_is_crc32c() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn limits_are_checked_before_the_payload_arrives() {
        let mut header = write_header(FrameKind::Batch, 1, &[]);
        header[4..8].copy_from_slice(&(1 << 20 | 1u32).to_le_bytes());
        let too_long = FrameProblem::TooLong { length: 1 << 20 | 1, max: MAX_BATCH_BYTES };
        assert_eq!(only_problem(FrameReader::batches(usize::MAX), &header), too_long);
        header[0] = FrameKind::Ack as u8;
        let too_long = FrameProblem::TooLong { length: 1 << 20 | 1, max: MAX_CONTROL_BYTES };
        assert_eq!(only_problem(FrameReader::control(), &header), too_long);
    }

    #[test]
    fn each_stream_has_its_kinds() {
        assert_eq!(
            only_problem(FrameReader::control(), &frame(FrameKind::Batch, 1, b"")),
            FrameProblem::Kind(33)
        );
        assert_eq!(
            only_problem(FrameReader::batches(100), &frame(FrameKind::Ack, 1, b"")),
            FrameProblem::Kind(18)
        );
        let mut unknown = frame(FrameKind::Ack, 1, b"");
        unknown[0] = 99;
        assert_eq!(only_problem(FrameReader::control(), &unknown), FrameProblem::Kind(99));
    }

    #[test]
    fn any_flipped_bit_is_found_and_named() {
        let first = frame(FrameKind::Schema, 0, b"abc");
        let second = frame(FrameKind::Batch, 7, b"0123456789");
        for bit in 0..second.len() * 8 {
            let mut damaged = second.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // So that a damaged length finds enough bytes.
            damaged.resize(damaged.len() + (1 << 20), 0);
            let mut reader = FrameReader::batches(1 << 20);
            reader.push(&first);
            reader.push(&damaged);
            assert_eq!(reader.next().unwrap().unwrap().kind, FrameKind::Schema);
            assert_eq!(reader.next().unwrap_err().offset, first.len() as u64, "bit {bit}");
            assert!(!reader.is_at_boundary());
        }
    }

    proptest! {
        #[test]
        fn frames_survive_any_chunking(
            payloads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..70), any::<u32>()), 1..8),
            chunk in 1usize..50,
        ) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|(p, alias)| frame(FrameKind::Batch, *alias, p)).collect();
            let mut reader = FrameReader::batches(100);
            let mut read = Vec::new();
            for chunk in bytes.chunks(chunk) {
                reader.push(chunk);
                while let Some(frame) = reader.next().unwrap() {
                    prop_assert!(frame.payload.is_empty() || frame.payload.as_ptr().addr().is_multiple_of(16));
                    read.push((frame.payload.to_vec(), frame.alias));
                }
            }
            prop_assert!(reader.is_at_boundary());
            prop_assert_eq!(read, payloads);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for mut reader in [FrameReader::control(), FrameReader::batches(1000)] {
                reader.push(&bytes);
                while let Ok(Some(_)) = reader.next() {}
            }
        }
    }
}
