//! The disk under the data directory.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;

/// Unit of a file's block count, whatever the file system's block size (POSIX `st_blocks`).
const BLOCK: u64 = 512;

/// Bytes used and left.
pub(super) struct Disk {
    /// Allocated to files in the data directory, preallocated segments included.
    pub(super) used: u64,
    /// Free on its file system for this user.
    pub(super) free: u64,
}

impl Disk {
    pub(super) fn of(data: &Path) -> anyhow::Result<Self> {
        let context = || format!("cannot look at the data directory {}", data.display());
        let used = allocated(data).with_context(context)?;
        Ok(Self { used, free: free(data)? })
    }
}

/// Bytes free for this user on the data directory's file system.
pub(crate) fn free(data: &Path) -> anyhow::Result<u64> {
    let context = || format!("cannot look at the data directory {}", data.display());
    let space = rustix::fs::statvfs(data).with_context(context)?;
    Ok(space.f_bavail * space.f_frsize)
}

/// Bytes allocated to everything below `directory`. What disappears on the way counts as gone.
fn allocated(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += allocated(&entry.path())?,
            Ok(metadata) => bytes += metadata.blocks() * BLOCK,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}
