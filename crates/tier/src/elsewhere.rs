//! Where sealed segments are read that have no local file: in the store of their newest copy.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use icecore_log::sealed::ReadAt;

use crate::catalog::{CatalogError, End, Gone, View};
use crate::segment::{Content, SegmentId};
use crate::store::{Store, Waiting};

/// Gives the catalog as it is at that moment.
type ViewNow = dyn Fn() -> Result<View, CatalogError> + Send + Sync;

/// Finds segments by what the catalog says at that moment, so that it may be used for as long as a reader reads.
pub struct Elsewhere {
    view: Box<ViewNow>,
    stores: BTreeMap<String, Store>,
    waiting: Waiting,
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
        Self { view: Box::new(view), stores, waiting }
    }

    /// The same for a reader of the log.
    #[must_use]
    pub fn resolver(self: &Arc<Self>) -> Arc<icecore_log::Elsewhere> {
        let elsewhere = Arc::clone(self);
        Arc::new(move |segment| elsewhere.open(segment))
    }

    /// The newest verified copy of a segment in a store that is configured; `None` if there is no copy, as far as the catalog
    /// knows. Nothing is requested yet.
    ///
    /// # Errors
    /// When the catalog cannot be read, or no store with a copy is configured.
    pub fn open(&self, segment: SegmentId) -> io::Result<Option<Arc<dyn ReadAt>>> {
        let entry = (self.view)().and_then(|view| view.segment(segment)).map_err(io::Error::other)?;
        let Some(segment) = entry.map(|entry| entry.segment) else { return Ok(None) };
        let Some(newest) = segment.copies.last() else { return Ok(None) };
        let found = segment.copies.iter().rev().find_map(|copy| Some((copy, self.stores.get(&copy.store)?)));
        let (copy, store) = found.ok_or_else(|| {
            let name = &newest.store;
            io::Error::other(format!("it is in store `{name}`, which is not configured; add [store.{name}]"))
        })?;
        let file = self.waiting.open(store, &copy.object(segment.id), segment.root, segment.bytes);
        Ok(Some(Arc::new(file)))
    }

    /// What remains of a segment that was deleted by policy, and what was in it; `None` if it was not.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub fn deleted(&self, segment: SegmentId) -> Result<Option<(Gone, Vec<Content>)>, CatalogError> {
        let view = (self.view)()?;
        match view.tombstone(segment)? {
            Some(gone) if matches!(gone.end, End::Deleted { .. }) => {
                Ok(Some((gone, view.contents(segment)?)))
            }
            _ => Ok(None),
        }
    }
}

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elsewhere").field("stores", &self.stores).finish_non_exhaustive()
    }
}
