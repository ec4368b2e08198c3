//! The whole life of sealed segments under a running server: copied, dropped here, read from where they are, and deleted when the
//! policy says so, which is then said; in a directory and over S3.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cold::Cold;
use crate::harness::{Server, Site, assert_failure, output, testdata};

/// How long a step of a life may take.
const PATIENCE: Duration = Duration::from_secs(60);

const KEPT: &str = r#"
[[policy]]
name   = "all"
cold   = [{ after = "1s", store = "archive" }]
local  = { drop_after = "2s" }
delete = "never"
"#;

const DELETED: &str = r#"
[[policy]]
name   = "all"
cold   = [{ after = "1s", store = "archive" }]
local  = { drop_after = "2s" }
delete = { after = "3s", undo = "1s" }
"#;

#[test]
fn a_life_in_a_directory() {
    segments_go_to_the_store_are_read_there_and_are_deleted_by_policy(&Cold::Directory);
}

#[test]
fn a_life_in_s3() {
    Cold::s3().iter().for_each(segments_go_to_the_store_are_read_there_and_are_deleted_by_policy);
}

fn segments_go_to_the_store_are_read_there_and_are_deleted_by_policy(cold: &Cold) {
    let mut site = Site::new();
    cold.configure(&mut site);
    let bucket = cold.bucket(&site);
    site.set("TIER__INTERVAL", "1s");
    site.set("SEAL__AFTER", "1s");
    fs::write(site.path("retention.toml"), KEPT).unwrap();
    let identity = site.enroll_gateway("gw", "*");
    let file = testdata().join("fixtures/january.csv");
    let send = |server: &Server| {
        let (file, address) = (file.to_str().unwrap(), server.address());
        site.expect(&["send", file, "--schema", "s", "--server", &address, "--identity", &identity])
    };

    let server = site.serve();
    send(&server);
    let before = site.expect(&["replay", "--format", "csv"]);
    // A server that starts finishes the segment of the one before.
    assert!(server.stop().success());
    let server = site.serve();
    let here = || count(&site.path("data/sealed"), "ice");
    let there = || bucket.list("segments").len();
    wait_until(|| there() > 0 && here() == 0, "a copy there and none here");
    assert_eq!(site.expect(&["replay", "--format", "csv", "--require-complete"]), before);
    let anywhere = || output(cold.command(&site, &["replay", "--format", "csv", "--require-complete"]));
    assert_eq!(String::from_utf8(anywhere().stdout).unwrap(), before, "from the bucket alone");
    let states = ["state", "--all", "--json"];
    let archived = output(cold.command(&site, &states)).stdout;
    assert_eq!(String::from_utf8(archived).unwrap(), site.expect(&states), "states from the bucket alone");
    assert!(send(&server).contains("0 new"), "what is cold is known");
    let status = site.expect(&["status"]);
    assert!(status.contains("1 segment, 0 B here") && !status.contains("not archived"), "{status}");

    // A file that deletes sooner is for an operator to apply, whatever the signal.
    fs::write(site.path("retention.toml"), DELETED).unwrap();
    server.hang_up();
    let apply = site.run(&["retention", "apply", site.path("retention.toml").to_str().unwrap()]);
    assert!(!apply.status.success(), "without --yes");
    assert!(there() > 0);
    site.expect(&["retention", "apply", site.path("retention.toml").to_str().unwrap(), "--yes"]);
    wait_until(|| there() == 0, "nothing there any more");
    let replay = site.run(&["replay", "--format", "csv"]);
    assert_eq!(String::from_utf8(replay.stdout).unwrap().lines().count(), 1, "the header");
    let coverage = String::from_utf8(replay.stderr).unwrap();
    assert!(coverage.contains("deleted by policy"), "{coverage}");
    assert_failure(&anywhere(), &["deleted by policy `all`"]);
    assert!(server.stop().success());
}

/// Files in `directory` whose names end so.
fn count(directory: &Path, extension: &str) -> usize {
    let Ok(files) = fs::read_dir(directory) else { return 0 };
    files
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|found| found == extension))
        .count()
}

/// Waits for what is to happen by itself.
pub(crate) fn wait_until(mut happened: impl FnMut() -> bool, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(50));
    }
}
