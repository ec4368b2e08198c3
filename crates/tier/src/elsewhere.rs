//! Where sealed segments are read that have no local file: in the store of their newest copy, by what a catalog says, or in a bucket
//! by what the bucket itself says.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use icecore_log::sealed::ReadAt;

use crate::catalog::{CatalogError, Decision, End, View, What};
use crate::journal::{Audit, JournalError, StoreBucket};
use crate::segment::{Content, SegmentId, parse_object};
use crate::snapshot::{self, KeptSnapshot};
use crate::store::{Listed, Store, Waiting};

/// Gives the catalog as it is at that moment.
type ViewNow = dyn Fn() -> Result<View, CatalogError> + Send + Sync;

/// Finds segments, for as long as a reader reads.
pub struct Elsewhere {
    known: Known,
    waiting: Waiting,
}

/// Who knows.
enum Known {
    /// A catalog, at every moment anew.
    Catalog { view: Box<ViewNow>, stores: BTreeMap<String, Store> },
    /// A bucket, as it was when it was listed.
    Bucket {
        store: Store,
        objects: BTreeMap<SegmentId, Listed>,
        snapshots: BTreeMap<u64, Listed>,
        journal: Told,
    },
}

/// What a journal says of segments.
#[derive(Debug, Default)]
struct Told {
    copied: BTreeSet<SegmentId>,
    /// With the policy that wanted it.
    deleted: BTreeMap<SegmentId, Option<String>>,
}

/// A snapshot of the state that is kept in a store: a file to read from.
pub struct StoredSnapshot {
    /// The number of the block with which the log goes on behind it.
    pub block: u64,
    /// What errors call it: the store, and the object.
    pub name: PathBuf,
    /// Its bytes; pages are requested when they are read.
    pub file: Arc<dyn ReadAt>,
}

/// A segment that was deleted by policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// The policy, if that is known.
    pub policy: Option<String>,
    /// What was in it, if that is known.
    pub contents: Option<Vec<Content>>,
}

impl Elsewhere {
    /// What the catalog, as `view` gives it, knows of, in `stores`. Requests and their cache are those of `waiting`, which has to
    /// be what these stores are used with.
    #[must_use]
    pub fn new(
        view: impl Fn() -> Result<View, CatalogError> + Send + Sync + 'static,
        stores: impl IntoIterator<Item = Store>,
        waiting: Waiting,
    ) -> Self {
        let stores = stores.into_iter().map(|store| (store.name().to_owned(), store)).collect();
        Self { known: Known::Catalog { view: Box::new(view), stores }, waiting }
    }

    /// What is in `store`, without a catalog: by its listing, and its journal if it is there. Also returns what is wrong with the
    /// journal: a deletion that cannot be read there looks like a loss.
    ///
    /// # Errors
    /// When the store does not answer.
    pub fn in_bucket(store: Store, waiting: Waiting) -> Result<(Self, Vec<String>), JournalError> {
        let mut objects: BTreeMap<SegmentId, Listed> = BTreeMap::new();
        let listed = waiting.wait(store.list("segments", |object| {
            if let Some((id, _class)) = parse_object(&object.path) {
                objects.insert(id, object);
            }
        }));
        listed.map_err(|error| JournalError::bucket("segments/")(error.into()))?;
        let mut snapshots = BTreeMap::new();
        let listed = waiting.wait(store.list(snapshot::SHELF, |object| {
            if let Some(block) = snapshot::parse_object(&object.path) {
                snapshots.insert(block, object);
            }
        }));
        listed.map_err(|error| JournalError::bucket("snapshots/")(error.into()))?;
        let audit = Audit::read(&StoreBucket::new(store.clone(), waiting.clone()))?;
        let journal = Told::by(&audit.decisions);
        Ok((Self { known: Known::Bucket { store, objects, snapshots, journal }, waiting }, audit.faults))
    }

    /// The same for a reader of the log.
    #[must_use]
    pub fn resolver(self: &Arc<Self>) -> Arc<icecore_log::Elsewhere> {
        let elsewhere = Arc::clone(self);
        Arc::new(move |segment| elsewhere.open(segment))
    }

    /// The newest verified copy of a segment in a store that is configured; `None` if there is no copy, as far as is known. Nothing is
    /// requested yet.
    ///
    /// # Errors
    /// When the catalog cannot be read, or no store with a copy is configured.
    pub fn open(&self, segment: SegmentId) -> io::Result<Option<Arc<dyn ReadAt>>> {
        let (view, stores) = match &self.known {
            Known::Catalog { view, stores } => (view, stores),
            Known::Bucket { store, objects, journal, .. } => {
                let object = objects.get(&segment).filter(|_| !journal.deleted.contains_key(&segment));
                // Without a cache it does not matter what names the content.
                let open = |object: &Listed| {
                    Arc::new(self.waiting.open(store, &object.path, [0; 32], object.bytes)) as Arc<dyn ReadAt>
                };
                return Ok(object.map(open));
            }
        };
        let entry = view().and_then(|view| view.segment(segment)).map_err(io::Error::other)?;
        let Some(segment) = entry.map(|entry| entry.segment) else { return Ok(None) };
        let Some(newest) = segment.copies.last() else { return Ok(None) };
        let found = segment.copies.iter().rev().find_map(|copy| Some((copy, stores.get(&copy.store)?)));
        let (copy, store) = found.ok_or_else(|| {
            let name = &newest.store;
            io::Error::other(format!("it is in store `{name}`, which is not configured; add [store.{name}]"))
        })?;
        let file = self.waiting.open(store, &copy.object(segment.id), segment.root, segment.bytes);
        Ok(Some(Arc::new(file)))
    }

    /// The snapshots that are kept in stores that are configured, newest first. Nothing is requested yet.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub fn snapshots(&self) -> Result<Vec<StoredSnapshot>, CatalogError> {
        let mut all: Vec<StoredSnapshot> = match &self.known {
            Known::Catalog { view, stores } => {
                let kept = view()?.snapshots()?.into_iter();
                let open = |kept: KeptSnapshot| {
                    let store = stores.get(kept.store.as_ref()?)?;
                    Some(self.stored_object(store, kept.block, &kept.object(), kept.hash, kept.bytes))
                };
                kept.filter_map(open).collect()
            }
            Known::Bucket { store, snapshots, .. } => {
                // Without a cache it does not matter what names the content.
                let open = |(block, object): (&u64, &Listed)| {
                    self.stored_object(store, *block, &object.path, [0; 32], object.bytes)
                };
                snapshots.iter().map(open).collect()
            }
        };
        all.reverse();
        Ok(all)
    }

    fn stored_object(
        &self,
        store: &Store,
        block: u64,
        object: &str,
        hash: [u8; 32],
        bytes: u64,
    ) -> StoredSnapshot {
        let name = PathBuf::from(format!("store `{}`: {object}", store.name()));
        StoredSnapshot { block, name, file: Arc::new(self.waiting.open(store, object, hash, bytes)) }
    }

    /// What is known of a segment that was deleted by policy; `None` if it was not.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub fn deleted(&self, segment: SegmentId) -> Result<Option<Deleted>, CatalogError> {
        let view = match &self.known {
            Known::Catalog { view, .. } => view()?,
            Known::Bucket { journal, .. } => {
                let policy = journal.deleted.get(&segment);
                return Ok(policy.map(|policy| Deleted { policy: policy.clone(), contents: None }));
            }
        };
        let Some(gone) = view.tombstone(segment)? else { return Ok(None) };
        let End::Deleted { mark, .. } = gone.end else { return Ok(None) };
        let contents = Some(view.contents(segment)?);
        Ok(Some(Deleted { policy: mark.map(|mark| mark.policy), contents }))
    }

    /// The names of the stores that have a copy of a segment, as far as is known; the newest last.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub fn stores_of(&self, segment: SegmentId) -> Result<Vec<String>, CatalogError> {
        match &self.known {
            Known::Catalog { view, .. } => {
                let copies = view()?.segment(segment)?.map(|entry| entry.segment.copies).unwrap_or_default();
                Ok(copies.into_iter().map(|copy| copy.store).collect())
            }
            Known::Bucket { store, objects, journal, .. } => {
                let is_there = objects.contains_key(&segment) && !journal.deleted.contains_key(&segment);
                Ok(is_there.then(|| store.name().to_owned()).into_iter().collect())
            }
        }
    }

    /// Whether a segment that is not to be found was never said to be in the bucket: then it is nothing that was lost.
    #[must_use]
    pub fn never_came(&self, segment: SegmentId) -> bool {
        match &self.known {
            Known::Catalog { .. } => false,
            Known::Bucket { journal, .. } => !journal.copied.contains(&segment),
        }
    }
}

impl Told {
    fn by(decisions: &[Decision]) -> Self {
        let void = |decision: &Decision| match decision.what {
            What::Void { decision, .. } => Some(decision),
            _ => None,
        };
        let voided: BTreeSet<u64> = decisions.iter().filter_map(void).collect();
        let mut told = Self::default();
        for decision in decisions.iter().filter(|decision| !voided.contains(&decision.number)) {
            match &decision.what {
                What::Copied { segment, .. } => _ = told.copied.insert(*segment),
                What::Deleted { segment } => {
                    told.deleted.insert(*segment, decision.policy.clone());
                }
                _ => {}
            }
        }
        told
    }
}

impl std::fmt::Debug for StoredSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredSnapshot")
            .field("block", &self.block)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut f = f.debug_struct("Elsewhere");
        match &self.known {
            Known::Catalog { stores, .. } => f.field("stores", stores),
            Known::Bucket { store, .. } => f.field("store", store),
        }
        .finish_non_exhaustive()
    }
}
