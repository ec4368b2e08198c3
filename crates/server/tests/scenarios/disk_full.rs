//! A disk runs full and is given space again: acks stop, nothing acked is lost, and ingestion goes on by itself.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use icecore_device::{Identity, Spool};
use icecore_load::promises::Acked;
use icecore_load::pumps::{self, Pumps};

use crate::harness::Site;

/// Bytes that something else takes on the disk until it is removed.
const BALLAST: usize = 16 << 20;

/// More than it takes to fill the rest of the disk, and to notice that there is space again.
const PATIENCE: Duration = Duration::from_secs(60);

/// A small file system of its own, unmounted when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of 24 MiB at `path`; an error says why that is not possible here.
    fn mount(path: PathBuf) -> Result<Self, String> {
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=24m", "icecore-test"]).arg(&path);
        let output = mount.output().map_err(|e| format!("cannot run mount: {e}"))?;
        if output.status.success() {
            Ok(Self(path))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
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
    let disk = match SmallDisk::mount(site.path("small")) {
        Ok(disk) => disk,
        Err(reason) => return println!("skipped: a small file system cannot be mounted here: {reason}"),
    };
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
    wait("the disk to run full", || !server.get("/readyz").starts_with("HTTP/1.0 200"));
    let acked = noted.count();
    thread::sleep(Duration::from_secs(1));
    assert!(acked > 0);
    assert_eq!(noted.count(), acked, "a full disk acks nothing");

    fs::remove_file(&ballast).unwrap();
    wait("acks to go on", || noted.count() > acked);
    wait("readiness", || server.get("/readyz").starts_with("HTTP/1.0 200"));
    pumps.finish().unwrap();
    assert!(server.stop().success());
    assert_eq!(noted.count(), noted.check(&data).unwrap().batches);
    println!("{} batches were acked, and are stored", noted.count());
}

fn wait(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
