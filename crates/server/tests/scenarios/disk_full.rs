//! A disk runs full and has space again: acks stop, nothing acked is lost, and ingestion goes on by itself.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use icecore_device::{Identity, Spool};
use icecore_load::promises::Acked;
use icecore_load::pumps::{self, Pumps};

use crate::accounts::prove;
use crate::cold::Cold;
use crate::door::Door;
use crate::harness::{Site, wait_until};

/// Bytes that something else takes on the disk until it is removed.
const BALLAST: usize = 16 << 20;

/// A small file system of its own, unmounted when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of so many MiB at `path`; where that is not possible, it is said why.
    fn mount(path: PathBuf, mib: u32) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "icecore-test"]).arg(&path);
        let reason = match mount.output() {
            Ok(output) if output.status.success() => return Some(Self(path)),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => format!("cannot run mount: {error}"),
        };
        println!("skipped: a small file system cannot be mounted here: {reason}");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A failure shows as a directory that is left behind.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn ingestion_waits_while_the_disk_is_full() {
    let mut site = Site::new();
    let Some(disk) = SmallDisk::mount(site.path("small"), 24) else { return };
    let data = disk.0.join("data");
    let address = site.keep_address();
    site.set("DATA__DIR", data.to_str().unwrap());
    site.set("DATA__RESERVE", "1MiB");
    site.set("LOG__SEGMENT", "2MiB");
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![0; BALLAST]).unwrap();
    let identity = Identity::load(site.enroll_gateway("gateway", "pump/*")).unwrap();

    let server = site.serve();
    let spools = (0..8).map(|_| Spool::Memory { max_bytes: 1 << 20 }).collect();
    let noted = Acked::default();
    let pumps = Pumps::start(pumps::config(address.to_string(), identity), spools, &noted).unwrap();
    wait_until("the disk to run full", || !server.get("/readyz").starts_with("HTTP/1.0 200"));
    let acked = noted.count();
    thread::sleep(Duration::from_secs(1));
    assert!(acked > 0);
    assert_eq!(noted.count(), acked, "a full disk acks nothing");

    fs::remove_file(&ballast).unwrap();
    wait_until("acks to go on", || noted.count() > acked);
    wait_until("readiness", || server.get("/readyz").starts_with("HTTP/1.0 200"));
    pumps.finish().unwrap();
    assert!(server.stop().success());
    assert_eq!(noted.count(), noted.check(&data).unwrap().batches);
    println!("{} batches were acked, and are stored", noted.count());
}

/// Everything stays here as long as there is room.
const ROOM: &str = r#"
[[policy]]
name   = "all"
cold   = [{ after = "1s", store = "archive" }]
local  = { min_free = "18MB" }
delete = "never"
"#;

#[test]
fn a_disk_that_filled_during_an_outage_is_emptied_into_the_store() {
    let mut site = Site::new();
    // `data` is where the configuration says.
    let Some(_disk) = SmallDisk::mount(site.path("data"), 32) else { return };
    let cold = Cold::Directory;
    cold.configure(&mut site);
    let door = Door::between(&mut site, &cold);
    let address = site.keep_address();
    for (key, value) in [("SEAL__AFTER", "1s"), ("TIER__INTERVAL", "500ms"), ("LOG__SEGMENT", "1MiB")] {
        site.set(key, value);
    }
    // Room for a seal of what comes in a second or two, and the catalog.
    site.set("DATA__RESERVE", "10MiB");
    fs::write(site.path("retention.toml"), ROOM).unwrap();
    let identity = Identity::load(site.enroll_gateway("gateway", "pump/*")).unwrap();

    let server = site.serve();
    door.shut();
    let spools = (0..8).map(|_| Spool::Memory { max_bytes: 1 << 20 }).collect();
    let acked = Acked::default();
    let pumps = Pumps::start(pumps::config(address.to_string(), identity), spools, &acked).unwrap();
    wait_until("the reserve", || !server.get("/readyz").starts_with("HTTP/1.0 200"));
    let refused = || server.metric("icecore_deferred_batches_total{code=\"disk_full\"}");
    wait_until("devices to be told", || refused() > 0.0);
    // What is sealed by then still makes some room.
    let mut full_at = acked.count();
    let mut is_still = || {
        thread::sleep(Duration::from_secs(1));
        std::mem::replace(&mut full_at, acked.count()) == full_at
    };
    wait_until("acks to stop", || is_still() && is_still());
    assert_eq!(server.metric("icecore_tier_uploaded_bytes_total"), 0.0);

    door.open();
    wait_until("acks to go on", || acked.count() > full_at * 3 / 2);
    assert!(server.has_said("there is space again"));
    pumps.finish().unwrap();
    wait_until("readiness", || server.get("/readyz").starts_with("HTTP/1.0 200"));
    assert!(server.metric("icecore_tier_dropped_bytes_total") > 0.0, "it was the tiers that made room");
    assert!(server.stop().success());
    site.expect(&["replay", "--format", "count", "--require-complete"]);
    prove(&site, &cold, &acked, |_| false);
}
