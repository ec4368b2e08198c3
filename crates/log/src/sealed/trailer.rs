//! The first and the last bytes of a sealed segment.

use super::Decoded;
use super::limits::MAX_SECTION_BYTES;
use crate::fields::{FieldReader, check_crc, push_crc};

const MAGIC: &[u8; 8] = b"ICE-SEAL";
const END_MAGIC: &[u8; 8] = b"SEAL-END";
pub(super) const VERSION: u32 = 1;

pub(super) const HEADER_BYTES: usize = 16;
pub(super) const TRAILER_BYTES: usize = 72;

/// Magic and version, and their checksum.
pub(super) fn header() -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_le_bytes());
    push_crc(&mut header, 0);
    header
}

/// The root over a footer as it is stored. It holds the hashes of all row groups, so that this covers everything.
pub(super) fn root(footer: &[u8]) -> [u8; 32] {
    *blake3::hash(footer).as_bytes()
}

/// The end of the file, where reading begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trailer {
    /// Bytes of the footer, as stored and unpacked.
    pub(super) footer_stored: u64,
    pub(super) footer_len: u64,
    /// Bytes of the whole file.
    pub(super) len: u64,
    pub(super) root: [u8; 32],
    pub(super) version: u32,
}

impl Trailer {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TRAILER_BYTES);
        bytes.extend_from_slice(&self.footer_stored.to_le_bytes());
        bytes.extend_from_slice(&self.footer_len.to_le_bytes());
        bytes.extend_from_slice(&self.len.to_le_bytes());
        bytes.extend_from_slice(&self.root);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        push_crc(&mut bytes, 0);
        bytes.extend_from_slice(END_MAGIC);
        bytes
    }

    /// Reads a trailer. Its place and layout are the same in all versions.
    pub(super) fn read(bytes: &[u8]) -> Decoded<Self> {
        let (content, magic) = bytes.split_last_chunk().ok_or("it is too short")?;
        if magic != END_MAGIC {
            return Err("it does not end as a sealed segment does".into());
        }
        let content = check_crc(content).ok_or("the checksum of its end does not match")?;
        Self::parse(content).ok_or_else(|| "its end is too short".into())
    }

    fn parse(content: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::new(content);
        Some(Self {
            footer_stored: fields.u64()?,
            footer_len: fields.u64()?,
            len: fields.u64()?,
            root: fields.array()?,
            version: fields.u32()?,
        })
    }

    /// Checks it against the length of the file it is of.
    pub(super) fn check(&self, len: u64) -> Decoded<()> {
        let least = (HEADER_BYTES + TRAILER_BYTES) as u64;
        if self.len != len {
            Err(format!("it has {len} bytes, not {}", self.len))
        } else if self.footer_stored > len.saturating_sub(least) || self.footer_len > MAX_SECTION_BYTES as u64
        {
            Err(format!("a footer of {} bytes, unpacked {}", self.footer_stored, self.footer_len))
        } else {
            Ok(())
        }
    }

    /// Bytes of footer and trailer.
    pub(super) fn tail_bytes(&self) -> u64 {
        self.footer_stored + TRAILER_BYTES as u64
    }
}
