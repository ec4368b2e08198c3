//! Letting go of a sealed segment's pages when others keep them.

use super::{Sealer, sweep};
use crate::disk::{Access, Disk};
use crate::error::LogError;
use crate::manifest::CurrentSegment;
use crate::sealed::SealedSegment;
use crate::sealed_store::SealedStore;
use crate::segment::unfinished;
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
