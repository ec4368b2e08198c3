//! The disk as the log sees it: a small seam, so that tests can crash it.

mod real;
#[cfg(feature = "sim")]
mod sim;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;
#[cfg(feature = "sim")]
pub use sim::{Crash, SimDisk};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// An existing file, for reading.
    Read,
    /// For reading and writing; created empty if it does not exist.
    Write,
    /// For reading and writing; emptied if it exists, created otherwise.
    Truncate,
}

/// A file system, reduced to what a log needs. All paths are absolute or relative to the process.
pub trait Disk: Send + Sync {
    /// Opens a file. A created one is durable only after [`Disk::sync_dir`].
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// Moves a file over another one, atomically; durable only after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; durable only after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory and its parents where they do not exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names of the files in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes the directory's entries durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes a file under `dir` could still take.
    fn free_space(&self, dir: &Path) -> io::Result<u64>;
    /// Takes the exclusive lock on `path`, creating the file; `None` if another holder has it. Dropping releases it.
    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>>;
    /// Whether anybody holds the exclusive lock on `path`.
    fn is_locked(&self, path: &Path) -> io::Result<bool>;
    /// Random bytes, for ids and nonces; a simulated disk repeats them with its seed.
    fn random(&self) -> [u8; 16];
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads what is there at `offset`, and says how much: less than `buf.len()` only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`; durable only after [`DiskFile::sync`].
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reserves space up to `len` and makes the file that long; new bytes read as zeros. The only operation
    /// that is expected to run out of space.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts the file to `len`.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes the file's bytes and length durable (`fdatasync`). After an error nothing may be assumed about them.
    fn sync(&self) -> io::Result<()>;
}

/// A held lock; dropping it releases it.
pub struct DiskLock {
    _held: Box<dyn Send + Sync>,
}

impl DiskLock {
    fn new(held: impl Send + Sync + 'static) -> Self {
        Self { _held: Box::new(held) }
    }
}

impl std::fmt::Debug for DiskLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiskLock")
    }
}
