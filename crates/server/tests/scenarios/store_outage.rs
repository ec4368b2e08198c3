//! The store goes away under load and comes back: devices do not notice, the operator does, and then everything is there.

use std::fs;

use icecore_device::{Identity, Spool};
use icecore_load::promises::Acked;
use icecore_load::pumps::{self, Pumps};

use crate::accounts::{files, prove, unrest, wait_for_rest};
use crate::cold::Cold;
use crate::door::Door;
use crate::harness::{Site, wait_until};

const POLICIES: &str = r#"
[[policy]]
name   = "all"
cold   = [{ after = "1s", store = "archive" }]
local  = { drop_after = "2s" }
delete = "never"
"#;

/// Segments that pile up here before the store comes back.
const PILE: usize = 4;

#[test]
fn a_directory_goes_away_and_comes_back() {
    outage(&Cold::Directory);
}

#[test]
fn a_bucket_of_s3_goes_away_and_comes_back() {
    Cold::s3().iter().for_each(outage);
}

fn outage(cold: &Cold) {
    let mut site = Site::new();
    cold.configure(&mut site);
    let door = Door::between(&mut site, cold);
    let quic = site.keep_address();
    for (key, value) in [("SEAL__AFTER", "1s"), ("TIER__INTERVAL", "500ms"), ("LOG__SEGMENT", "512KiB")] {
        site.set(key, value);
    }
    fs::write(site.path("retention.toml"), POLICIES).unwrap();
    let identity = Identity::load(site.enroll_gateway("gateway", "pump/*")).unwrap();
    let server = site.serve();
    site.set("LISTEN__HTTP", server.http.to_string());
    let acked = Acked::default();
    let spools = (0..2).map(|_| Spool::Memory { max_bytes: 4 << 20 }).collect();
    let pumps = Pumps::start(pumps::config(quic.to_string(), identity), spools, &acked).unwrap();
    wait_until("copies", || server.metric("icecore_tier_dropped_bytes_total") > 0.0);
    let resting = || server.metric("icecore_store_resting{store=\"archive\"}") > 0.0;
    assert!(!resting());

    door.shut();
    wait_until("the store to be left alone", resting);
    assert!(server.has_said("store left alone"));
    wait_until("the hours to be known", || server.metric("icecore_disk_hours_left") >= 0.0);
    wait_until("the hours to be told", || server.has_said("hours_left"));
    let status = site.expect(&["status"]);
    assert!(status.contains("at least one does not answer; the disk lasts for "), "{status}");
    assert!(status.contains("not archived some sealed data since "), "{status}");
    let sealed = site.path("data/sealed");
    wait_until("segments to pile up", || files(&sealed).len() >= PILE);
    pumps.wait_for_acks(100).unwrap();
    assert!(resting() && server.metric("icecore_tier_backlog_segments") > 0.0);
    assert!(server.get("/readyz").starts_with("HTTP/1.0 200"), "ingestion goes on");
    let uploaded = server.metric("icecore_tier_uploaded_bytes_total");

    door.open();
    wait_until("the store to be used again", || !resting());
    assert!(server.has_said("store answers again"));
    wait_until("the backlog to drain", || server.metric("icecore_tier_uploaded_bytes_total") > uploaded);
    pumps.finish().unwrap();
    // Whoever starts finishes the hot segment of the one before.
    assert!(server.stop().success());
    let server = site.serve();
    wait_for_rest(|| unrest(&site, cold));
    wait_until("no backlog", || server.metric("icecore_tier_backlog_segments") == 0.0);
    site.expect(&["replay", "--format", "count", "--require-complete"]);
    assert!(server.stop().success());
    prove(&site, cold, &acked, |_| false);
}
