//! A machine that is made anew from its bucket: after a full archive it is the old one; after a partial one, what is missing is told, and
//! taken from devices again. In a directory and over S3.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_log::RealDisk;
use icecore_state::DeviceState;
use icecore_state::snapshot::{Loaded, Snapshots};

use crate::cold::Cold;
use crate::harness::{Server, Site, assert_success, output, testdata};
use crate::tiers::wait_until;

const AT_ONCE: &str = r#"
[[policy]]
name   = "all"
cold   = [{ after = "1s", store = "archive" }]
local  = { drop_after = "2s" }
delete = "never"
"#;

const LATER: &str = r#"
[[policy]]
name   = "all"
cold   = [{ after = "1d", store = "archive" }]
delete = "never"
"#;

#[test]
fn after_a_full_archive_in_a_directory() {
    a_new_machine_is_the_old_one(&Cold::Directory);
}

#[test]
fn after_a_full_archive_in_s3() {
    Cold::s3().iter().for_each(a_new_machine_is_the_old_one);
}

#[test]
fn after_a_partial_archive_in_a_directory() {
    what_is_missing_is_told_and_taken_again(&Cold::Directory);
}

#[test]
fn after_a_partial_archive_in_s3() {
    Cold::s3().iter().for_each(what_is_missing_is_told_and_taken_again);
}

fn a_new_machine_is_the_old_one(cold: &Cold) {
    let (site, identity) = site(cold);
    archived(&site, cold, &identity, "january", 1);
    let (bucket, snapshots) = (cold.bucket(&site), || cold.bucket(&site).list("snapshots"));
    let kept = snapshots();
    assert_eq!(kept.len(), 1, "{kept:?}");
    archived(&site, cold, &identity, "february", 2);
    assert_eq!(bucket.list("manifests").len(), 2);

    let (new, said) = anew(&site, cold, "new");
    assert!(
        said.contains("the catalog has 2 segments") && said.contains("the state of 2 devices is there"),
        "{said}"
    );
    let server = new.serve();
    server.assert_said("\"events_behind_it\":56");
    assert!(server.stop().success());
    assert_eq!(state(&new.path("data")), state(&site.path("data")));
    for command in [
        &["replay", "--format", "csv", "--require-complete"][..],
        &["device", "gaps", "station/alpha"],
        &["device", "gaps", "station/beta"],
    ] {
        assert_eq!(new.expect(command), site.expect(command), "{command:?}");
    }
}

fn what_is_missing_is_told_and_taken_again(cold: &Cold) {
    let (site, identity) = site(cold);
    archived(&site, cold, &identity, "january", 1);
    apply(&site, LATER);
    let server = site.serve();
    send(&site, &server, &identity, "february");
    assert!(server.stop().success());
    let server = site.serve();
    wait_until(|| cold.bucket(&site).list("manifests").len() == 2, "a manifest of what is not archived");
    assert!(server.stop().success());
    let all = site.expect(&["replay", "--format", "csv"]);

    let (new, said) = anew(&site, cold, "new");
    assert!(
        said.contains("missing: segment")
            && said.contains("56 events of missing segments are asked for again"),
        "{said}"
    );
    assert!(said.contains("the state of 2 devices is there"), "{said}");
    let server = new.serve();
    let count = new.run(&["replay", "--format", "count", "--skip-damaged"]);
    let told = String::from_utf8(count.stderr).unwrap();
    assert!(told.contains("000000000001-000"), "it is told what is not there: {told}");
    assert!(send(&new, &server, &identity, "january").contains("0 new"));
    assert!(send(&new, &server, &identity, "february").contains("56 new, 0 stored before"));
    assert!(send(&new, &server, &identity, "february").contains("0 new, 56 stored before"));
    assert!(server.stop().success());
    let (again, before) = (state(&new.path("data")), state(&site.path("data")));
    for (device, state) in &before {
        assert_eq!(again[device].tally(), state.tally(), "{device}: each event counts once");
    }
    let lines = |csv: &str| csv.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let here = new.run(&["replay", "--format", "csv", "--skip-damaged"]);
    assert_eq!(lines(&String::from_utf8(here.stdout).unwrap()), lines(&all));
}

/// A site that archives at once, and the identity of a gateway.
fn site(cold: &Cold) -> (Site, String) {
    let mut site = Site::new();
    cold.configure(&mut site);
    for (key, value) in [("TIER__INTERVAL", "200ms"), ("SEAL__AFTER", "1s")] {
        site.set(key, value);
    }
    fs::write(site.path("retention.toml"), AT_ONCE).unwrap();
    let identity = site.enroll_gateway("gw", "*");
    (site, identity)
}

fn apply(site: &Site, policies: &str) {
    let file = site.path("proposed.toml");
    fs::write(&file, policies).unwrap();
    site.expect(&["retention", "apply", file.to_str().unwrap(), "--yes"]);
}

fn fixture(name: &str) -> PathBuf {
    testdata().join(format!("fixtures/{name}.csv"))
}

fn send(site: &Site, server: &Server, identity: &str, name: &str) -> String {
    let (file, address) = (fixture(name), server.address());
    site.expect(&[
        "send",
        file.to_str().unwrap(),
        "--schema",
        "s",
        "--server",
        &address,
        "--identity",
        identity,
    ])
}

/// Sends a file, and waits until so many segments are in the store, and only there.
fn archived(site: &Site, cold: &Cold, identity: &str, name: &str, segments: usize) {
    let server = site.serve();
    send(site, &server, identity, name);
    assert!(server.stop().success());
    // A server that starts finishes the segment of the one before.
    let server = site.serve();
    let here = || fs::read_dir(site.path("data/sealed")).unwrap();
    let is_local = || here().any(|file| file.unwrap().path().extension().is_some_and(|end| end == "ice"));
    let bucket = cold.bucket(site);
    let there = || bucket.list("segments").len() == segments && !bucket.list("snapshots").is_empty();
    wait_until(|| there() && !is_local(), "an archive of everything");
    assert!(server.stop().success());
}

/// Another machine, made of the bucket; and what was said of it.
fn anew(site: &Site, cold: &Cold, name: &str) -> (Site, String) {
    site.expect(&["backup"]);
    let dir = site.path(name);
    let made = output(cold.command(site, &["bootstrap", "--dir", dir.to_str().unwrap()]));
    assert_success(&made);
    let mut new = Site::at(dir);
    cold.let_in(&mut new);
    for (key, value) in [("TIER__INTERVAL", "200ms"), ("SEAL__AFTER", "1s")] {
        new.set(key, value);
    }
    (new, String::from_utf8(made.stdout).unwrap())
}

/// The states of all devices as a server that has stopped saved them.
fn state(data: &Path) -> BTreeMap<String, Arc<DeviceState>> {
    let (loaded, faults) = Snapshots::new(Arc::new(RealDisk), data).load(&|_| true).unwrap();
    assert!(faults.is_empty(), "{faults:?}");
    let Loaded { fleet, .. } = loaded.unwrap();
    fleet.devices().map(|(name, state)| (name.as_str().to_owned(), Arc::clone(state))).collect()
}
