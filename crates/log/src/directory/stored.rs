//! Lookups in the directories of finished segments.

use std::sync::Arc;

use icecore_wire::{DeviceName, Epoch};

use super::{BatchEntry, DirectoryFile};
use crate::disk::Disk;
use crate::error::LogError;
use crate::recovery::rebuild_directory;
use crate::segment::{self, Layout};

/// Directories kept open. One holds the names of the segment's sources: about 1 MB for 10,000 devices.
const MAX_OPEN: usize = 64;

/// The directories of all finished segments.
pub(crate) struct StoredDirectories {
    disk: Arc<dyn Disk>,
    layout: Layout,
    /// Oldest first.
    segments: Vec<u64>,
    /// Least recently used first.
    open: Vec<Arc<DirectoryFile>>,
}

impl StoredDirectories {
    pub(crate) fn new(disk: Arc<dyn Disk>, layout: Layout, segments: Vec<u64>) -> Self {
        Self { disk, layout, segments, open: Vec::new() }
    }

    /// A newer segment is finished and its directory is written.
    pub(crate) fn add(&mut self, segment: u64) {
        self.segments.push(segment);
    }

    /// Finds the batch that begins exactly at `first_sequence`.
    pub(crate) fn find(
        &mut self,
        device: &DeviceName,
        epoch: &Epoch,
        first_sequence: u64,
    ) -> Result<Option<BatchEntry>, LogError> {
        for segment in self.search_order() {
            let found = match self.directory(segment)?.find(device, epoch, first_sequence) {
                Err(LogError::Damaged(_)) => self.rebuild(segment)?.find(device, epoch, first_sequence),
                found => found,
            };
            if let Some(entry) = found? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Where something was found last, and after that; then newest first. Who sends a file again asks for its batches
    /// in order.
    fn search_order(&self) -> Vec<u64> {
        let last = self.open.last().map(|directory| directory.extent.segment);
        let near = self.segments.iter().filter(|segment| Some(**segment) >= last).take(2);
        let near: Vec<u64> = near.copied().collect();
        let rest = self.segments.iter().rev().filter(|segment| !near.contains(segment));
        near.iter().chain(rest).copied().collect()
    }

    /// Opens the directory of a segment, building it again if need be, and marks it as the last used.
    fn directory(&mut self, segment: u64) -> Result<Arc<DirectoryFile>, LogError> {
        if let Some(index) = self.open.iter().position(|open| open.extent.segment == segment) {
            let directory = self.open.remove(index);
            return Ok(self.keep_open(directory));
        }
        let header = segment::read_header(&*self.disk, &self.layout, segment)?;
        match DirectoryFile::open(&*self.disk, &self.layout, &header)? {
            Some(directory) => Ok(self.keep_open(Arc::new(directory))),
            None => self.rebuild(segment),
        }
    }

    fn rebuild(&mut self, segment: u64) -> Result<Arc<DirectoryFile>, LogError> {
        let header = segment::read_header(&*self.disk, &self.layout, segment)?;
        let directory = Arc::new(rebuild_directory(&*self.disk, &self.layout, &header)?);
        self.open.retain(|open| open.extent.segment != segment);
        Ok(self.keep_open(directory))
    }

    fn keep_open(&mut self, directory: Arc<DirectoryFile>) -> Arc<DirectoryFile> {
        if self.open.len() == MAX_OPEN {
            self.open.remove(0);
        }
        self.open.push(Arc::clone(&directory));
        directory
    }
}

impl std::fmt::Debug for StoredDirectories {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredDirectories").field("segments", &self.segments).finish_non_exhaustive()
    }
}
