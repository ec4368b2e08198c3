//! Sealing: finished hot segments become sealed ones, one or more per retention class.
//!
//! A seal writes its children and syncs them, and then the manifest that names them: that is the commit point. Only then
//! the sources are removed. Whatever a crash leaves is told apart by the manifest: with it the children are the truth,
//! without it the sources; [`crate::HotLog::open`] removes the others. A seal that was cut short is begun again.

mod child_file;
mod regroup;
mod sweep;
mod tail;

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use icecore_wire::{DeviceName, Schema};

use self::regroup::{GivenUp, Made, Regroup};
use crate::committer::Progress;
use crate::disk::{Access, DiskLock};
use crate::error::{Damage, LogError};
use crate::manifest::{self, FactsSection, History, Manifest, SealSource};
use crate::mutants::{Mutant, planted};
use crate::reader::Segments;
use crate::sealed_store::{Elsewhere, SealedStore};
use crate::segment::{LogId, SegmentHeader};
use crate::segment_id::SegmentId;

pub(crate) use sweep::{Leftovers, finish_interrupted};
pub use tail::{forget_tail, keep_tail};

/// Names the retention class of a batch: by its schema, its device and its received time, in nanoseconds since the Unix
/// epoch.
pub type Classify<'a> = dyn Fn(&Schema, &DeviceName, i64) -> Arc<str> + 'a;

/// Is told of every piece of work, in bytes read or written, before the next one is begun. It may wait, so that others have
/// the disk, and may break off the seal.
pub type Pace<'a> = dyn FnMut(u64) -> ControlFlow<()> + 'a;

/// Seals the finished segments of an open log, beside its writer. Clones seal one after the other.
#[derive(Clone)]
pub struct Sealer {
    store: SealedStore,
    log: LogId,
    /// Names of damage that the operator has accepted: sources are sealed without it.
    accept_damage: Arc<[String]>,
    progress: Arc<Progress>,
    _lock: Arc<DiskLock>,
}

/// How to seal.
pub struct SealPlan<'a> {
    /// At most this many bytes of hot segments at once, but at least one segment.
    pub hot_bytes: u64,
    /// Names the class of each batch. What is of one class goes into the same segments.
    pub classify: &'a Classify<'a>,
    /// Throttles the work and may end it.
    pub pace: &'a mut Pace<'a>,
    /// The present, in nanoseconds since the Unix epoch, for the manifest.
    pub now: i64,
}

/// How a seal ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealing {
    /// It happened: this is its manifest.
    Done(Arc<Manifest>),
    /// There was nothing to seal.
    Nothing,
    /// It was broken off. Nothing has changed.
    BrokenOff,
}

/// A hot segment that could be sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedSegment {
    /// Its number.
    pub number: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// When it was begun, in nanoseconds since the Unix epoch.
    pub created: i64,
    /// When the next one was begun.
    pub finished: i64,
}

/// What the seals of a log share.
#[derive(Debug, Default)]
pub(crate) struct Seals {
    state: Mutex<SealState>,
    /// Manifests that lookups have not heard of yet.
    news: Mutex<Vec<Arc<Manifest>>>,
}

#[derive(Debug, Default)]
struct SealState {
    history: History,
    /// Nobody knows whether the last manifest is durable.
    poisoned: bool,
}

impl Seals {
    /// The log is open, and this is what was sealed of it.
    pub(crate) fn begin(&self, history: History) {
        self.state().history = history;
    }

    /// The manifests written since this was called last.
    pub(crate) fn take(&self) -> Vec<Arc<Manifest>> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn state(&self) -> MutexGuard<'_, SealState> {
        // Whatever panicked changed nothing here: it is changed after the last thing that can fail.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sealer {
    pub(crate) fn new(
        store: SealedStore,
        log: LogId,
        accept_damage: Vec<String>,
        progress: Arc<Progress>,
        lock: Arc<DiskLock>,
    ) -> Self {
        Self { store, log, accept_damage: accept_damage.into(), progress, _lock: lock }
    }

    /// The same, but segments that have no local file are read where `elsewhere` says, to be [split](Sealer::split).
    #[must_use]
    pub fn with_elsewhere(self, elsewhere: Arc<Elsewhere>) -> Self {
        Self { store: self.store.with_elsewhere(elsewhere), ..self }
    }

    /// The manifests from number `from` on that can be read, oldest first. Waits for the seal that is under way.
    #[must_use]
    pub fn manifests(&self, from: u64) -> Vec<Arc<Manifest>> {
        let state = self.progress.seals.state();
        let manifests = &state.history.manifests;
        manifests[manifests.partition_point(|manifest| manifest.number < from)..].to_vec()
    }

    /// Whether the operator has accepted this damage.
    fn accepts(&self, damage: &Damage) -> bool {
        self.accept_damage.iter().any(|name| damage.is_named(name))
    }

    /// The hot segments that could be sealed now, oldest first.
    ///
    /// # Errors
    /// When the log's files cannot be listed or their headers not be read.
    pub fn finished(&self) -> Result<Vec<FinishedSegment>, LogError> {
        let pairs = self.finished_headers()?;
        pairs.iter().map(|(header, next)| self.finished_segment(header, next)).collect()
    }

    /// Seals the oldest finished segments, as many as the plan allows.
    ///
    /// # Errors
    /// When something cannot be read or written: then nothing has changed, and the seal may be tried again; except that
    /// after a manifest's sync has failed it is not known whether the seal happened, and every later one is refused with
    /// [`LogError::SealsPoisoned`] until the log is opened again. Damage in a source is an error, too, unless the log was
    /// opened with it accepted: then the manifest keeps what was lost.
    pub fn seal(&self, plan: SealPlan<'_>) -> Result<Sealing, LogError> {
        let mut state = self.progress.seals.state();
        if state.poisoned {
            return Err(LogError::SealsPoisoned);
        }
        let mut pairs = Vec::new();
        let mut bytes = 0;
        for (header, next) in self.finished_headers()? {
            bytes += self.finished_segment(&header, &next)?.bytes;
            if !pairs.is_empty() && bytes > plan.hot_bytes {
                break;
            }
            pairs.push((header, next));
        }
        let Some((newest, last)) = pairs.last() else { return Ok(Sealing::Nothing) };
        let mut outline = self.outline(&state.history, plan.now);
        outline.term = newest.term;
        outline.blocks.end = last.first_block;
        outline.positions.end = last.first_position;
        outline.chain = last.chain;
        let missing = pairs[0].0.missing_before(&self.store.layout, state.history.end().as_ref());
        self.make(&mut state, outline, plan, |regroup| {
            missing.map_or(Ok(()), |damage| regroup.lose(damage))?;
            pairs.iter().map(|(header, next)| regroup.hot_segment(header, next)).collect()
        })
    }

    /// Seals a sealed segment again, into others: after a change of policy its batches may be of several classes.
    ///
    /// # Errors
    /// As [`Sealer::seal`]; [`LogError::Absent`] if the segment is nowhere or was split before.
    pub fn split(&self, id: SegmentId, plan: SealPlan<'_>) -> Result<Sealing, LogError> {
        let mut state = self.progress.seals.state();
        if state.poisoned {
            return Err(LogError::SealsPoisoned);
        }
        let segment = state.history.find(id)?;
        let outline = self.outline(&state.history, plan.now);
        self.make(&mut state, outline, plan, |regroup| Ok(vec![regroup.sealed_segment(&segment)?]))
    }

    /// A manifest that follows the last one and says nothing yet.
    fn outline(&self, history: &History, now: i64) -> Manifest {
        let end = history.end();
        let (block, position) = end.map_or((0, 0), |end| (end.block, end.position));
        Manifest {
            log: self.log,
            number: history.next_number,
            term: end.map_or(0, |end| end.term),
            created: now,
            blocks: block..block,
            positions: position..position,
            received: end.map_or(i64::MIN, |end| end.received),
            chain: end.map_or([0; 32], |end| end.chain),
            previous: history.manifests.last().map_or([0; 32], |last| last.hash()),
            sources: Vec::new(),
            children: Vec::new(),
            lost: Vec::new(),
            facts: FactsSection::default(),
        }
    }

    /// Makes what `outline` says of what `feed` reads, and lets go of the sources.
    fn make(
        &self,
        state: &mut SealState,
        outline: Manifest,
        plan: SealPlan<'_>,
        feed: impl FnOnce(&mut Regroup<'_, '_>) -> Result<Vec<SealSource>, GivenUp>,
    ) -> Result<Sealing, LogError> {
        let SealedStore { disk, layout, .. } = &self.store;
        let SealPlan { classify, pace, .. } = plan;
        sweep::remove_children(&**disk, layout, outline.number)?;
        let mut regroup = Regroup::new(self, &outline, classify, pace);
        let made = feed(&mut regroup).and_then(|sources| Ok((sources, regroup.finish()?)));
        let (sources, made) = match made {
            Ok(made) => made,
            Err(given_up) => {
                // What remains is removed before the next seal at the latest.
                let _ = sweep::remove_children(&**disk, layout, outline.number);
                return match given_up {
                    GivenUp::BrokenOff => Ok(Sealing::BrokenOff),
                    GivenUp::Failed(error) => Err(error),
                };
            }
        };
        let received = outline.received.max(made.received);
        let Made { children, lost, facts, .. } = made;
        let mut manifest = Manifest { sources, children, lost, received, ..outline };
        self.publish(state, &mut manifest, &facts)?;
        let manifest = Arc::new(manifest);
        state.history.push(Arc::clone(&manifest));
        self.progress.seals.news.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&manifest));
        if let Err(error) = sweep::remove_sources(&**disk, layout, &manifest) {
            tracing::warn!(%error, "cannot remove what was sealed; that is tried again when the log is opened");
        }
        Ok(Sealing::Done(manifest))
    }

    fn publish(&self, state: &mut SealState, manifest: &mut Manifest, facts: &[u8]) -> Result<(), LogError> {
        let SealedStore { disk, layout, .. } = &self.store;
        let path = layout.manifest(manifest.number);
        let bytes = manifest.encode(facts).map_err(LogError::io("pack", &path))?;
        if !planted(Mutant::ChildrenNotNamed) {
            disk.sync_dir(&layout.sealed).map_err(LogError::io("sync", &layout.sealed))?;
        }
        manifest::publish(&**disk, layout, manifest.number, &bytes).inspect_err(|_| {
            // Without its name it is nothing; with it, it may count or not after a power failure.
            let nameless =
                matches!(disk.open(&path, Access::Read), Err(e) if e.kind() == io::ErrorKind::NotFound);
            state.poisoned = !nameless;
        })
    }

    /// The headers of finished segments, each with the one of the next.
    fn finished_headers(&self) -> Result<Vec<(SegmentHeader, SegmentHeader)>, LogError> {
        let SealedStore { disk, layout, .. } = &self.store;
        // Whoever still writes a segment's directory would write it beside nothing.
        let written = self.progress.written_directories.load(Ordering::Acquire);
        let segments = Segments::read(&**disk, layout)?;
        if let Some(damage) = segments.damage().find(|damage| !self.accepts(damage)) {
            return Err(damage.clone().into());
        }
        let pairs = segments.headers.windows(2).filter(|pair| pair[0].number < written);
        Ok(pairs.map(|pair| (pair[0].clone(), pair[1].clone())).collect())
    }

    fn finished_segment(
        &self,
        header: &SegmentHeader,
        next: &SegmentHeader,
    ) -> Result<FinishedSegment, LogError> {
        let path = self.store.layout.segment(header.number);
        let file = self.store.disk.open(&path, Access::Read).map_err(LogError::io("open", &path))?;
        let bytes = file.len().map_err(LogError::io("read the length of", &path))?;
        Ok(FinishedSegment { number: header.number, bytes, created: header.created, finished: next.created })
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("store", &self.store).finish_non_exhaustive()
    }
}

impl fmt::Debug for SealPlan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealPlan")
            .field("hot_bytes", &self.hot_bytes)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}
