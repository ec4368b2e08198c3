//! The front half of the log: cuts blocks, gives numbers and positions, knows which batches are stored.

use std::ops::Range;
use std::sync::Arc;

use icecore_wire::{DeviceName, Digest, Epoch, Payload, Schema};

use crate::block::RawBlock;
use crate::error::LogError;
use crate::fact::Source;

/// A validated batch to be stored.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// The batch as it came.
    pub payload: Payload,
    /// The sequence of its first event.
    pub first_sequence: u64,
    /// How many events it holds.
    pub count: u32,
    /// The digest of `payload`.
    pub digest: Digest,
    /// Whether the device compressed its columns already: such a batch is stored as it is.
    pub compressed: bool,
}

/// What the log knows of a stored batch without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchEntry {
    /// The sequence of its first event.
    pub first_sequence: u64,
    /// How many events it holds.
    pub count: u32,
    /// The digest of its payload.
    pub digest: Digest,
    /// The position of its first event.
    pub position: u64,
    /// When its block was cut, in nanoseconds since the Unix epoch.
    pub received: i64,
}

/// Builds blocks, one at a time. Owned by the one thread that decides what is stored.
#[derive(Debug)]
pub struct Appender {}

impl Appender {
    /// Adds a batch to the block being built and returns the position of its first event.
    pub fn batch(&mut self, source: &Arc<Source>, schema: &Arc<Schema>, batch: NewBatch) -> u64 {
        unimplemented!("{source:?} {schema:?} {batch:?}")
    }

    /// Adds the fact that a batch was refused for good. `code` is a number of `icecore_wire`'s `Code`.
    pub fn refused(
        &mut self,
        source: &Arc<Source>,
        range: Range<u64>,
        code: u16,
        digest: Digest,
        message: &str,
    ) {
        unimplemented!("{source:?} {range:?} {code} {digest:?} {message}")
    }

    /// Adds the fact that the device dropped these sequences.
    pub fn dropped(&mut self, source: &Arc<Source>, range: Range<u64>) {
        unimplemented!("{source:?} {range:?}")
    }

    /// Whether the block being built has reached [`Options::block_bytes`](crate::Options::block_bytes).
    #[must_use]
    pub fn is_full(&self) -> bool {
        unimplemented!()
    }

    /// Whether the block being built holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }

    /// Bytes in the block being built, before compression.
    #[must_use]
    pub fn bytes(&self) -> usize {
        unimplemented!()
    }

    /// The position the next event gets.
    #[must_use]
    pub fn position(&self) -> u64 {
        unimplemented!()
    }

    /// Cuts the block: numbers it and decides whether it starts a new segment. `received` is its received time in
    /// nanoseconds since the Unix epoch; the log never lets it step backwards. An empty block is allowed: it proves
    /// that the one before it reached the disk.
    pub fn finish(&mut self, received: i64) -> RawBlock {
        unimplemented!("{received}")
    }

    /// Finds the stored batch that begins exactly at `first_sequence`, be it durable or still on its way there.
    pub fn find_batch(
        &mut self,
        device: &DeviceName,
        epoch: &Epoch,
        first_sequence: u64,
    ) -> Result<Option<BatchEntry>, LogError> {
        unimplemented!("{device} {epoch} {first_sequence}")
    }
}
