//! The stores of the configuration, opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use icecore_log::sealed::SealedSegment;
use icecore_log::{LogError, SegmentId};
use icecore_tier::journal::{Bucket, StoreBucket};
use icecore_tier::segment::parse_object;
use icecore_tier::store::{Listed, Place, Store, Waiting};

use crate::config::Config;

/// Where manifests are, in a store and in a data directory.
const MANIFESTS: &str = "manifests";

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

/// The store at a URL that no configuration names.
///
/// # Errors
/// When the URL or an option is not understood.
pub(crate) fn at(url: &str, options: &[(String, String)]) -> anyhow::Result<Store> {
    let options = options.iter().cloned().collect();
    Ok(Store::new(url, Place::open(url, url, &options)?, 0))
}

/// Copies the manifests of a store into the data directory `data`, which may be new; those that are there stay. Returns the
/// numbers of those in the store.
///
/// # Errors
/// When the store or the disk refuses.
pub(crate) fn fetch_manifests(
    store: &Store,
    waiting: &Waiting,
    data: &Path,
) -> anyhow::Result<BTreeSet<u64>> {
    let mut objects = Vec::new();
    waiting.wait(store.list(MANIFESTS, |object| objects.push(object.path)))?;
    let directory = data.join(MANIFESTS);
    let failed = |file: &Path| format!("cannot write {}", file.display());
    fs::create_dir_all(&directory).with_context(|| failed(&directory))?;
    let mut numbers = BTreeSet::new();
    for object in objects {
        let number = object.strip_prefix("manifests/").and_then(|name| name.strip_suffix(".manifest"));
        let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) else { continue };
        numbers.insert(number);
        let file = directory.join(format!("{number:012}.manifest"));
        if !file.exists() {
            let content = waiting.wait(store.get(&object))?;
            write_durably(&file, &content).with_context(|| failed(&file))?;
        }
    }
    File::open(&directory).and_then(|directory| directory.sync_all()).with_context(|| failed(&directory))?;
    Ok(numbers)
}

fn write_durably(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(file)?;
    file.write_all(content)?;
    file.sync_all()
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
