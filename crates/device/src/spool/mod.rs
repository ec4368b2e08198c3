//! Where recorded batches wait until the server has made them durable.
//!
//! - [`class`]: what is live and what is backlog
//! - [`priority`]: what a full spool lets go of first
//! - [`queue`]: the unsettled batches of one epoch
//! - [`outbox`]: those of all epochs of a device, and the bounds on them
//! - [`rebase`]: how batches from before there was a clock get their times
//! - [`disk`]: the files under an outbox that survives crashes
//!
//! An epoch is born with its spool, and new data is never mistaken for old: a spool in memory begins one each time; one
//! on disk goes on with its epoch only after a clean close, on the same machine, without a reboot or a copy in between
//! (`disk/marker.rs` has the rule and its reasons). Whatever an ended epoch left is still delivered, under that epoch.

use std::path::PathBuf;

pub(crate) mod class;
pub(crate) mod disk;
pub(crate) mod outbox;
pub(crate) mod priority;
pub(crate) mod queue;
pub(crate) mod rebase;

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
