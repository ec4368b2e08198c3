//! Snapshots: the state of all devices at a place in the log, as files.
//!
//! A full snapshot holds every device, a delta those that changed since the one before it; together they are a chain. A file is a
//! tree of pages, each an rkyv archive that is searched as it lies: leaves hold devices in the order of their names, branches say
//! where their children are and what checksum they have. So a file is opened by reading its head, and a device is found by
//! reading one page a level, however many devices there are; and nothing is trusted that was not checked.
//!
//! - `head`: what a file begins with
//! - `record`: a device as it is stored
//! - `tree`: pages, written in one pass
//! - `file`: one snapshot, open for reading
//! - `chain`: a full one and deltas, as one
//! - `store`: the directory of all of them: loading, retirement
//!
//! `docs/format.md` describes the bytes.

mod chain;
mod file;
mod head;
mod record;
mod store;
mod tree;

use std::io;
use std::path::{Path, PathBuf};

pub use chain::{Chain, ChainDevices};
pub use file::{Devices, Snapshot};
pub use head::{Kind, SnapshotHead};
pub use store::{Loaded, Saved, Snapshots};

/// A snapshot cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The operating system refused something.
    #[error("cannot {what} {}: {source}", file.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// The file or directory it was tried on.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "damaged: {} at offset {offset}: {what}; it can be removed, the state is made of an older snapshot and the log",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A later version wrote it.
    #[error("{}: snapshot format {version} is not known here; a later version of Icecore wrote it", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// The version it has.
        version: u32,
    },
}

impl SnapshotError {
    fn io(what: &'static str, file: &Path) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_path_buf();
        move |source| Self::Io { what, file, source }
    }

    fn damaged(file: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_path_buf(), offset, what: what.into() }
    }
}
