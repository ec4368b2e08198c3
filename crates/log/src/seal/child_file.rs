//! A child being written: in pieces, each synced, so that no large flush holds up the log's own syncs.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use super::Pace;
use crate::disk::{Access, Disk, DiskFile};
use crate::error::LogError;
use crate::mutants::{Mutant, planted};
use crate::segment::unfinished;

/// Bytes written between two calls of the pace.
const PIECE: usize = 1 << 20;

/// Bytes that wait for a sync at most.
const SYNC_BYTES: u64 = 8 << 20;

/// The file of a child.
pub(super) struct ChildFile<'a, 'p> {
    disk: &'a dyn Disk,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    unfinished: PathBuf,
    pace: &'a mut Pace<'p>,
    written: u64,
    synced: u64,
    broken_off: bool,
}

impl<'a, 'p> ChildFile<'a, 'p> {
    pub(super) fn create(
        disk: &'a dyn Disk,
        path: PathBuf,
        pace: &'a mut Pace<'p>,
    ) -> Result<Self, LogError> {
        let unfinished = unfinished(&path);
        let file = disk.open(&unfinished, Access::Truncate).map_err(LogError::io("create", &unfinished))?;
        Ok(Self { disk, file, path, unfinished, pace, written: 0, synced: 0, broken_off: false })
    }

    /// Whether the pace has broken off the seal.
    pub(super) fn is_broken_off(&self) -> bool {
        self.broken_off
    }

    /// Makes what was written durable, and gives it its name; that is durable with the next sync of the directory.
    pub(super) fn finish(self) -> Result<(), LogError> {
        if !planted(Mutant::ManifestBeforeChildren) {
            self.file.sync().map_err(LogError::io("sync", &self.unfinished))?;
        }
        self.disk.rename(&self.unfinished, &self.path).map_err(LogError::io("rename", &self.unfinished))
    }
}

impl Write for ChildFile<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        self.file.write_at(piece, self.written)?;
        self.written += piece.len() as u64;
        if self.written - self.synced >= SYNC_BYTES {
            self.file.sync()?;
            self.synced = self.written;
        }
        if let ControlFlow::Break(()) = (self.pace)(piece.len() as u64) {
            self.broken_off = true;
            return Err(io::Error::other("the seal was broken off"));
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
