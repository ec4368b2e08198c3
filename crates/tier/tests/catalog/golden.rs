//! A journal of each version, frozen: every later version must read it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_tier::catalog::{Found, Rebuild};
use icecore_tier::hold::Scope;
use icecore_tier::journal::{Bucket, StoreBucket};
use icecore_tier::store::{Place, Store, Waiting};

use crate::support::{DAY, Fault, POLICIES, Site, by_schema, id};

fn golden(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}"))
}

fn directory(path: &Path) -> StoreBucket {
    let place = Place::open("files", &format!("file://{}", path.display()), &BTreeMap::new()).unwrap();
    StoreBucket::new(Store::new("files", place, 0), Waiting::new(None).unwrap())
}

/// A history with every kind of decision.
fn site() -> Site {
    let site = Site::new();
    let (catalog, why) = (site.catalog(), || site.why("for the golden file"));
    site.mirror().unwrap();
    catalog.apply_policies(POLICIES, &by_schema, &why()).unwrap();
    catalog.identities("{\"fact\":\"revoked\",\"name\":\"größe\",\"time\":1}\n", &why()).unwrap();
    let (first, second) = (site.seal("heat", "oslo/1"), site.seal("flow", "größe"));
    catalog.record_copy(first, "archive", Some("GLACIER_IR"), &why()).unwrap();
    site.mirror().unwrap();
    catalog.drop_local(first, &why()).unwrap();
    catalog.local_found(first, &why()).unwrap();
    catalog.copy_lost(first, "archive", &why()).unwrap();
    site.copy(second);
    catalog.local_lost(second, &why()).unwrap();
    let scope =
        Scope { schema: Some("h*".to_owned()), from: Some(-1), to: Some(2 * DAY), ..Scope::default() };
    let hold = catalog.hold_add(&scope, &why()).unwrap();
    site.mark(first, 0).unwrap();
    catalog.unmark(first, &why()).unwrap();
    site.mark(second, 7 * DAY).unwrap();
    catalog.hold_remove(hold, &why()).unwrap();
    catalog.deletions_off(&why()).unwrap();
    catalog.deletions_on(&why()).unwrap();
    site.pass(7 * DAY);
    site.mirror().unwrap();
    site.bucket.set(Fault::AnswerLost);
    site.delete(second).unwrap_err();
    catalog.hold_add(&Scope { device: Some("gr*".to_owned()), ..Scope::default() }, &why()).unwrap();
    site.bucket.set(Fault::None);
    site.mirror().unwrap();
    catalog.hold_remove(2, &why()).unwrap();
    site.delete(second).unwrap();
    catalog.cleared(second, Some("archive"), &why()).unwrap();
    let split = site.splitting(first, &[&[("heat", "oslo/1", 4)], &[("heat", "oslo/1", 6)]]);
    site.register(&split).unwrap();
    site.mirror().unwrap();
    site
}

/// `ICECORE_WRITE_GOLDEN=1` writes what is not there yet; what is there never changes.
#[test]
fn the_journal_is_written_as_it_always_was() {
    let site = site();
    let frozen = directory(&golden(2));
    for prefix in ["journal/", "terms/"] {
        for name in site.bucket.list(prefix).unwrap() {
            let text = site.bucket.get(&name).unwrap();
            if std::env::var_os("ICECORE_WRITE_GOLDEN").is_some() {
                let _ = frozen.create(&name, &text);
            }
            let frozen = String::from_utf8(frozen.get(&name).unwrap()).unwrap();
            assert_eq!(String::from_utf8(text).unwrap(), frozen, "{name}");
        }
        let names = site.bucket.list(prefix).unwrap();
        assert_eq!(frozen.list(prefix).unwrap(), names);
    }
}

#[test]
fn frozen_journals_are_read() {
    (1..=2).for_each(read);
}

fn read(version: u32) {
    let copy = tempfile::tempdir().unwrap();
    let (frozen, bucket) = (directory(&golden(version)), directory(&copy.path().join("bucket")));
    for prefix in ["journal/", "terms/"] {
        for name in frozen.list(prefix).unwrap() {
            bucket.create(&name, &frozen.get(&name).unwrap()).unwrap();
        }
    }
    let site = Site::without_bucket();
    let rebuild = Rebuild::begin(Some(Arc::new(bucket)), [9; 16], site.why("read again")).unwrap();
    assert_eq!(rebuild.faults(), Vec::<String>::new());
    assert_eq!(rebuild.policies(), Some(POLICIES));
    assert_eq!(rebuild.identities().count(), 1);
    let (catalog, rebuilt) = rebuild.build(copy.path(), &Found::default(), &by_schema).unwrap();
    let view = catalog.view().unwrap();
    assert_eq!((view.count().unwrap(), view.gone().unwrap().count()), (0, 2), "no manifest was kept");
    assert_eq!(view.history_of(id(0, 0)).unwrap().len(), 8);
    assert!(!rebuilt.skipped.is_empty(), "so nothing could be done with its segments");
}
