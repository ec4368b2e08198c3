//! The back half of the log: writes blocks in order and makes them durable.

use std::ops::Range;

use crate::block::EncodedBlock;
use crate::error::CommitError;

/// A block that is durable now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The block's number.
    pub block: u64,
    /// The positions of its events.
    pub positions: Range<u64>,
    /// Bytes it takes on disk.
    pub bytes: u64,
}

/// Writes blocks. Owned by the one thread that waits for the disk.
#[derive(Debug)]
pub struct Committer {}

impl Committer {
    /// Writes the block and returns when it is durable. Blocks come in the order of their numbers. After
    /// [`CommitError::Full`] the same block may be committed again; after any other error nothing may.
    pub fn commit(&mut self, block: &mut EncodedBlock) -> Result<Committed, CommitError> {
        unimplemented!("{block:?}")
    }

    /// Stops cleanly after the last block (best an empty one, so that it proves the one before it): gives reserved
    /// space back and releases the lock.
    pub fn close(self) -> Result<(), CommitError> {
        unimplemented!()
    }
}
