//! What is in object storage only is replayed like the rest; what is missing is said, and an error where all is required.

use std::fs;

use crate::cold::Cold;
use crate::harness::{Site, assert_failure, assert_success};
use crate::sealed::{SEGMENT, archived_site, catalog, delete, why};

#[test]
fn cold_events_are_replayed_and_deleted_ones_are_told() {
    let site = archived_site();
    let before = site.expect(&["replay"]);
    let cold = catalog(&site);
    cold.drop_local(SEGMENT, &why()).unwrap();
    drop(cold);
    fs::remove_file(SEGMENT.file(&site.path("data"))).unwrap();

    let replayed = site.run(&["replay", "--require-complete"]);
    assert_success(&replayed);
    assert_eq!(String::from_utf8_lossy(&replayed.stdout), before);
    assert!(coverage(&site, &[]).ends_with(" events present, nothing missing"));
    // From the cache.
    fs::rename(site.path("bucket"), site.path("away")).unwrap();
    assert_eq!(site.expect(&["replay"]), before);
    fs::remove_dir_all(site.path("data/cache")).unwrap();
    assert_failure(&site.run(&["replay"]), &["store `archive`", &SEGMENT.to_string()]);
    assert!(coverage(&site, &["--skip-damaged"]).contains("store `archive`"));

    fs::remove_dir_all(site.path("bucket")).unwrap();
    fs::rename(site.path("away"), site.path("bucket")).unwrap();
    delete(&site, &Cold::Directory);
    assert!(coverage(&site, &["--format", "count"]).contains("deleted by policy `default`"));
    let complete = ["replay", "--format", "count", "--require-complete"];
    assert_failure(&site.run(&complete), &["not everything", &SEGMENT.to_string()]);
}

/// What `replay` says last on standard error.
fn coverage(site: &Site, flags: &[&str]) -> String {
    let output = site.run(&[&["replay"], flags].concat());
    assert_success(&output);
    let said = String::from_utf8(output.stderr).unwrap();
    said.lines().next_back().unwrap().strip_prefix("coverage: ").unwrap().to_owned()
}
