//! From records to the bytes of a block.

use std::ops::Range;
use std::sync::Arc;

use icecore_wire::Payload;
use zstd::bulk::Compressor;

use super::{BLOCK_HEADER_BYTES, BlockHeader, Chain, Codec, MAX_BLOCK_BYTES, chain_after};
use crate::directory::Directory;
use crate::fields::crc32c;
use crate::record::pad;
use crate::segment::ALIGNMENT;

/// A cut block that is not compressed yet. It holds its payloads by reference.
#[derive(Debug)]
pub struct RawBlock {
    pub(crate) place: BlockPlace,
    pub(crate) records: RecordBuffer,
}

/// Where a block belongs.
#[derive(Debug, Clone)]
pub(crate) struct BlockPlace {
    pub(crate) number: u64,
    pub(crate) first_position: u64,
    pub(crate) events: u64,
    /// Nanoseconds since the Unix epoch.
    pub(crate) received: i64,
    pub(crate) segment: u64,
    /// The directory of the segment before, if this is the first block of a new one.
    pub(crate) finished: Option<Arc<Directory>>,
}

impl BlockPlace {
    fn positions(&self) -> Range<u64> {
        self.first_position..self.first_position + self.events
    }
}

impl RawBlock {
    /// The block's number in the log.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.place.number
    }

    /// The positions of its events.
    #[must_use]
    pub fn positions(&self) -> Range<u64> {
        self.place.positions()
    }
}

/// The records of a block being built: their bytes, and between them the payloads.
#[derive(Debug, Default)]
pub(crate) struct RecordBuffer {
    pub(crate) count: u32,
    /// All records without the payloads.
    pub(crate) head: Vec<u8>,
    /// Payloads of the packed section, each with the place in `head` it belongs to.
    plain: Vec<(usize, Payload)>,
    /// Payloads the device has compressed.
    verbatim: Vec<Payload>,
    /// Bytes of all payloads, padding included.
    payload_bytes: usize,
}

impl RecordBuffer {
    /// An empty one with room for as much as `other` holds.
    pub(crate) fn like(other: &Self) -> Self {
        Self {
            head: Vec::with_capacity(other.head.len()),
            plain: Vec::with_capacity(other.plain.len()),
            verbatim: Vec::with_capacity(other.verbatim.len()),
            ..Self::default()
        }
    }

    pub(crate) fn push_plain(&mut self, payload: Payload) {
        self.payload_bytes += payload.len().next_multiple_of(16);
        self.plain.push((self.head.len(), payload));
    }

    pub(crate) fn push_verbatim(&mut self, payload: Payload) {
        self.payload_bytes += payload.len().next_multiple_of(16);
        self.verbatim.push(payload);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.head.len() + self.payload_bytes
    }

    /// Lays out the packed section before packing.
    fn assemble(&self, section: &mut Vec<u8>) {
        section.clear();
        section.reserve(self.bytes());
        let mut done = 0;
        for (at, payload) in &self.plain {
            section.extend_from_slice(&self.head[done..*at]);
            section.extend_from_slice(payload);
            pad(section);
            done = *at;
        }
        section.extend_from_slice(&self.head[done..]);
    }
}

/// Compresses blocks; keeps its context and buffers from one to the next. One per thread.
pub struct Encoder {
    compressor: Compressor<'static>,
    level: i32,
    section: Vec<u8>,
    packed: Vec<u8>,
}

impl Encoder {
    /// An encoder without warm buffers.
    #[must_use]
    pub fn new() -> Self {
        let level = zstd::DEFAULT_COMPRESSION_LEVEL;
        let compressor = Compressor::new(level).expect("a context of a few MB can be allocated");
        Self { compressor, level, section: Vec::new(), packed: Vec::new() }
    }

    /// Compresses a block with zstd at `level` (negative ones are faster still). The result depends on nothing but the
    /// arguments.
    #[must_use]
    pub fn encode(&mut self, block: RawBlock, level: i32) -> EncodedBlock {
        // A reader refuses more, so none may be written.
        assert!(
            block.records.bytes() <= MAX_BLOCK_BYTES as usize,
            "block {} is too large",
            block.place.number
        );
        block.records.assemble(&mut self.section);
        let codec = self.pack(level);
        let packed = match codec {
            Codec::Stored => &self.section,
            Codec::Zstd => &self.packed,
        };
        let verbatim_len: usize = block.records.verbatim.iter().map(|p| p.len().next_multiple_of(16)).sum();
        let len = BLOCK_HEADER_BYTES + packed.len().next_multiple_of(16) + verbatim_len;
        let mut bytes = Vec::with_capacity(len.next_multiple_of(ALIGNMENT as usize));
        bytes.resize(BLOCK_HEADER_BYTES, 0);
        bytes.extend_from_slice(packed);
        pad(&mut bytes);
        for payload in &block.records.verbatim {
            bytes.extend_from_slice(payload);
            pad(&mut bytes);
        }
        bytes.resize(len.next_multiple_of(ALIGNMENT as usize), 0);

        let body = &bytes[BLOCK_HEADER_BYTES..];
        let header = BlockHeader {
            nonce: [0; 16],
            number: block.place.number,
            first_position: block.place.first_position,
            events: block.place.events,
            received: block.place.received,
            records: block.records.count,
            packed_len: packed.len() as u32,
            plain_len: self.section.len() as u32,
            verbatim_len: verbatim_len as u32,
            codec,
            previous: [0; 32],
            body_hash: *blake3::hash(body).as_bytes(),
            body_crc: crc32c(body),
        };
        EncodedBlock { place: block.place, raw_bytes: block.records.bytes(), header, bytes }
    }

    /// Packs the section if that makes it smaller.
    fn pack(&mut self, level: i32) -> Codec {
        if level != self.level {
            self.compressor.set_compression_level(level).expect("zstd clamps levels to those it knows");
            self.level = level;
        }
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(self.section.len()));
        self.compressor
            .compress_to_buffer(&self.section, &mut self.packed)
            .expect("the buffer has zstd's bound for this input");
        if self.packed.len() < self.section.len() { Codec::Zstd } else { Codec::Stored }
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("level", &self.level).finish_non_exhaustive()
    }
}

/// A block ready to be committed.
#[derive(Debug)]
pub struct EncodedBlock {
    pub(crate) place: BlockPlace,
    raw_bytes: usize,
    header: BlockHeader,
    bytes: Vec<u8>,
}

impl EncodedBlock {
    /// The block's number in the log.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.place.number
    }

    /// The positions of its events.
    #[must_use]
    pub fn positions(&self) -> Range<u64> {
        self.place.positions()
    }

    /// Bytes of its records before compression.
    #[must_use]
    pub fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    /// Bytes it takes on disk.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Binds the block to its segment and to the block before it, and returns the chain after it.
    pub(crate) fn seal(&mut self, nonce: [u8; 16], previous: Chain) -> Chain {
        self.header.nonce = nonce;
        self.header.previous = previous;
        let header = self.header.encode();
        self.bytes[..BLOCK_HEADER_BYTES].copy_from_slice(&header);
        chain_after(&header)
    }

    /// The bytes to write, once sealed.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
