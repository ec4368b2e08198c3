//! Snapshots of the state that are kept: from where a deletion, a look back and a new machine start.
//!
//! The state itself is none of this crate's business: a snapshot is a file that belongs to a place in the log.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::catalog::digest;
use crate::instant;

/// The directory of kept snapshots in a store.
pub(crate) const SHELF: &str = "snapshots";

/// A full snapshot that was read back and is kept: in the store of the journal, or on this disk where there is no store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSnapshot {
    /// The number of the block with which the log goes on behind it; it is named after that.
    pub block: u64,
    /// The position of the first event that is not in it.
    pub position: u64,
    /// The newest received time in it, in nanoseconds since the Unix epoch.
    #[serde(with = "instant")]
    pub received: i64,
    /// How many devices it holds.
    pub devices: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// BLAKE3 of the file.
    #[serde(with = "digest")]
    pub hash: [u8; 32],
    /// The store it is in; `None` is the data directory.
    pub store: Option<String>,
}

impl KeptSnapshot {
    /// Its object in a store.
    #[must_use]
    pub fn object(&self) -> String {
        object_name(self.block)
    }

    /// Its file in the data directory `data`, where it is before it is in a store.
    #[must_use]
    pub fn file(&self, data: &Path) -> PathBuf {
        directory(data).join(file_name(self.block))
    }
}

/// Where the data directory `data` has the snapshots that are kept on this disk, and those that are on their way to a store.
#[must_use]
pub fn directory(data: &Path) -> PathBuf {
    data.join(SHELF).join("kept")
}

/// The object of the snapshot behind which the log goes on with this block.
#[must_use]
pub fn object_name(block: u64) -> String {
    format!("{SHELF}/{}", file_name(block))
}

/// The block that the object of this name is named after, if it is a snapshot's.
#[must_use]
pub fn parse_object(name: &str) -> Option<u64> {
    parse_file(name.strip_prefix(SHELF)?.strip_prefix('/')?)
}

/// The same of a file's name.
pub(crate) fn parse_file(name: &str) -> Option<u64> {
    let block = name.strip_suffix(".full")?;
    block.parse().ok().filter(|_| block.len() == 20)
}

fn file_name(block: u64) -> String {
    format!("{block:020}.full")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_after_blocks() {
        assert_eq!(object_name(17), "snapshots/00000000000000000017.full");
        assert_eq!(parse_object(&object_name(u64::MAX)), Some(u64::MAX));
        for other in
            ["snapshots/17.full", "snapshots/00000000000000000017.delta", "x/00000000000000000017.full"]
        {
            assert_eq!(parse_object(other), None, "{other}");
        }
    }
}
