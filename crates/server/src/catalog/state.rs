//! What a start goes on from after a rebuild: a snapshot of the state that fits what is left of the log.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use icecore_log::{LogReader, LostEvents, RealDisk};
use icecore_state::snapshot::{Snapshot, SnapshotHead, Snapshots};
use icecore_tier::catalog::View;
use icecore_tier::snapshot::{self, KeptSnapshot, parse_object};
use icecore_tier::store::{Store, Waiting};

use crate::stores::Stores;
use crate::table::counted;

/// Sees to it that the next start knows what was settled, and folds as little as may be. A snapshot does not serve if the log ends
/// before it; nor, if there is an older one, if events in it are lost: devices send them again, and then they would count twice.
///
/// # Errors
/// When a store does not answer, or the disk refuses.
pub(super) fn restore(
    view: &View,
    data: &Path,
    (stores, waiting): (&Stores, &Waiting),
    reader: &LogReader,
    lost: &LostEvents,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let until = lost.from.unwrap_or(u64::MAX);
    let serves =
        |block, position| block <= reader.next_block() && position <= reader.positions().end.min(until);
    let local = Snapshots::new(Arc::new(RealDisk), data);
    let (here, _) = local.list()?;
    let here =
        here.iter().filter(|snapshot| serves(snapshot.head().point.block, snapshot.head().point.position));
    let here = here
        .filter(|snapshot| snapshot.verify().is_ok())
        .map(|snapshot| snapshot.head().point.position)
        .max();
    let mut kept = view.snapshots()?;
    kept.retain(|kept| serves(kept.block, kept.position) && Some(kept.position) > here);
    let fetched = fetch_newest(&kept, data, stores, waiting, out)?;
    if lost.from.is_none() {
        return Ok(());
    }
    let LostEvents { events, unknown, .. } = lost;
    writeln!(out, "{} of missing segments are asked for again", counted(*events, "event"))?;
    if *unknown > 0 {
        writeln!(
            out,
            "what was in {} cannot be told, and is not asked for again",
            counted(*unknown, "missing segment")
        )?;
    }
    if fetched || here.is_some() || view.deleted_to()? == 0 {
        local.set_aside(&|head| head.point.position > until)?;
        return Ok(());
    }
    writeln!(out, "no snapshot is from before the loss: what is sent again counts twice in statistics")?;
    Ok(())
}

/// The snapshots in a store, by their blocks, with their bytes.
pub(super) fn listed(store: &Store, waiting: &Waiting) -> anyhow::Result<BTreeMap<u64, u64>> {
    let mut objects = BTreeMap::new();
    waiting.wait(store.list("snapshots", |object| {
        objects.extend(parse_object(&object.path).map(|block| (block, object.bytes)));
    }))?;
    Ok(objects)
}

/// The snapshots that are kept in the data directory; damaged ones are none.
pub(super) fn kept_here(data: &Path) -> anyhow::Result<Vec<KeptSnapshot>> {
    let directory = snapshot::directory(data);
    let (all, _) = Snapshots::new(Arc::new(RealDisk), data).list()?;
    let mut kept = Vec::new();
    for snapshot in all.iter().filter(|snapshot| snapshot.path().starts_with(&directory)) {
        if snapshot.verify().is_err() {
            continue;
        }
        let mut hasher = blake3::Hasher::new();
        let failed = || format!("cannot read {}", snapshot.path().display());
        File::open(snapshot.path())
            .and_then(|file| hasher.update_reader(file).map(drop))
            .with_context(failed)?;
        let SnapshotHead { point, received, devices, .. } = snapshot.head().clone();
        let (block, position, bytes) = (point.block, point.position, snapshot.bytes());
        let hash = *hasher.finalize().as_bytes();
        kept.push(KeptSnapshot { block, position, received, devices, bytes, hash, store: None });
    }
    Ok(kept)
}

/// Fetches the newest of these that is good; tells whether there was one.
fn fetch_newest(
    kept: &[KeptSnapshot],
    data: &Path,
    stores: &Stores,
    waiting: &Waiting,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    for snapshot in kept.iter().rev() {
        let Some(store) = snapshot.store.as_ref().and_then(|name| stores.get(name)) else { continue };
        match fetch(snapshot, data, store, waiting)? {
            Ok(()) => {
                let devices = counted(snapshot.devices, "device");
                writeln!(out, "the state of {devices} is there, as of position {}", snapshot.position)?;
                return Ok(true);
            }
            Err(damage) => writeln!(out, "damaged, and not used: store `{}`: {damage}", store.name())?,
        }
    }
    Ok(false)
}

/// Fetches a snapshot; says what is wrong with it if it is not what was put there.
fn fetch(
    snapshot: &KeptSnapshot,
    data: &Path,
    store: &Store,
    waiting: &Waiting,
) -> anyhow::Result<Result<(), String>> {
    let object = snapshot.object();
    let file = data.join(&object);
    let unfinished = file.with_added_extension("tmp");
    let failed = || format!("cannot write {}", file.display());
    let directory = file.parent().unwrap_or(data);
    fs::create_dir_all(directory).with_context(failed)?;
    let found = match waiting.wait(store.download(&object, &unfinished)) {
        Err(error) if error.is_missing() => return Ok(Err(error.to_string())),
        found => found?,
    };
    let whole = Snapshot::open(&RealDisk, &unfinished).and_then(|open| open.verify());
    if (found.hash, found.bytes) != (snapshot.hash, snapshot.bytes) || whole.is_err() {
        fs::remove_file(&unfinished).with_context(failed)?;
        let what = whole.err().map_or("it is not what was put there".to_owned(), |error| error.to_string());
        return Ok(Err(format!("{object}: {what}")));
    }
    File::open(&unfinished).and_then(|file| file.sync_all()).with_context(failed)?;
    fs::rename(&unfinished, &file).with_context(failed)?;
    File::open(directory).and_then(|directory| directory.sync_all()).with_context(failed)?;
    Ok(Ok(()))
}
