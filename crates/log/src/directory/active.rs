//! The directory of the segment that is being written, for readers in the same process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use icecore_wire::DeviceName;

use super::Directory;
use crate::block::Announced;

/// What a writer knows of the segment that it writes. Readers in the same process find in it which blocks they need; others have to read
/// the whole segment, for its directory is not on the disk before it is finished.
#[derive(Debug, Clone)]
pub struct ActiveDirectory(Arc<Mutex<Active>>);

#[derive(Debug)]
pub(crate) struct Active {
    /// The number of the segment.
    pub(crate) segment: u64,
    /// Blocks that are not durable yet are in it, too.
    pub(crate) directory: Directory,
}

impl ActiveDirectory {
    pub(crate) fn new(segment: u64, directory: Directory) -> Self {
        Self(Arc::new(Mutex::new(Active { segment, directory })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Active> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next block goes to this segment; returns the directory of the one before.
    pub(crate) fn replace(&self, segment: u64, directory: Directory) -> Directory {
        std::mem::replace(&mut *self.lock(), Active { segment, directory }).directory
    }

    /// Everything that is announced in a segment, and which of its blocks hold records of devices that are wanted; `None` if another
    /// segment is being written.
    pub(crate) fn of(
        &self,
        segment: u64,
        wanted: Option<&dyn Fn(&DeviceName) -> bool>,
    ) -> Option<(Announced, Option<Vec<u64>>)> {
        let active = self.lock();
        (active.segment == segment)
            .then(|| (active.directory.announced(), wanted.map(|wanted| active.directory.blocks_of(wanted))))
    }
}

impl Directory {
    fn announced(&self) -> Announced {
        let mut announced = Announced::default();
        for (id, rows) in self.sources.iter().enumerate() {
            announced.source(id as u32, Arc::clone(&rows.source));
        }
        for (id, schema) in self.schemas.iter().enumerate() {
            announced.schema(id as u32, Arc::clone(schema));
        }
        announced
    }

    /// The numbers of the blocks with records of wanted devices, ascending.
    fn blocks_of(&self, wanted: &dyn Fn(&DeviceName) -> bool) -> Vec<u64> {
        let rows = self.sources.iter().filter(|rows| wanted(&rows.source.device));
        let blocks = rows.flat_map(|rows| {
            let batches = rows.batches.iter().map(|row| row.block);
            batches.chain(rows.settled.iter().map(|row| row.block))
        });
        let mut blocks: Vec<u64> = blocks.map(|block| self.first_block + u64::from(block)).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    }
}
