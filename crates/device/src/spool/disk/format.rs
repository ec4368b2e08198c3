//! The bytes of a spool file.
//!
//! A file is a sequence of frames, each a header of 16 bytes and a payload padded with zeros to 16:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | kind: 1 start, 2 schema, 3 batch, 4 dropped |
//! | 1 | 1 | of a batch: 1 = its event times are uptimes, nanoseconds since the start of the boot; otherwise 0 |
//! | 2 | 1 | of a batch: its priority as a signed number, from -2 to 2; otherwise 0, which is also what older files have |
//! | 3 | 1 | zero |
//! | 4 | 4 | payload length without padding |
//! | 8 | 4 | CRC32C over epoch and number of the file, bytes 0–8 of the header, and payload |
//! | 12 | 4 | zero |
//!
//! The first frame is a start: magic, version, the file's epoch and number, and the id of the boot in which it was begun (16
//! bytes, which the oldest files lack). The CRC covers both, so that a frame left over
//! from another file is never taken for one of this. The batches of a file have one priority and ascending sequences; an
//! epoch's files together hold each sequence once, in no order between files of different priorities. A schema precedes the first batch that needs it; a dropped frame
//! holds an epoch and the ranges of it that were given up and that the server had not settled then. Integers are
//! little-endian.
//!
//! What the spool knows of clocks lies beside its files: see [`clock`](super::clock).

use crc32c::crc32c_append;
use icecore_wire::{Epoch, SequenceRanges};

use crate::clock::Boot;
use crate::spool::priority::Priority;
use crate::spool::queue::Mark;

pub(super) const FRAME_HEADER: usize = 16;
const ALIGNMENT: usize = 16;
const MAGIC: &[u8; 8] = b"ICSPOOL\0";
const VERSION: u32 = 1;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Start = 1,
    Schema = 2,
    Batch = 3,
    Dropped = 4,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Start, Self::Schema, Self::Batch, Self::Dropped].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Which file a frame is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) epoch: Epoch,
    pub(super) number: u64,
}

/// Bytes that a payload of `length` takes in a file.
pub(super) const fn frame_bytes(length: usize) -> usize {
    FRAME_HEADER + length.next_multiple_of(ALIGNMENT)
}

/// Appends a frame to `out`.
pub(super) fn write_frame(file: FileId, kind: Kind, mark: Mark, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).expect("a spool frame is at most a batch long");
    let start = out.len();
    out.extend_from_slice(&[kind as u8, mark.uptime.into(), mark.priority.byte(), 0]);
    out.extend_from_slice(&length.to_le_bytes());
    let crc = checksum(file, &out[start..], payload);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out.resize(start + frame_bytes(payload.len()), 0);
}

fn checksum(file: FileId, head: &[u8], payload: &[u8]) -> u32 {
    let number = file.number.to_le_bytes();
    let parts: [&[u8]; 4] = [file.epoch.as_bytes(), &number, &head[..8], payload];
    parts.into_iter().fold(0, crc32c_append)
}

/// The payload of a file's first frame.
pub(super) fn start_payload(file: FileId, boot: Boot) -> Vec<u8> {
    let mut payload = MAGIC.to_vec();
    payload.extend_from_slice(&VERSION.to_le_bytes());
    payload.extend_from_slice(&[0; 4]);
    payload.extend_from_slice(file.epoch.as_bytes());
    payload.extend_from_slice(&file.number.to_le_bytes());
    payload.extend_from_slice(&boot);
    payload
}

/// Which file this is, by its first frame, and in which boot it was begun, if it says so.
pub(super) fn read_start(bytes: &[u8]) -> Option<(FileId, Option<Boot>)> {
    let payload = bytes.get(FRAME_HEADER..FRAME_HEADER + 40)?;
    let (magic, rest) = payload.split_first_chunk::<8>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (_, rest) = rest.split_first_chunk::<4>()?;
    let (epoch, rest) = rest.split_first_chunk::<16>()?;
    let number = u64::from_le_bytes(rest.try_into().ok()?);
    let file = FileId { epoch: Epoch::from_bytes(*epoch), number };
    let known = magic == MAGIC && u32::from_le_bytes(*version) == VERSION;
    let (kind, payload) = read_frame(file, bytes)?;
    let boot = payload.get(40..).and_then(|rest| rest.first_chunk()).copied();
    (known && kind == Kind::Start).then_some((file, boot))
}

/// The frame at the start of `bytes`; `None` when there is no whole and intact one.
pub(super) fn read_frame(file: FileId, bytes: &[u8]) -> Option<(Kind, &[u8])> {
    let header = bytes.get(..FRAME_HEADER)?;
    let kind = Kind::of(header[0])?;
    let (length, rest) = header[4..].split_first_chunk::<4>()?;
    let (crc, _) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let payload = bytes.get(FRAME_HEADER..FRAME_HEADER.checked_add(length)?)?;
    (checksum(file, header, payload) == u32::from_le_bytes(*crc)).then_some((kind, payload))
}

/// What the header of an intact frame says beside its kind and length.
pub(super) fn read_mark(frame: &[u8]) -> Mark {
    Mark { uptime: frame[1] != 0, priority: Priority::of(frame[2]) }
}

/// The payload of a dropped frame.
pub(super) fn dropped_payload(epoch: Epoch, ranges: &SequenceRanges) -> Vec<u8> {
    let mut payload = epoch.as_bytes().to_vec();
    for range in ranges {
        payload.extend_from_slice(&range.start.to_le_bytes());
        payload.extend_from_slice(&range.end.to_le_bytes());
    }
    payload
}

/// The reverse of [`dropped_payload`]; `None` if it is none.
pub(super) fn read_dropped(payload: &[u8]) -> Option<(Epoch, SequenceRanges)> {
    let (epoch, rest) = payload.split_first_chunk::<16>()?;
    let (ranges, rest) = rest.as_chunks::<16>();
    if !rest.is_empty() {
        return None;
    }
    let bounds = ranges.iter().map(|range| u128::from_le_bytes(*range));
    // The start is in the low half, the end in the high one.
    let ranges = bounds.map(|bounds| (bounds & u128::from(u64::MAX)) as u64..(bounds >> 64) as u64);
    Some((Epoch::from_bytes(*epoch), ranges.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> FileId {
        FileId { epoch: Epoch::from_bytes([3; 16]), number: 9 }
    }

    #[test]
    fn frames_read_back_and_any_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        write_frame(file(), Kind::Batch, Mark::default(), b"seventeen bytes!!", &mut bytes);
        assert_eq!(bytes.len(), frame_bytes(17));
        assert_eq!(read_mark(&bytes), Mark::default());
        assert_eq!(read_frame(file(), &bytes), Some((Kind::Batch, b"seventeen bytes!!".as_slice())));
        for bit in (0..12 * 8).chain(FRAME_HEADER * 8..(FRAME_HEADER + 17) * 8) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_frame(file(), &damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn a_frame_of_another_file_is_not_taken() {
        let mut bytes = Vec::new();
        let mark = Mark { uptime: true, priority: Priority::Low };
        write_frame(file(), Kind::Batch, mark, b"x", &mut bytes);
        assert_eq!(read_mark(&bytes), mark);
        assert_eq!(read_frame(FileId { number: 10, ..file() }, &bytes), None);
    }

    #[test]
    fn a_start_and_a_drop_read_back() {
        let mut bytes = Vec::new();
        write_frame(file(), Kind::Start, Mark::default(), &start_payload(file(), [7; 16]), &mut bytes);
        assert_eq!(read_start(&bytes), Some((file(), Some([7; 16]))));
        let mut old = Vec::new();
        write_frame(file(), Kind::Start, Mark::default(), &start_payload(file(), [7; 16])[..40], &mut old);
        assert_eq!(read_start(&old), Some((file(), None)));
        let ranges: SequenceRanges = [2..5, 7..u64::MAX - 1].into_iter().collect();
        assert_eq!(read_dropped(&dropped_payload(file().epoch, &ranges)), Some((file().epoch, ranges)));
    }
}
