//! The stores of the configuration, opened.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use icecore_log::sealed::SealedSegment;
use icecore_log::{LogError, SegmentId};
use icecore_tier::journal::{Bucket, StoreBucket};
use icecore_tier::segment::parse_object;
use icecore_tier::store::{Listed, Place, Store, Waiting};

use crate::config::Config;

/// Stores by name.
pub(crate) type Stores = BTreeMap<String, Store>;

/// Opens every store; nothing is requested of them yet.
///
/// # Errors
/// When a URL or an option is not understood.
pub(crate) fn open(config: &Config) -> anyhow::Result<Stores> {
    let open = |(name, store): (&String, &crate::config::Store)| {
        let place = Place::open(name, &store.url, &store.options)?;
        Ok((name.clone(), Store::new(name, place, store.bandwidth.as_u64())))
    };
    config.store.iter().map(open).collect()
}

/// What waits for their answers: not for use from tasks.
///
/// # Errors
/// When the system has no room for it.
pub(crate) fn waiting() -> anyhow::Result<Waiting> {
    Waiting::new(None).context("cannot make requests")
}

/// The bucket of the journal; `None` where there are no stores. `waiting` has to be that with which the stores are used.
pub(crate) fn journal(config: &Config, stores: &Stores, waiting: &Waiting) -> Option<Arc<dyn Bucket>> {
    let store = stores.get(config.journal()?)?;
    Some(Arc::new(StoreBucket::new(store.clone(), waiting.clone())))
}

/// The objects of sealed segments in a store, and their sizes.
///
/// # Errors
/// When the store does not answer.
pub(crate) fn segments(store: &Store, waiting: &Waiting) -> anyhow::Result<Vec<(SegmentId, Listed)>> {
    let mut segments = Vec::new();
    waiting.wait(store.list("segments", |object| {
        if let Some((id, _class)) = parse_object(&object.path) {
            segments.push((id, object));
        }
    }))?;
    segments.sort_by(|a, b| (a.0, &a.1.path).cmp(&(b.0, &b.1.path)));
    Ok(segments)
}

/// Opens the object of a sealed segment.
///
/// # Errors
/// When the store does not answer, or the object is no whole segment.
pub(crate) fn open_segment(
    store: &Store,
    waiting: &Waiting,
    object: &Listed,
) -> Result<SealedSegment, LogError> {
    // Without a cache it does not matter what names the content.
    let file = waiting.open(store, &object.path, [0; 32], object.bytes);
    SealedSegment::open(Arc::new(file), PathBuf::from(&object.path))
}
