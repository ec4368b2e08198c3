//! A catalog of many segments: `ICECORE_CATALOG_SEGMENTS` says how many, a million for a figure in a release build.

use std::time::Instant;

use icecore_tier::catalog::{Catalog, NewManifest};

use crate::support::{Site, all_keep, by_schema};

/// Segments that one manifest brings.
const CHILDREN: usize = 500;

#[test]
fn many_segments_are_listed_and_checked() {
    let segments = std::env::var("ICECORE_CATALOG_SEGMENTS").ok().map_or(5_000, |text| text.parse().unwrap());
    let mut site = Site::without_bucket();
    let contents = [("heat", "oslo/1", 70), ("flow", "oslo/1", 30)];
    let began = Instant::now();
    for _ in 0..segments / CHILDREN {
        let sealing: NewManifest = site.sealing(&[&contents[..]; CHILDREN]);
        site.register(&sealing).unwrap();
    }
    let registered = began.elapsed();
    site.close();
    let began = Instant::now();
    let listed = Catalog::read(site.data.path()).unwrap().view().unwrap();
    let rows: u64 = listed.segments().unwrap().map(|entry| entry.unwrap().segment.rows).sum();
    let (listed, began) = (began.elapsed(), Instant::now());
    assert_eq!(rows, segments as u64 * 100);
    site.restart();
    let opened = began.elapsed();
    let began = Instant::now();
    site.catalog().apply_policies("", &all_keep, &site.why("all")).unwrap();
    let applied = began.elapsed();
    site.catalog().apply_policies("", &by_schema, &site.why("all")).unwrap();
    let bytes = std::fs::metadata(site.data.path().join("catalog.redb")).unwrap().len();
    println!(
        "{segments} segments: registered in {registered:?}, listed in {listed:?}, opened and checked in {opened:?}, \
         policies applied in {applied:?}; {bytes} bytes",
    );
}

#[test]
fn segments_come_with_their_contents_past_those_that_are_gone() {
    let site = Site::new();
    let [first, gone, last] = ["heat", "flow", "heat"].map(|schema| site.seal(schema, "oslo/1"));
    site.mirror().unwrap();
    site.mark(gone, 0).unwrap();
    site.delete(gone).unwrap();
    let view = site.catalog().view().unwrap();
    let rows = view.segments_with_contents().unwrap().map(|row| row.unwrap());
    let rows: Vec<_> = rows.map(|(entry, contents)| (entry.segment.id, contents)).collect();
    assert_eq!(rows, [first, last].map(|id| (id, view.contents(id).unwrap())));
    assert!(rows.iter().all(|(_, contents)| contents.len() == 1));
}
