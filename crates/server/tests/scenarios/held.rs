//! A hold, a lost disk, a new machine made from the bucket, and then the date of deletion: what is held is there, and the rest is
//! gone and said to be. Devices find the server that they knew.

use std::fs;

use crate::cold::{Bucket, Cold};
use crate::harness::{Server, Site, assert_failure, assert_success, output, testdata};
use crate::tiers::wait_until;

/// What has the schema `kept` gets segments of its own, so that a hold on it holds nothing else.
fn policies(delete: &str) -> String {
    let policy = |name: &str, matching: &str| {
        format!(
            "[[policy]]\nname = {name:?}\n{matching}cold = [{{ after = \"1s\", store = \"archive\" }}]\n\
             local = {{ drop_after = \"1s\" }}\ndelete = {delete}\n"
        )
    };
    policy("kept", "match = { schema = \"kept\" }\n") + &policy("rest", "")
}

#[test]
fn held_rows_outlive_a_lost_disk_with_a_directory() {
    held_rows_outlive_a_lost_disk(&Cold::Directory);
}

#[test]
fn held_rows_outlive_a_lost_disk_with_s3() {
    Cold::s3().iter().for_each(held_rows_outlive_a_lost_disk);
}

fn held_rows_outlive_a_lost_disk(cold: &Cold) {
    let mut site = Site::new();
    cold.configure(&mut site);
    at_speed(&mut site);
    fs::write(site.path("retention.toml"), policies("\"never\"")).unwrap();
    let gateway = site.enroll_gateway("gw", "*");
    let bucket = cold.bucket(&site);
    send_and_archive(&site, &gateway, &bucket);
    let before = site.expect(&["replay", "--schema", "kept", "--require-complete"]);

    // The last day of the machine: a backup, identities, a hold, and policies that delete in a few
    // seconds.
    let server = site.serve();
    site.expect(&["backup"]);
    site.expect(&["hold", "add", "--schema", "kept", "--reason", "case 4711"]);
    for name in ["late", "thief"] {
        site.enroll_device(name);
    }
    site.expect(&["device", "label", "late", "site=oslo"]);
    site.expect(&["device", "revoke", "thief"]);
    let file = site.path("later.toml");
    fs::write(&file, policies("{ after = \"2s\", undo = \"10s\" }")).unwrap();
    site.expect(&["retention", "apply", file.to_str().unwrap(), "--yes"]);
    server.kill();
    lose(&site);

    let there = made_anew(&site, cold);
    assert_eq!(bucket.list("segments").len(), 2, "nothing was due yet");
    assert!(there.expect(&["hold", "list"]).contains("`kept`"));
    let tails = there.path("data/sealed").read_dir().unwrap().map(|file| file.unwrap().path());
    assert_eq!(tails.filter(|file| file.extension().is_some_and(|tail| tail == "tail")).count(), 2);
    let identities = there.expect(&["device", "list"]);
    let thief = identities.lines().find(|line| line.contains("thief")).unwrap();
    assert!(thief.contains("revoked") && identities.contains("late"), "{identities}");
    assert!(there.expect(&["device", "show", "late"]).contains("site=oslo"));
    let server = there.serve();
    for schema in ["kept", "rest"] {
        let sent = send(&there, &gateway, &server, "january.csv", schema);
        assert!(sent.contains(" 0 new"), "what is in the bucket is known: {sent}");
    }
    wait_until(|| bucket.list("segments").len() == 1, "what is not held is deleted");
    let kept = there.expect(&["replay", "--schema", "kept", "--require-complete"]);
    assert_eq!(kept, before);
    let rest = there.run(&["replay", "--schema", "rest", "--format", "count", "--require-complete"]);
    assert_failure(&rest, &["deleted by policy `rest`"]);
    assert!(there.expect(&["segments", "list"]).contains("held by 1"));

    // It is a server like any other from here on.
    assert!(!send(&there, &gateway, &server, "february.csv", "rest").contains(" 0 new"));
    assert!(server.stop().success());
    assert_eq!(bucket.list("segments").len(), 1);
}

/// Two segments, in the bucket and not here.
fn send_and_archive(site: &Site, gateway: &str, bucket: &Bucket) {
    let server = site.serve();
    for schema in ["kept", "rest"] {
        send(site, gateway, &server, "january.csv", schema);
    }
    // A server that starts finishes the segment of the one before.
    assert!(server.stop().success());
    let server = site.serve();
    let here = || site.expect(&["segments", "list"]).contains("local");
    wait_until(|| bucket.list("segments").len() == 2 && !here(), "copies there and none here");
    assert!(server.stop().success());
}

/// Has the gateway, whose disk is another one, send a file; returns what it says.
fn send(site: &Site, gateway: &str, server: &Server, file: &str, schema: &str) -> String {
    let file = testdata().join("fixtures").join(file);
    let (file, address) = (file.to_str().unwrap(), server.address());
    site.expect(&["send", file, "--schema", schema, "--server", &address, "--identity", gateway])
}

/// All that takes hours otherwise takes a second.
fn at_speed(site: &mut Site) {
    site.set("TIER__INTERVAL", "1s");
    site.set("SEAL__AFTER", "1s");
}

/// The disk goes, with everything of the server's.
fn lose(site: &Site) {
    for lost in ["data", "tls"] {
        fs::remove_dir_all(site.path(lost)).unwrap();
    }
    for lost in ["icecore.toml", "retention.toml", "later.toml"] {
        fs::remove_file(site.path(lost)).unwrap();
    }
}

/// The same server on a machine that has the URL of the bucket and the keys to it, and nothing else.
fn made_anew(lost: &Site, cold: &Cold) -> Site {
    let dir = lost.path("elsewhere");
    let made = output(cold.command(lost, &["bootstrap", "--dir", dir.to_str().unwrap()]));
    assert_success(&made);
    let mut site = Site::at(dir);
    cold.let_in(&mut site);
    at_speed(&mut site);
    site
}
