//! What the acks of devices, the catalog, the store and the data directory say of each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use icecore_device::DeviceName;
use icecore_load::promises::{Acked, Contents};
use icecore_log::{LogReader, RealDisk};
use icecore_replay::{Query, Replay};
use icecore_tier::catalog::{Catalog, Deletions, End, View};
use icecore_tier::elsewhere::Elsewhere;

use crate::cold::{Bucket, Cold};
use crate::harness::{Site, assert_success, output};

/// More than what is left to be done takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The catalog as it is now, with a server or without.
pub(crate) fn catalog(site: &Site) -> View {
    Catalog::read(&site.path("data")).unwrap().view().unwrap()
}

/// What is not yet as it should be in the end: all that was received is sealed, and in the store only, where there is nothing
/// else; the journal has every decision.
pub(crate) fn unrest(site: &Site, cold: &Cold) -> Option<String> {
    let view = catalog(site);
    let received = LogReader::open(Arc::new(RealDisk), &site.path("data")).unwrap().positions().end;
    if view.sealed_to() != received {
        return Some(format!("{} of {received} events are sealed", view.sealed_to()));
    }
    let entries: Vec<_> = view.segments().unwrap().map(Result::unwrap).collect();
    let here = files(&site.path("data/sealed"));
    if !here.is_empty() || entries.iter().any(|entry| entry.segment.local || entry.missing) {
        return Some(format!("{here:?} are here"));
    }
    let copies = entries.iter().flat_map(|entry| {
        entry.segment.copies.iter().map(|copy| copy.object(entry.segment.id)).collect::<Vec<_>>()
    });
    let (copies, objects) = (copies.collect::<BTreeSet<_>>(), objects(site, cold));
    if copies != objects {
        let orphans: Vec<_> = objects.difference(&copies).collect();
        let lost: Vec<_> = copies.difference(&objects).collect();
        return Some(format!("{orphans:?} are in the store, and {lost:?} are not"));
    }
    for gone in view.gone().unwrap().map(Result::unwrap) {
        if gone.local || !gone.copies.is_empty() || matches!(gone.end, End::Lost) {
            return Some(format!("there may be bytes of {gone:?}"));
        }
    }
    let uploads = view.uploads().unwrap();
    if !uploads.is_empty() || view.unmirrored().unwrap() > 0 || *view.deletions() != Deletions::On {
        return Some(format!("{uploads:?} are under way, or the journal is behind"));
    }
    None
}

/// Waits until `unrest` finds nothing more that is not as it should be.
pub(crate) fn wait_for_rest(unrest: impl Fn() -> Option<String>) {
    let start = Instant::now();
    while let Some(what) = unrest() {
        assert!(start.elapsed() < PATIENCE, "not at rest within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(100));
    }
}

/// Proves, without a server, that every acked batch is there once, with the bytes that were sent, and that nothing is damaged.
/// Devices for which `brief` holds may lack what a policy deleted: as many events as replay says.
pub(crate) fn prove(site: &Site, cold: &Cold, acked: &Acked, brief: fn(&DeviceName) -> bool) {
    let data = site.path("data");
    let (reader, Bucket { store, waiting }) = (Catalog::read(&data).unwrap(), cold.bucket(site));
    let elsewhere = Elsewhere::new(move || reader.view(), [store], waiting);
    let replay = Replay::open(&data).unwrap().with_elsewhere(elsewhere);

    let kept = acked.of(|device| !brief(device));
    let contents = Contents::of(replay.reader(), |device| !brief(device)).unwrap();
    let stored = kept.compare(&contents).unwrap();
    assert_eq!((stored.batches, stored.events), (kept.count(), kept.events()), "stored, and acked");

    let coverage = replay.count(&Query::default()).unwrap().coverage;
    let deleted: u64 = coverage.deleted.iter().map(|lacking| lacking.events).sum();
    println!("{} batches of {} events were acked: {coverage}", acked.count(), acked.events());
    assert_eq!(coverage.present + deleted, acked.events(), "{coverage}");
    assert!(coverage.absent.is_empty() && coverage.damage.is_empty(), "{coverage}");
    for lacking in &coverage.deleted {
        let contents = catalog(site).contents(lacking.segment).unwrap();
        assert!(contents.iter().all(|content| brief(&content.device.parse().unwrap())), "{contents:?}");
    }
    assert!(site.expect(&["segments", "verify", "--all"]).contains("whole"));
    assert_success(&output(cold.command(site, &["segments", "verify", "--all"])));
}

/// What there is for segments in the store; of a directory also what no listing shows.
fn objects(site: &Site, cold: &Cold) -> BTreeSet<String> {
    match cold {
        Cold::Directory => {
            names(&site.path("bucket/segments")).map(|name| format!("segments/{name}")).collect()
        }
        Cold::S3(_) => cold.bucket(site).list("segments").into_iter().collect(),
    }
}

/// The segments in `directory` that are there whole.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    names(directory).filter(|name| name.ends_with(".ice")).collect()
}

fn names(directory: &Path) -> impl Iterator<Item = String> {
    let files = fs::read_dir(directory).into_iter().flatten();
    files.map(|file| file.unwrap().file_name().into_string().unwrap())
}
