//! Where recorded batches wait until the server has made them durable.

use std::path::PathBuf;

pub(crate) mod disk;
pub(crate) mod outbox;
pub(crate) mod queue;

/// Where a device keeps batches until they are acked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spool {
    /// In memory: lost with the process, which the next process's new epoch makes plain.
    Memory {
        /// Payload bytes that it may hold.
        max_bytes: usize,
    },
    /// In files of a directory of its own: survives crashes of process and machine.
    Disk {
        /// The directory; made if missing. One device, one process.
        dir: PathBuf,
        /// Bytes of files that it may hold.
        max_bytes: u64,
    },
}
