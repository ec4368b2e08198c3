//! Clocks that lie, labels and policies that change: nobody's data is wiped or pinned by surprise.

use std::collections::BTreeSet;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::harness::{Server, Site, assert_failure, workspace};
use crate::sealed::archived_site;

/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A site that seals after a second and looks after the tiers every second.
fn brisk_site() -> Site {
    let mut site = Site::new();
    site.set("SEAL__AFTER", "1s");
    site.set("TIER__INTERVAL", "1s");
    site.enroll_gateway("gw", "*");
    site
}

/// Sends one event of `device` at `time`.
fn send(site: &Site, server: &Server, schema: &str, device: &str, time: &str) {
    let file = site.path("events.csv");
    fs::write(&file, format!("device,timestamp,v\n{device},{time},1\n")).unwrap();
    let (file, identity, address) = (file.to_str().unwrap(), site.path("gw"), server.address());
    let identity = identity.to_str().unwrap();
    site.expect(&["send", file, "--schema", schema, "--server", &address, "--identity", identity]);
}

/// Waits until there is something.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(100));
    }
}

/// The policies that would have marked something for deletion so long from now.
fn marked_by(site: &Site, at: &str) -> BTreeSet<String> {
    let plan = site.expect(&["retention", "plan", "--at", at, "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let actions = plan["actions"].as_array().unwrap().iter();
    let marks = actions.filter(|action| action["do"] == "mark for deletion");
    marks.map(|action| action["policy"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn devices_of_1970_and_2063_and_a_backfill_of_2013_end_when_they_should() {
    let site = brisk_site();
    let times = [
        ("1970", "1970-01-01T00:00:07Z"),
        ("2013", "2013-05-01T00:00:00Z"),
        ("2063", "2063-04-05T00:00:00Z"),
    ];
    let mut policies = String::new();
    for by in ["received", "event"] {
        for year in ["1970", "2013", "2063", "all"] {
            policies += &format!(
                "[[policy]]\nname = \"{by}-{year}\"\nmatch = {{ schema = \"{by}-{year}\" }}\nage_by = \"{by}\"\n\
                 delete = {{ after = \"3d\" }}\n{}",
                if by == "event" { "grace = \"1d\"\n" } else { "" }
            );
        }
    }
    fs::write(site.path("retention.toml"), policies + "[[policy]]\nname = \"rest\"\ndelete = \"never\"\n")
        .unwrap();
    let server = site.serve();
    for by in ["received", "event"] {
        for (year, time) in times {
            send(&site, &server, &format!("{by}-{year}"), &format!("device/{year}"), time);
            send(&site, &server, &format!("{by}-all"), &format!("device/{year}"), time);
        }
    }
    // A server that starts finishes the segment of the one before.
    assert!(server.stop().success());
    let server = site.serve();
    wait_for("all is sealed", || (marked_by(&site, "+4d").len() == 8).then_some(()));

    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(marked_by(&site, "+12h"), set(&[]), "nothing goes within its grace");
    // Of what is long past, by its own clock, only the grace is left; one that says it is 2063 counts from when it was received,
    // and so does a segment that has such events among others.
    assert_eq!(marked_by(&site, "+36h"), set(&["event-1970", "event-2013"]));
    assert_eq!(marked_by(&site, "+71h"), set(&["event-1970", "event-2013"]));
    sleep(Duration::from_secs(2));
    let events = site.expect(&["replay", "--format", "ndjson"]);
    assert_eq!(events.lines().count(), 12, "and now nothing is gone");
    assert!(server.stop().success());
}

#[test]
fn a_relabelled_device_keeps_what_it_was_promised_at_receipt() {
    let policies = |delete: &str| {
        format!(
            "[[policy]]\nname = \"oslo\"\nmatch = {{ labels = {{ site = \"oslo\" }} }}\ndelete = {delete}\n\
             [[policy]]\nname = \"rest\"\ndelete = \"never\"\n"
        )
    };
    let site = brisk_site();
    let apply = |delete: &str| {
        let file = site.path("p.toml");
        fs::write(&file, policies(delete)).unwrap();
        site.expect(&["retention", "apply", file.to_str().unwrap(), "--yes"]);
    };
    let label = |place: &str| site.expect(&["device", "label", "pump", &format!("site={place}")]);
    let live = || site.expect(&["segments", "list"]).lines().count() - 1;

    label("oslo");
    let server = site.serve();
    send(&site, &server, "s", "pump", "2026-01-01T00:00:00Z");
    label("bergen");
    send(&site, &server, "s", "pump", "2026-01-02T00:00:00Z");
    assert!(server.stop().success());
    let server = site.serve();
    wait_for("all is sealed", || site.expect(&["segments", "list"]).contains("default").then_some(()));
    assert_eq!(live(), 1, "by the policies of then it is all the same");

    apply("{ after = \"2d\", undo = \"1s\" }");
    sleep(Duration::from_secs(2));
    assert_eq!(live(), 1, "it is split when the first of it is due, and that is in two days");
    assert!(site.expect(&["retention", "plan", "--at", "+3d"]).contains("split"));
    assert_eq!(marked_by(&site, "+3d"), BTreeSet::new(), "and until it is split nothing of it goes");

    apply("{ after = \"1s\", undo = \"1s\" }");
    let events = || site.expect(&["replay"]).lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let left = wait_for("the part of Oslo is deleted", || Some(events()).filter(|events| events.len() < 2));
    assert!(left.len() == 1 && left[0].contains("2026-01-02"), "{left:?}");
    // That the device goes back to Oslo is about what comes from now on.
    label("oslo");
    sleep(Duration::from_secs(4));
    assert_eq!(events(), left);
    assert!(site.expect(&["segments", "verify", "--all"]).contains("1 segment whole"));
    assert!(server.stop().success());
}

/// Policies for all that there is.
fn policy_file(site: &Site, delete: &str) {
    fs::write(site.path("retention.toml"), format!("[[policy]]\nname = \"default\"\ndelete = {delete}\n"))
        .unwrap();
}

fn versions(site: &Site) -> usize {
    site.expect(&["retention", "history"]).lines().count() - 1
}

#[test]
fn a_hangup_takes_what_deletes_nothing_sooner_and_leaves_the_rest_to_an_operator() {
    let site = archived_site();
    policy_file(&site, "{ after = \"3650d\" }");
    let server = site.serve();
    server.assert_said("would delete data sooner");
    assert_eq!(versions(&site), 1, "those of the very first start still apply");
    policy_file(&site, "\"never\"");
    server.hang_up();
    server.wait_to_say("policies apply");

    policy_file(&site, "{ after = \"30d\" }");
    server.hang_up();
    let told = server.wait_to_say("would delete data sooner");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(told["bytes"].as_u64().unwrap() > 0 && told["events"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(versions(&site), 2);
    let file = site.path("retention.toml");
    let file = file.to_str().unwrap();
    let refused = site.run(&["retention", "apply", file]);
    assert_failure(&refused, &["--yes"]);
    assert!(String::from_utf8(refused.stdout).unwrap().contains("would be deleted sooner"));
    site.expect(&["retention", "apply", file, "--yes"]);
    assert_eq!(versions(&site), 3);

    // What an operator puts back and asks for is not passed over for having applied before.
    policy_file(&site, "\"never\"");
    server.hang_up();
    server.wait_to_say("policies apply");
    assert_eq!(versions(&site), 4);
    assert!(server.stop().success());
}

#[test]
fn what_is_not_sealed_yet_counts_as_much() {
    let site = brisk_site();
    let server = site.serve();
    send(&site, &server, "s", "pump", "2026-01-01T00:00:00Z");
    policy_file(&site, "{ after = \"1s\" }");
    server.hang_up();
    server.wait_to_say("would delete data sooner");
    let refused = site.run(&["retention", "apply", site.path("retention.toml").to_str().unwrap()]);
    assert_failure(&refused, &["--yes"]);
    assert!(String::from_utf8(refused.stdout).unwrap().contains("(1 events)"));
    assert!(server.stop().success());
}

#[test]
fn a_start_far_ahead_of_what_is_on_record_deletes_nothing_until_an_operator_says_so() {
    let site = Site::new();
    let golden = workspace().join("crates/log/tests/golden/v1");
    let hot = site.path("data/hot");
    fs::create_dir_all(&hot).unwrap();
    fs::copy(golden.join("log.id"), site.path("data/log.id")).unwrap();
    for file in golden.join("hot").read_dir().unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), hot.join(file.file_name())).unwrap();
    }
    let suspended = "nothing is deleted at present: at the start the clock was";
    let server = site.serve();
    server.assert_said("nothing is deleted until");
    assert!(site.expect(&["retention", "plan"]).contains(suspended));
    site.expect(&["catalog", "allow-deletions", "--reason", "it was off for years"]);
    assert!(!site.expect(&["retention", "plan"]).contains(suspended));
    assert!(server.stop().success());
    let server = site.serve();
    assert!(!site.expect(&["retention", "plan"]).contains(suspended), "asked once");
    assert!(server.stop().success());
}
