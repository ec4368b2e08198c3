//! A bucket is verified with nothing else at hand, and a machine that is lost is made anew from it.

use std::fs;

use crate::harness::{Site, assert_failure, icecore, output};
use crate::sealed::{SEGMENT, archived_site, catalog, url, why};

#[test]
fn a_bucket_is_verified_without_server_and_catalog() {
    let site = archived_site();
    let url = url(&site);
    let verify = || icecore(&["segments", "verify", "--all", "--store", &url]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(text(verify().stdout), "1 object whole\n");

    let object = site.path("bucket/segments").join(format!("{SEGMENT}.ice"));
    let whole = fs::read(&object).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 3] ^= 1;
    fs::write(&object, flipped).unwrap();
    let found = verify();
    assert_failure(&found, &["1 object damaged or missing"]);
    assert!(text(found.stdout).contains("column"));

    fs::remove_file(&object).unwrap();
    let found = verify();
    assert_failure(&found, &["1 object damaged or missing"]);
    assert!(text(found.stdout).contains("no policy deleted it"));

    let deleting = catalog(&site);
    let why = why();
    deleting.mark(&[(SEGMENT, why.time, why.clone())]).unwrap();
    deleting.delete(&[(SEGMENT, why)]).unwrap();
    drop(deleting);
    assert_eq!(text(verify().stdout), "0 objects whole, 1 segment deleted by policy\n");

    let objects = site.path("bucket/journal/0000000001").read_dir().unwrap();
    let journal = objects.map(|object| object.unwrap().path()).min().unwrap();
    let line = fs::read_to_string(&journal).unwrap().replace("a test", "a text");
    fs::write(&journal, line).unwrap();
    let found = verify();
    assert_failure(&found, &["damaged or missing"]);
    assert!(text(found.stdout).contains("journal/0000000001/"));
}

#[test]
fn a_catalog_is_made_anew() {
    let site = archived_site();
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
fn a_lost_machine_is_made_anew_from_its_bucket() {
    let site = archived_site();
    site.expect(&["hold", "add", "--schema", "weather"]);
    assert!(site.expect(&["backup"]).contains("private keys"));
    let replayed = site.expect(&["replay"]);

    let elsewhere = site.path("elsewhere");
    let dir = elsewhere.to_str().unwrap();
    let url = url(&site);
    let bootstrap = || {
        let mut command = site.command(&["bootstrap", "--store", &url, "--dir", dir]);
        command.env("ICECORE__STORE__ARCHIVE__URL", &url);
        output(command)
    };
    let made = bootstrap();
    assert!(made.status.success(), "{made:?}");
    assert!(String::from_utf8(made.stdout).unwrap().contains("the catalog has 1 segment"));
    assert_failure(&bootstrap(), &["exists already; nothing was changed"]);
    assert_eq!(fs::read(site.path("tls/ca.pem")).unwrap(), fs::read(elsewhere.join("tls/ca.pem")).unwrap());

    let mut there = Site::at(elsewhere);
    there.set("STORE__ARCHIVE__URL", url);
    let list = there.expect(&["segments", "list"]);
    assert!(list.contains("archive") && list.contains("held by 1"), "{list}");
    assert!(there.expect(&["device", "list"]).contains("gw"));
    // Until replay reads from stores, what it needs is fetched by hand.
    let object = site.path("bucket/segments").join(format!("{SEGMENT}.ice"));
    let file = SEGMENT.file(&there.path("data"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::copy(object, file).unwrap();
    assert!(there.serve().stop().success());
    assert_eq!(there.expect(&["replay"]), replayed);
}
