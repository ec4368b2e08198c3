//! The tails of segments that are not here: what is needed to tell a batch that comes again from another one.

use anyhow::Context;
use icecore_log::{RealDisk, SegmentId, forget_tail, keep_tail};
use icecore_tier::catalog::{Catalog, End, Entry};
use icecore_tier::store::{Listed, Waiting};

use crate::config::Config;
use crate::stores::{self, Stores};

/// Takes them from the stores where the data directory does not have them; of what was deleted there is nothing to take, and that is put on
/// record.
///
/// # Errors
/// When a store does not answer, or the disk refuses; those that were taken are kept.
pub(super) fn take(
    catalog: &Catalog,
    config: &Config,
    stores: &Stores,
    waiting: &Waiting,
) -> anyhow::Result<()> {
    let data = &config.data.dir;
    let has = |id: SegmentId| id.file(data).exists() || id.file(data).with_extension("tail").exists();
    let view = catalog.view()?;
    for entry in view.segments()? {
        let entry = entry?;
        let id = entry.segment.id;
        if !has(id) {
            take_one(&entry, config, stores, waiting).with_context(|| {
                format!("the catalog is there, but not the tail of segment {id}, without which its batches are not known again; rebuild once more")
            })?;
        }
    }
    for gone in view.gone()? {
        let gone = gone?;
        if matches!(gone.end, End::Deleted { .. }) && !has(gone.id) {
            forget_tail(&RealDisk, data, gone.id)?;
        }
    }
    Ok(())
}

fn take_one(entry: &Entry, config: &Config, stores: &Stores, waiting: &Waiting) -> anyhow::Result<()> {
    let id = entry.segment.id;
    let copies = entry.segment.copies.iter().rev();
    let Some((copy, store)) = copies.filter_map(|copy| Some((copy, stores.get(&copy.store)?))).next() else {
        // It is missing, which was told.
        return Ok(());
    };
    let object = Listed { path: copy.object(id), bytes: entry.segment.bytes };
    let segment = stores::open_segment(store, waiting, &object)?;
    Ok(keep_tail(&RealDisk, &config.data.dir, id, &segment)?)
}
