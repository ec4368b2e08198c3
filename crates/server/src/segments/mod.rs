//! `icecore segments`: the sealed segments, what is in them, and whether they are whole.
//!
//! All of it works with or without a running server.

mod bucket;
mod explain;
mod inspect;
mod list;
mod undelete;
mod verify;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use icecore_log::disk::{Access, Disk};
use icecore_log::sealed::SealedSegment;
use icecore_log::{Child, LogError, LogReader, RealDisk, SegmentId};
use icecore_tier::catalog::Entry;
use icecore_tier::store::{Listed, Store};

use crate::cli::{SegmentsCommand, VerifyArgs};
use crate::config::Config;
use crate::{stores, tiers};

/// Runs one of the commands.
pub(crate) fn run(command: &SegmentsCommand, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        SegmentsCommand::List => list::run(config, out),
        SegmentsCommand::Inspect { id } => inspect::run(*id, config, out),
        SegmentsCommand::Explain { id } => explain::run(*id, config, out),
        SegmentsCommand::Undelete(args) => undelete::run(args, config, out),
        SegmentsCommand::Verify(args) => verify::run(args, config, out),
    }
}

/// Verifies what is in a store, with nothing else at hand.
pub(crate) fn verify_store(args: &VerifyArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let url = args.store.as_deref().unwrap_or_default();
    bucket::verify(&Store::of_url(url, &args.store_options)?, args, out)
}

/// What is known of a segment: by the catalog, and by its manifest.
#[derive(Default)]
struct Known {
    /// `None` where the catalog has not heard of it, or it is gone.
    entry: Option<Entry>,
    /// `None` where it was split or its manifest cannot be read.
    child: Option<Child>,
}

/// Every segment that a manifest knows and that was not split.
fn manifested(reader: &LogReader) -> BTreeMap<SegmentId, Known> {
    reader.sealed().map(|(id, child)| (id, Known { entry: None, child: Some(child.clone()) })).collect()
}

/// Every segment that the catalog or a manifest knows as live. Manifests are ahead of the catalog, which follows them.
fn all(config: &Config) -> anyhow::Result<BTreeMap<SegmentId, Known>> {
    let mut all = manifested(&LogReader::open(Arc::new(RealDisk), &config.data.dir)?);
    let Some(view) = tiers::catalog(config)? else { return Ok(all) };
    for entry in view.segments()? {
        let entry = entry?;
        let id = entry.segment.id;
        all.entry(id).or_default().entry = Some(entry);
    }
    for gone in view.gone()? {
        all.remove(&gone?.id);
    }
    Ok(all)
}

/// The local file of a segment; `None` if there is none.
pub(crate) fn open_local(id: SegmentId, data: &Path) -> Result<Option<SealedSegment>, LogError> {
    let path = id.file(data);
    match RealDisk.open(&path, Access::Read) {
        Ok(file) => SealedSegment::open(Arc::new(file), path).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LogError::Io { what: "open", file: path, source }),
    }
}

/// A segment from wherever it is; `None` where no store of the configuration has it either.
fn open(id: SegmentId, known: Option<&Known>, config: &Config) -> anyhow::Result<Option<SealedSegment>> {
    if let Some(segment) = open_local(id, &config.data.dir)? {
        return Ok(Some(segment));
    }
    let Some(entry) = known.and_then(|known| known.entry.as_ref()) else { return Ok(None) };
    let (stores, waiting) = (stores::open(config)?, stores::waiting()?);
    for copy in entry.segment.copies.iter().rev() {
        if let Some(store) = stores.get(&copy.store) {
            let object = Listed { path: copy.object(id), bytes: entry.segment.bytes };
            return Ok(Some(stores::open_segment(store, &waiting, &object)?));
        }
    }
    Ok(None)
}

/// A root as people write it.
pub(crate) fn hex(root: [u8; 32]) -> String {
    blake3::Hash::from_bytes(root).to_hex().to_string()
}
