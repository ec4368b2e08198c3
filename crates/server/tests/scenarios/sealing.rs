//! What is finished is sealed beside ingestion: replay says the same before and after, and what was stored stays stored.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::harness::{Site, testdata};

/// How long a seal may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn replay_and_resends_do_not_notice_a_seal() {
    let mut site = Site::new();
    site.set("SEAL__AFTER", "1s");
    site.set("LOG__SEGMENT", "1MiB");
    let identity = site.enroll_gateway("gw", "*");
    let file = testdata().join("fixtures/january.csv");
    let send = |address: &str| {
        let file = file.to_str().unwrap();
        site.expect(&["send", file, "--schema", "s", "--server", address, "--identity", &identity])
    };
    let replay = || site.expect(&["replay", "--format", "csv"]);

    let server = site.serve();
    send(&server.address());
    let before = replay();
    // A server that starts finishes the segment of the one before.
    assert!(server.stop().success());
    let server = site.serve();
    wait_for_manifest(&site.path("data"));
    assert_eq!(replay(), before, "beside the server");
    assert!(send(&server.address()).contains("0 new"));
    assert!(server.stop().success());
    assert_eq!(replay(), before, "after it");

    let server = site.serve();
    assert!(send(&server.address()).contains("0 new"), "after a restart");
    server.kill();
    assert_eq!(replay(), before, "killed");
}

fn wait_for_manifest(data: &Path) {
    let deadline = Instant::now() + PATIENCE;
    let is_there = || fs::read_dir(data.join("manifests")).is_ok_and(|mut found| found.next().is_some());
    while !is_there() {
        assert!(Instant::now() < deadline, "nothing was sealed in {}", data.display());
        sleep(Duration::from_millis(50));
    }
}
