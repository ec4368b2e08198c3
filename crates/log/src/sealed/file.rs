//! The file of a sealed segment, and errors that name places in it.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ReadAt;
use crate::error::{Damage, LogError};

/// Bytes that change no more, and what they are called.
#[derive(Clone)]
pub(super) struct SealedFile {
    bytes: Arc<dyn ReadAt>,
    pub(super) name: PathBuf,
    pub(super) len: u64,
    /// Pages of columns that were read through this opening of the file.
    pages: Arc<AtomicU64>,
}

impl SealedFile {
    pub(super) fn open(bytes: Arc<dyn ReadAt>, name: PathBuf) -> Result<Self, LogError> {
        let len = bytes.len().map_err(LogError::io("find the length of", &name))?;
        Ok(Self { bytes, name, len, pages: Arc::default() })
    }

    /// Reads `len` bytes at `offset`, which must lie within the file.
    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, LogError> {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(self
                .damage(offset, format!("{len} bytes are said to lie here, behind the end"))
                .into());
        }
        let mut buf = vec![0; len];
        self.bytes.read_at(offset, &mut buf).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                self.damage(offset, "it ends early, or has been cut while it was read".into()).into()
            }
            _ => LogError::io("read", &self.name)(error),
        })?;
        Ok(buf)
    }

    /// Reads pages of a column that lie one after the other.
    pub(super) fn read_pages(&self, offset: u64, len: usize, pages: usize) -> Result<Vec<u8>, LogError> {
        self.pages.fetch_add(pages as u64, Ordering::Relaxed);
        self.read(offset, len)
    }

    pub(super) fn pages(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.pages)
    }

    pub(super) fn damage(&self, offset: u64, what: String) -> Damage {
        Damage { file: self.name.clone(), offset, what, positions: None }
    }

    pub(super) fn damage_of(&self, offset: u64, what: String, positions: Range<u64>) -> Damage {
        Damage { file: self.name.clone(), offset, what, positions: Some(positions) }
    }
}
