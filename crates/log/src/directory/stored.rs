//! Lookups in the directories of finished segments, hot and sealed.

use std::io;
use std::sync::Arc;

use icecore_wire::{DeviceName, Epoch};

use super::file::tell_damaged;
use super::sealed_ranges::Candidates;
use super::{BatchEntry, DirectoryFile, SealedRanges};
use crate::error::LogError;
use crate::manifest::Manifest;
use crate::recovery::rebuild_directory;
use crate::seal::Seals;
use crate::sealed::SealedSegment;
use crate::sealed_store::SealedStore;
use crate::segment;
use crate::segment_id::SegmentId;

/// Directories kept open. One holds the names of the segment's sources: about 1 MB for 10,000 devices.
const MAX_OPEN: usize = 64;

/// The directories of all finished segments.
pub(crate) struct StoredDirectories {
    store: SealedStore,
    sealed: SealedRanges,
    /// Hot segments that are not sealed, oldest first.
    hot: Vec<u64>,
    /// Least recently used first.
    open: Vec<(Place, Open)>,
}

/// Where batches are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Sealed(SegmentId),
    Hot(u64),
}

#[derive(Clone)]
enum Open {
    Sealed(SealedSegment),
    Hot(Arc<DirectoryFile>),
}

impl StoredDirectories {
    /// With what is sealed, and no hot segments yet.
    pub(crate) fn new(store: SealedStore, sealed: SealedRanges) -> Self {
        Self { store, sealed, hot: Vec::new(), open: Vec::new() }
    }

    /// A newer hot segment is finished and its directory is written.
    pub(crate) fn add(&mut self, segment: u64) {
        self.hot.push(segment);
    }

    /// Finds the batch that begins exactly at `first_sequence`. `seals` tells what was sealed meanwhile.
    pub(crate) fn find(
        &mut self,
        device: &DeviceName,
        epoch: &Epoch,
        first_sequence: u64,
        seals: &Seals,
    ) -> Result<Option<BatchEntry>, LogError> {
        seals.take().iter().for_each(|manifest| self.sealed(manifest));
        loop {
            let found = self.find_here(device, epoch, first_sequence);
            // A segment that has just been sealed is gone: it is looked up where it went.
            let news = match &found {
                Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => seals.take(),
                Err(LogError::Absent { .. }) => seals.take(),
                _ => return found,
            };
            if news.is_empty() {
                return found;
            }
            news.iter().for_each(|manifest| self.sealed(manifest));
        }
    }

    /// Takes note of a seal.
    fn sealed(&mut self, manifest: &Manifest) {
        if let Some(last) = manifest.last_hot_source() {
            self.hot.retain(|segment| *segment > last);
        }
        self.sealed.sealed(manifest);
        let Self { sealed, hot, open, .. } = self;
        open.retain(|(place, _)| match place {
            Place::Sealed(id) => sealed.get(*id).is_some(),
            Place::Hot(segment) => hot.contains(segment),
        });
    }

    fn find_here(
        &mut self,
        device: &DeviceName,
        epoch: &Epoch,
        first_sequence: u64,
    ) -> Result<Option<BatchEntry>, LogError> {
        let batch = (device, epoch, first_sequence);
        let Candidates { segments, unread } = self.sealed.candidates(device, epoch, first_sequence);
        let mut absent = None;
        if let Some(entry) = self.find_among(&self.search_order(&segments), batch, &mut absent)? {
            return Ok(Some(entry));
        }
        for manifest in unread {
            let segments = self.sealed.read(&self.store, manifest, batch)?;
            let places: Vec<Place> = segments.into_iter().map(Place::Sealed).collect();
            if let Some(entry) = self.find_among(&places, batch, &mut absent)? {
                return Ok(Some(entry));
            }
        }
        absent.map_or(Ok(None), Err)
    }

    /// Looks through `places` in turn. Of those that are not there, `absent` keeps one.
    fn find_among(
        &mut self,
        places: &[Place],
        (device, epoch, first_sequence): (&DeviceName, &Epoch, u64),
        absent: &mut Option<LogError>,
    ) -> Result<Option<BatchEntry>, LogError> {
        for &place in places {
            let found = match self.directory(place) {
                Ok(Open::Sealed(segment)) => segment.find(device, epoch, first_sequence),
                Ok(Open::Hot(directory)) => match (directory.find(device, epoch, first_sequence), place) {
                    (Err(LogError::Damaged(damage)), Place::Hot(segment)) => {
                        tell_damaged(&damage.file);
                        self.rebuild(segment)?.find(device, epoch, first_sequence)
                    }
                    (found, _) => found,
                },
                Err(error @ LogError::Forgotten { .. }) => {
                    absent.get_or_insert(error);
                    continue;
                }
                // Once it is there again, it may tell.
                Err(error @ LogError::Absent { .. }) => {
                    *absent = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(entry) = found? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Where something was found last, and after that; then newest first. Who sends a file again asks for its batches
    /// in order.
    fn search_order(&self, sealed: &[SegmentId]) -> Vec<Place> {
        let sealed = sealed.iter().copied().map(Place::Sealed);
        let places: Vec<Place> = sealed.chain(self.hot.iter().copied().map(Place::Hot)).collect();
        let last = self.open.last().map(|(place, _)| *place);
        let near: Vec<Place> = places.iter().filter(|place| Some(**place) >= last).take(2).copied().collect();
        let rest = places.iter().rev().filter(|place| !near.contains(place));
        near.iter().chain(rest).copied().collect()
    }

    /// Opens the directory of a segment, building it again if need be, and marks it as the last used.
    fn directory(&mut self, place: Place) -> Result<Open, LogError> {
        if let Some(index) = self.open.iter().position(|(open, _)| *open == place) {
            let (_, open) = self.open.remove(index);
            return Ok(self.keep_open(place, open));
        }
        match place {
            Place::Sealed(id) => {
                let segment = self.sealed.get(id).expect("only what is listed is searched");
                let open = self.store.open_for_lookup(segment)?;
                Ok(self.keep_open(place, Open::Sealed(open)))
            }
            Place::Hot(segment) => {
                let SealedStore { disk, layout, .. } = &self.store;
                let header = segment::read_header(&**disk, layout, segment)?;
                match DirectoryFile::open(&**disk, layout, &header)? {
                    Some(directory) => Ok(self.keep_open(place, Open::Hot(Arc::new(directory)))),
                    None => Ok(Open::Hot(self.rebuild(segment)?)),
                }
            }
        }
    }

    fn rebuild(&mut self, segment: u64) -> Result<Arc<DirectoryFile>, LogError> {
        let SealedStore { disk, layout, .. } = &self.store;
        let header = segment::read_header(&**disk, layout, segment)?;
        let directory = Arc::new(rebuild_directory(&**disk, layout, &header)?);
        self.open.retain(|(place, _)| *place != Place::Hot(segment));
        self.keep_open(Place::Hot(segment), Open::Hot(Arc::clone(&directory)));
        Ok(directory)
    }

    fn keep_open(&mut self, place: Place, open: Open) -> Open {
        if self.open.len() == MAX_OPEN {
            self.open.remove(0);
        }
        self.open.push((place, open.clone()));
        open
    }
}

impl std::fmt::Debug for StoredDirectories {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredDirectories")
            .field("sealed", &self.sealed.len())
            .field("hot", &self.hot)
            .finish_non_exhaustive()
    }
}
