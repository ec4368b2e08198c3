//! Tails: what is kept of a sealed segment whose pages are elsewhere, or deleted.

use std::path::Path;

use super::{Sealer, sweep};
use crate::disk::{Access, Disk};
use crate::error::LogError;
use crate::manifest::CurrentSegment;
use crate::sealed::SealedSegment;
use crate::sealed_store::SealedStore;
use crate::segment::{Layout, unfinished};
use crate::segment_id::SegmentId;

/// Bytes copied at once.
const STEP: u64 = 1 << 20;

impl Sealer {
    /// Removes the local file of a sealed segment but for its last part, which keeps what is needed to look up batches: the
    /// device index and the digests. Whoever calls this has made sure that the whole is safe elsewhere. Returns how many
    /// bytes were given back; a segment that is not here gives back none.
    ///
    /// # Errors
    /// When the file cannot be read or the tail not be written: then the file is still there. [`LogError::Absent`] if no
    /// manifest names the segment, or it was split.
    pub fn drop_pages(&self, id: SegmentId) -> Result<u64, LogError> {
        let state = self.progress.seals.state();
        let segment = state.history.find(id)?;
        match self.store.open(&segment) {
            Ok(open) => self.leave_tail(&segment, &open),
            Err(LogError::Absent { .. }) => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn leave_tail(&self, segment: &CurrentSegment, open: &SealedSegment) -> Result<u64, LogError> {
        let SealedStore { disk, layout, .. } = &self.store;
        let (from, to) = (layout.sealed(segment.id), layout.sealed_tail(segment.id));
        let (start, len) = (open.tail_start(), segment.child.bytes);
        copy(&**disk, &from, &to, start..len)?;
        disk.sync_dir(&layout.sealed).map_err(LogError::io("sync", &layout.sealed))?;
        sweep::remove(&**disk, &from)?;
        Ok(start)
    }
}

/// Keeps what is needed to look up batches of `segment`, which is elsewhere, in the data directory `data`: what
/// [`Sealer::drop_pages`] leaves of one that was here. For a data directory that is made anew.
///
/// # Errors
/// When the segment cannot be read, or the disk refuses.
pub fn keep_tail(
    disk: &dyn Disk,
    data: &Path,
    id: SegmentId,
    segment: &SealedSegment,
) -> Result<(), LogError> {
    let mut at = segment.tail_start();
    write_tail(disk, data, id, |write| {
        while at < segment.bytes() {
            let step = STEP.min(segment.bytes() - at);
            write(&segment.read(at, step as usize)?)?;
            at += step;
        }
        Ok(())
    })
}

/// Puts on record that the batches of a segment cannot be looked up any more: it was deleted, and its tail is lost. A batch
/// of it that comes again is known by its sequences alone.
///
/// # Errors
/// When the disk refuses.
pub fn forget_tail(disk: &dyn Disk, data: &Path, id: SegmentId) -> Result<(), LogError> {
    write_tail(disk, data, id, |_| Ok(()))
}

type Write<'w> = dyn FnMut(&[u8]) -> Result<(), LogError> + 'w;

fn write_tail(
    disk: &dyn Disk,
    data: &Path,
    id: SegmentId,
    content: impl FnOnce(&mut Write<'_>) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let layout = Layout::new(data);
    disk.create_dir(&layout.sealed).map_err(LogError::io("create", &layout.sealed))?;
    let tail = layout.sealed_tail(id);
    let unfinished = unfinished(&tail);
    let file = disk.open(&unfinished, Access::Truncate).map_err(LogError::io("create", &unfinished))?;
    let mut at = 0;
    content(&mut |bytes| {
        file.write_at(bytes, at).map_err(LogError::io("write", &unfinished))?;
        at += bytes.len() as u64;
        Ok(())
    })?;
    file.sync().map_err(LogError::io("sync", &unfinished))?;
    disk.rename(&unfinished, &tail).map_err(LogError::io("rename", &unfinished))?;
    disk.sync_dir(&layout.sealed).map_err(LogError::io("sync", &layout.sealed))
}

/// Copies a part of a file into another one by the book.
fn copy(
    disk: &dyn Disk,
    from: &std::path::Path,
    to: &std::path::Path,
    part: std::ops::Range<u64>,
) -> Result<(), LogError> {
    let unfinished = unfinished(to);
    let source = disk.open(from, Access::Read).map_err(LogError::io("open", from))?;
    let target = disk.open(&unfinished, Access::Truncate).map_err(LogError::io("create", &unfinished))?;
    let mut buffer = vec![0; STEP.min(part.end - part.start) as usize];
    let mut at = part.start;
    while at < part.end {
        let step = STEP.min(part.end - at) as usize;
        let len = source.read_at(&mut buffer[..step], at).map_err(LogError::io("read", from))?;
        if len < step {
            return Err(LogError::io("read", from)(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let write = target.write_at(&buffer[..step], at - part.start);
        write.map_err(LogError::io("write", &unfinished))?;
        at += step as u64;
    }
    target.sync().map_err(LogError::io("sync", &unfinished))?;
    disk.rename(&unfinished, to).map_err(LogError::io("rename", &unfinished))
}
