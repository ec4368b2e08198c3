//! Byte strings that are compressed as a whole: the footer, and the head of every row group.

use super::Decoded;
use crate::fields::{check_crc, push_crc};

/// zstd's level for what is written once and kept for good.
const LEVEL: i32 = 9;

/// The most a stored byte may unpack to, beside [`SPARE`]: more is a trap, not data.
const MOST_PER_BYTE: usize = 1024;
const SPARE: usize = 1 << 20;

/// One zstd frame.
pub(super) fn compress(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, LEVEL).expect("zstd compresses any bytes into a buffer that it sizes itself")
}

/// Unpacks one zstd frame of exactly `len` bytes.
pub(super) fn decompress(packed: &[u8], len: usize) -> Decoded<Vec<u8>> {
    if len > packed.len().saturating_mul(MOST_PER_BYTE).saturating_add(SPARE) {
        return Err(format!("{} bytes claim to be {len} unpacked", packed.len()));
    }
    let bytes = zstd::bulk::decompress(packed, len).map_err(|error| format!("zstd: {error}"))?;
    if bytes.len() == len { Ok(bytes) } else { Err(format!("{} bytes unpacked, not {len}", bytes.len())) }
}

/// A section as it is stored: one zstd frame and the CRC32C of it.
pub(super) fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut stored = compress(bytes);
    push_crc(&mut stored, 0);
    stored
}

pub(super) fn unpack(stored: &[u8], len: usize) -> Decoded<Vec<u8>> {
    decompress(check_crc(stored).ok_or("the checksum does not match")?, len)
}
