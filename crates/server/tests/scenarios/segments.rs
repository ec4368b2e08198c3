//! Sealed segments are listed, looked into and verified without a server; a flipped bit is named with its place.

use std::fs;

use crate::harness::assert_failure;
use crate::sealed::{SEGMENT, archived_site, catalog, sealed_site, why};

#[test]
fn a_segment_in_object_storage_is_shown_and_verified_as_well() {
    let site = archived_site();
    let id = SEGMENT.to_string();
    let shown = site.expect(&["segments", "inspect", &id]);
    let dropping = catalog(&site);
    dropping.drop_local(SEGMENT, &why()).unwrap();
    drop(dropping);
    fs::remove_file(SEGMENT.file(&site.path("data"))).unwrap();
    let cold = site.expect(&["segments", "inspect", &id]);
    assert_eq!(cold, shown.replace("local, archive", "archive"));
    assert!(site.expect(&["segments", "verify", &id]).contains(": whole, "));
    let all = site.expect(&["segments", "verify", "--all"]);
    assert_eq!(all, "0 segments whole, 1 segment in object storage only, not read\n");
}

#[test]
fn a_sealed_segment_is_shown_and_verified() {
    let site = sealed_site();
    let id = SEGMENT.to_string();
    let list = site.expect(&["segments", "list"]);
    assert!(list.lines().count() == 2 && list.contains(&id) && list.contains("local"), "{list}");
    let shown = site.expect(&["segments", "inspect", &id]);
    assert!(shown.contains("bytes an event") && shown.contains("\nweather"), "{shown}");

    let verified = site.expect(&["segments", "verify", &id]);
    let root = verified.trim().rsplit(' ').next().unwrap();
    assert!(verified.contains(": whole, ") && shown.contains(root), "{verified}{shown}");
    site.expect(&["segments", "verify", &id, "--root", root]);
    assert_eq!(site.expect(&["segments", "verify", "--all"]), "1 segment whole\n");

    let other = "0".repeat(64);
    let refused = site.run(&["segments", "verify", &id, "--root", &other]);
    assert_failure(&refused, &["is damaged"]);
    assert!(String::from_utf8_lossy(&refused.stdout).contains("this is another segment"));
    let unknown = site.run(&["segments", "verify", "000000000009-000"]);
    assert_failure(&unknown, &["there is no segment 000000000009-000"]);
}

#[test]
fn a_flipped_bit_and_a_missing_file_are_named() {
    let site = sealed_site();
    let file = SEGMENT.file(&site.path("data"));
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 3] ^= 4;
    fs::write(&file, &flipped).unwrap();
    let found = site.run(&["segments", "verify", "--all"]);
    assert_failure(&found, &["1 file damaged or missing"]);
    let said = String::from_utf8(found.stdout).unwrap();
    assert!(said.contains(&SEGMENT.to_string()) && said.contains("column"), "{said}");

    fs::remove_file(&file).unwrap();
    let found = site.run(&["segments", "verify", "--all"]);
    assert_failure(&found, &["1 file damaged or missing"]);
    assert!(String::from_utf8(found.stdout).unwrap().contains("its file is missing"));
    fs::write(&file, &whole).unwrap();
    site.expect(&["segments", "verify", "--all"]);

    let manifest = site.path("data/manifests").read_dir().unwrap().next().unwrap().unwrap().path();
    let mut flipped = fs::read(&manifest).unwrap();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    fs::write(&manifest, flipped).unwrap();
    let found = site.run(&["segments", "verify", "--all"]);
    assert_failure(&found, &["damaged or missing"]);
    assert!(String::from_utf8(found.stdout).unwrap().contains(".manifest"));
}
