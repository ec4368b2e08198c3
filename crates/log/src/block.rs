//! Blocks: what is written, synced and acknowledged at once.

use std::ops::Range;

/// A cut block that is not compressed yet. It holds its payloads by reference.
#[derive(Debug)]
pub struct RawBlock {}

impl RawBlock {
    /// The block's number in the log.
    #[must_use]
    pub fn number(&self) -> u64 {
        unimplemented!()
    }

    /// The positions of its events.
    #[must_use]
    pub fn positions(&self) -> Range<u64> {
        unimplemented!()
    }
}

/// Compresses blocks; keeps its context and buffers from one to the next. One per thread.
#[derive(Debug)]
pub struct Encoder {}

impl Encoder {
    /// An encoder without warm buffers.
    #[must_use]
    pub fn new() -> Self {
        unimplemented!()
    }

    /// Compresses a block with zstd at `level` (negative ones are faster still). Depends on nothing but its arguments.
    pub fn encode(&mut self, block: RawBlock, level: i32) -> EncodedBlock {
        unimplemented!("{block:?} {level}")
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// A block ready to be committed.
#[derive(Debug)]
pub struct EncodedBlock {}

impl EncodedBlock {
    /// The block's number in the log.
    #[must_use]
    pub fn number(&self) -> u64 {
        unimplemented!()
    }

    /// The positions of its events.
    #[must_use]
    pub fn positions(&self) -> Range<u64> {
        unimplemented!()
    }

    /// Bytes of its records before compression.
    #[must_use]
    pub fn raw_bytes(&self) -> usize {
        unimplemented!()
    }

    /// Bytes it takes on disk.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        unimplemented!()
    }
}
