//! `icecore snapshot`, and a server that starts from what is good.

use std::fs;

use crate::harness::Site;
use crate::sealed::january;

#[test]
fn a_damaged_snapshot_is_named_and_the_server_starts_without_it() {
    let site = Site::new();
    assert_eq!(site.expect(&["snapshot", "list"]), "there is no snapshot yet\n");
    let identity = site.enroll_gateway("gw", "*");
    let server = site.serve();
    let file = january();
    let address = server.address();
    let to = ["--schema", "weather", "--server", &address, "--identity", &identity];
    site.expect(&[&["send", file.to_str().unwrap()], &to[..]].concat());
    assert!(server.stop().success());

    let list = site.expect(&["snapshot", "list"]);
    assert!(list.lines().nth(1).unwrap().contains("full"), "{list}");
    let verified = site.expect(&["snapshot", "verify"]);
    assert!(verified.contains(".full: whole, "), "{verified}");

    let snapshot = fs::read_dir(site.path("data/snapshots")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&snapshot).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&snapshot, bytes).unwrap();
    let failed = site.run(&["snapshot", "verify"]);
    assert!(!failed.status.success());
    let said = String::from_utf8(failed.stdout).unwrap();
    assert!(said.contains(snapshot.to_str().unwrap()) && said.contains("fails its CRC32C"), "{said}");

    let server = site.serve();
    assert!(server.stop().success());
    let list = site.expect(&["snapshot", "list"]);
    assert!(list.lines().count() >= 2, "one is written again: {list}");
}
