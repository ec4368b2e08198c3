//! A bucket is verified with nothing else at hand, and a machine that is lost is made anew from it; in a directory and over S3.

use std::fs;

use crate::cold::Cold;
use crate::harness::{Site, assert_failure, output};
use crate::sealed::{SEGMENT, archived_in, archived_site, delete};

#[test]
fn a_directory_is_verified_without_server_and_catalog() {
    a_bucket_is_verified(&Cold::Directory);
}

#[test]
fn a_bucket_of_s3_is_verified_without_server_and_catalog() {
    Cold::s3().iter().for_each(a_bucket_is_verified);
}

fn a_bucket_is_verified(cold: &Cold) {
    let site = archived_in(cold);
    let bucket = cold.bucket(&site);
    let verify = || output(cold.command(&site, &["segments", "verify", "--all"]));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(text(verify().stdout), "1 object whole\n");

    let object = format!("segments/{SEGMENT}.ice");
    let mut flipped = bucket.read(&object);
    let middle = flipped.len() / 3;
    flipped[middle] ^= 1;
    bucket.replace(&object, &flipped);
    let found = verify();
    assert_failure(&found, &["1 object damaged or missing"]);
    assert!(text(found.stdout).contains("column"));

    bucket.delete(&object);
    let found = verify();
    assert_failure(&found, &["1 object damaged or missing"]);
    assert!(text(found.stdout).contains("no policy deleted it"));

    delete(&site, cold);
    assert_eq!(text(verify().stdout), "0 objects whole, 1 segment deleted by policy\n");

    let journal = &bucket.list("journal")[0];
    let lines = String::from_utf8(bucket.read(journal)).unwrap().replace("a test", "a text");
    bucket.replace(journal, lines.as_bytes());
    let found = verify();
    assert_failure(&found, &["damaged or missing"]);
    assert!(text(found.stdout).contains(&**journal));
}

#[test]
fn a_catalog_is_made_anew_from_a_directory() {
    a_catalog_is_made_anew(&Cold::Directory);
}

#[test]
fn a_catalog_is_made_anew_from_s3() {
    Cold::s3().iter().for_each(a_catalog_is_made_anew);
}

fn a_catalog_is_made_anew(cold: &Cold) {
    let site = archived_in(cold);
    site.expect(&["hold", "add", "--schema", "weather"]);
    fs::remove_file(site.path("data/catalog.redb")).unwrap();
    let said = site.expect(&["catalog", "rebuild"]);
    assert_eq!(said, "the catalog has 1 segment\n");
    let list = site.expect(&["segments", "list"]);
    assert!(list.contains("local, archive") && list.contains("held by 1"), "{list}");

    let server = site.serve();
    assert_failure(&site.run(&["catalog", "rebuild"]), &["a server runs on"]);
    assert!(server.stop().success());
}

#[test]
fn nothing_is_overwritten_by_a_bootstrap() {
    let (site, cold) = (archived_site(), Cold::Directory);
    site.expect(&["backup"]);
    let dir = site.path("elsewhere");
    let bootstrap = || output(cold.command(&site, &["bootstrap", "--dir", dir.to_str().unwrap()]));
    let made = bootstrap();
    assert!(made.status.success(), "{made:?}");
    assert!(String::from_utf8(made.stdout).unwrap().contains("the catalog has 1 segment"));
    assert_failure(&bootstrap(), &["exists already; nothing was changed"]);
    let authority = |site: &Site| fs::read(site.path("tls/ca.pem")).unwrap();
    assert_eq!(authority(&site), authority(&Site::at(dir)));
}
