//! A site whose data is sealed.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use icecore_log::disk::{Access, Disk};
use icecore_log::sealed::SealedSegment;
use icecore_log::{HotLog, LogReader, Options, RealDisk, SealPlan, Sealing, SegmentId};
use icecore_tier::catalog::{Catalog, NewManifest, Why, contents};
use icecore_tier::journal::{self, StoreBucket};
use icecore_tier::segment::{Content, Share};
use icecore_tier::store::{Store, Waiting};

use crate::cold::{Bucket, Cold};
use crate::harness::{Site, testdata};

/// The one segment of [`sealed_site`].
pub(crate) const SEGMENT: SegmentId = SegmentId { manifest: 0, child: 0 };

/// A site without a server, with the events of a month in one sealed segment.
pub(crate) fn sealed_site() -> Site {
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "*");
    let server = site.serve();
    let file = january();
    let address = server.address();
    let to = ["--schema", "weather", "--server", &address, "--identity", &identity];
    site.expect(&[&["send", file.to_str().unwrap()], &to[..]].concat());
    assert!(server.stop().success());
    seal(&site);
    site
}

pub(crate) fn january() -> PathBuf {
    testdata().join("fixtures/january.csv")
}

/// Seals what is hot but for the newest segment; nothing may run on the site.
pub(crate) fn seal(site: &Site) {
    let opened = HotLog::open(Arc::new(RealDisk), &site.path("data"), Options::default(), now(), &mut |_| ());
    let (_appender, committer, _) = opened.unwrap();
    let class: Arc<str> = "default".into();
    let plan = SealPlan {
        hot_bytes: u64::MAX,
        classify: &|_, _, _| Arc::clone(&class),
        pace: &mut |_| ControlFlow::Continue(()),
        now: now(),
    };
    assert!(matches!(committer.sealer().seal(plan).unwrap(), Sealing::Done(_)));
}

/// The same, with a catalog that knows the segment, and a store called `archive`, a directory, that has a copy of it, its manifest
/// and the catalog's journal.
pub(crate) fn archived_site() -> Site {
    archived_in(&Cold::Directory)
}

/// The same in any store.
pub(crate) fn archived_in(cold: &Cold) -> Site {
    let mut site = sealed_site();
    cold.configure(&mut site);
    let why = why();
    let catalog = catalog_in(&site, cold);
    let Bucket { waiting, store } = cold.bucket(&site);
    let data = site.path("data");
    let reader = LogReader::open(Arc::new(RealDisk), &data).unwrap();
    for manifest in reader.manifests() {
        let summary = |id: SegmentId| {
            let file = RealDisk.open(&id.file(&data), Access::Read).unwrap();
            SealedSegment::open(Arc::new(file), id.file(&data)).map(|segment| contents(segment.summary()))
        };
        let new = NewManifest::of(manifest, summary).unwrap();
        let share = |bytes: u64, contents: &[Content]| {
            let rows = contents.iter().map(|content| content.rows).sum();
            vec![Share { policy: "default".to_owned(), rows, bytes }]
        };
        let version = catalog.view().unwrap().policy_version().unwrap();
        catalog.register(&new, version, &share, &why).unwrap();
        let object = format!("manifests/{:012}.manifest", manifest.number);
        put(&waiting, &store, &object, &manifest.file(&data));
    }
    put(&waiting, &store, &format!("segments/{SEGMENT}.ice"), &SEGMENT.file(&data));
    catalog.record_copy(SEGMENT, "archive", None, &why).unwrap();
    catalog.mirror("worker", why.time).unwrap();
    site
}

/// The catalog of a site without a server, whose store is a directory.
pub(crate) fn catalog(site: &Site) -> Catalog {
    catalog_in(site, &Cold::Directory)
}

/// The same with any store.
pub(crate) fn catalog_in(site: &Site, cold: &Cold) -> Catalog {
    let Bucket { waiting, store } = cold.bucket(site);
    let bucket: Arc<dyn journal::Bucket> = Arc::new(StoreBucket::new(store, waiting));
    Catalog::open(&site.path("data"), [1; 16], Some(bucket)).unwrap()
}

/// Has a policy delete the segment: it is gone from the store, and its local file is ignored.
pub(crate) fn delete(site: &Site, cold: &Cold) {
    let catalog = catalog_in(site, cold);
    let why = why();
    catalog.mark(&[(SEGMENT, why.time, why.clone())]).unwrap();
    catalog.delete(&[(SEGMENT, why)]).unwrap();
}

pub(crate) fn why() -> Why {
    Why {
        time: now(),
        by: "worker".to_owned(),
        policy: Some("default".to_owned()),
        reason: "a test".to_owned(),
    }
}

fn put(waiting: &Waiting, store: &Store, object: &str, file: &Path) {
    waiting.wait(store.put_new(object, fs::read(file).unwrap().into())).unwrap();
}

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}
