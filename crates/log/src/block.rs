//! Blocks: what is written, synced and acknowledged at once.

mod decode;
mod encode;

use std::ops::Range;

use crate::fields::{FieldReader, check_crc, crc32c, push_crc};
use crate::segment::ALIGNMENT;

pub(crate) use decode::{Announced, BlockReader, DecodedBlock};
pub(crate) use encode::{BlockPlace, RecordBuffer};
pub use encode::{EncodedBlock, Encoder, RawBlock};

/// The hash chain at one point: the BLAKE3 of the header of the block before it, which holds the hash of that block's
/// body and the chain before that. Zeros before the first block.
pub(crate) type Chain = [u8; 32];

/// Bytes of a block header; the body follows. A multiple of 16, so that verbatim payloads lie aligned in a block.
pub(crate) const BLOCK_HEADER_BYTES: usize = 160;

/// No block has more bytes of records than this. A full block holds [`crate::Options::block_bytes`] and one record
/// more; the bound keeps a reader from allocating whatever a header says.
pub(crate) const MAX_BLOCK_BYTES: u32 = 256 << 20;

const MAGIC: [u8; 8] = *b"ICEBLOCK";

/// How the first section of a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Stored = 0,
    Zstd = 1,
}

/// What stands in front of a block's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    /// The nonce of the segment it belongs to.
    pub(crate) nonce: [u8; 16],
    pub(crate) number: u64,
    pub(crate) first_position: u64,
    pub(crate) events: u64,
    /// Nanoseconds since the Unix epoch.
    pub(crate) received: i64,
    pub(crate) records: u32,
    /// Bytes of the packed section as stored, without padding.
    pub(crate) packed_len: u32,
    /// Bytes of the packed section unpacked.
    pub(crate) plain_len: u32,
    /// Bytes of the verbatim section: payloads, each padded to 16.
    pub(crate) verbatim_len: u32,
    pub(crate) codec: Codec,
    /// The chain before this block.
    pub(crate) previous: Chain,
    /// BLAKE3 of the body, padding included.
    pub(crate) body_hash: [u8; 32],
    /// CRC32C of the body, padding included.
    pub(crate) body_crc: u32,
}

impl BlockHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK_HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.first_position.to_le_bytes());
        out.extend_from_slice(&self.events.to_le_bytes());
        out.extend_from_slice(&self.received.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.packed_len.to_le_bytes());
        out.extend_from_slice(&self.plain_len.to_le_bytes());
        out.extend_from_slice(&self.verbatim_len.to_le_bytes());
        out.extend_from_slice(&[self.codec as u8, 0, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&self.previous);
        out.extend_from_slice(&self.body_hash);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.body_crc.to_le_bytes());
        push_crc(&mut out, 0);
        out
    }

    /// Decodes a header of the segment with this nonce; `None` if the bytes are none.
    pub(crate) fn decode(bytes: &[u8], nonce: &[u8; 16]) -> Option<Self> {
        let bytes = bytes.get(..BLOCK_HEADER_BYTES)?;
        // Looking for a block in a damaged file comes here for every sector: the cheap tests first.
        if bytes[..8] != MAGIC || bytes[8..24] != *nonce {
            return None;
        }
        let mut fields = FieldReader::new(check_crc(bytes)?);
        fields.bytes(8)?;
        let nonce = fields.array()?;
        let (number, first_position, events) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let received = fields.i64()?;
        let records = fields.u32()?;
        let (packed_len, plain_len, verbatim_len) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let codec = match fields.u8()? {
            0 => Codec::Stored,
            1 => Codec::Zstd,
            _ => return None,
        };
        fields.bytes(7)?;
        let (previous, body_hash) = (fields.array()?, fields.array()?);
        fields.bytes(8)?;
        let body_crc = fields.u32()?;
        let header = Self {
            nonce,
            number,
            first_position,
            events,
            received,
            records,
            packed_len,
            plain_len,
            verbatim_len,
            codec,
            previous,
            body_hash,
            body_crc,
        };
        header.is_plausible().then_some(header)
    }

    /// Nothing that overflows or asks for more memory than any block needs; a header with a good CRC is only then
    /// implausible when it was made on purpose.
    fn is_plausible(&self) -> bool {
        self.packed_len.max(self.plain_len).max(self.verbatim_len) <= MAX_BLOCK_BYTES
            && self.first_position.checked_add(self.events).is_some()
            && self.number < u64::MAX
            && self.verbatim_len.is_multiple_of(16)
            && (self.codec == Codec::Zstd || self.packed_len == self.plain_len)
    }

    pub(crate) fn positions(&self) -> Range<u64> {
        self.first_position..self.first_position + self.events
    }

    /// Where the verbatim section starts in the body.
    pub(crate) fn verbatim_start(&self) -> usize {
        (self.packed_len as usize).next_multiple_of(16)
    }

    /// Bytes of the body, padding included.
    pub(crate) fn body_len(&self) -> usize {
        let end = BLOCK_HEADER_BYTES + self.verbatim_start() + self.verbatim_len as usize;
        end.next_multiple_of(ALIGNMENT as usize) - BLOCK_HEADER_BYTES
    }

    /// Bytes of the whole block.
    pub(crate) fn block_len(&self) -> u64 {
        (BLOCK_HEADER_BYTES + self.body_len()) as u64
    }

    /// What is wrong with a body, if anything.
    fn check_body(&self, body: &[u8]) -> Result<(), String> {
        let crc = crc32c(body);
        if crc != self.body_crc {
            return Err(format!(
                "the CRC32C of block {} is {crc:08x}, not {:08x}",
                self.number, self.body_crc
            ));
        }
        if *blake3::hash(body).as_bytes() != self.body_hash {
            return Err(format!("the BLAKE3 of block {} is not what its header says", self.number));
        }
        Ok(())
    }
}

/// The chain after the block with this encoded header.
pub(crate) fn chain_after(header: &[u8]) -> Chain {
    *blake3::hash(header).as_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> BlockHeader {
        BlockHeader {
            nonce: [7; 16],
            number: 3,
            first_position: 1000,
            events: 50,
            received: -1,
            records: 2,
            packed_len: 100,
            plain_len: 200,
            verbatim_len: 32,
            codec: Codec::Zstd,
            previous: [1; 32],
            body_hash: [2; 32],
            body_crc: 0xdead_beef,
        }
    }

    #[test]
    fn a_header_comes_back() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), BLOCK_HEADER_BYTES);
        assert_eq!(BlockHeader::decode(&bytes, &[7; 16]), Some(header()));
        assert_eq!(BlockHeader::decode(&bytes, &[8; 16]), None, "of another segment");
    }

    #[test]
    fn what_would_overflow_is_no_header() {
        for bad in [
            BlockHeader { events: u64::MAX, ..header() },
            BlockHeader { plain_len: MAX_BLOCK_BYTES + 1, ..header() },
            BlockHeader { codec: Codec::Stored, ..header() },
            BlockHeader { verbatim_len: 8, ..header() },
        ] {
            assert_eq!(BlockHeader::decode(&bad.encode(), &[7; 16]), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = BlockHeader::decode(&bytes, &[7; 16]);
        }

        #[test]
        fn a_changed_bit_makes_it_none(bit in 0..BLOCK_HEADER_BYTES * 8) {
            let mut bytes = header().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(BlockHeader::decode(&bytes, &[7; 16]), None);
        }
    }
}
