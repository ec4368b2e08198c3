//! The server is killed again and again while it seals, uploads, drops, splits and deletes: nothing acked is lost or there twice
//! but for what a policy deleted, and nothing is left over in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use icecore_device::{DeviceName, Identity, Spool};
use icecore_load::promises::Acked;
use icecore_load::pumps::{self, Pumps};
use icecore_tier::catalog::What;

use crate::accounts::{catalog, prove, unrest, wait_for_rest};
use crate::cold::Cold;
use crate::harness::{Site, crash_rounds, crash_seed};

/// Everything in one class, and kept.
const TOGETHER: &str = r#"
[[policy]]
name   = "kept"
cold   = [{ after = "1s", store = "archive" }]
local  = { drop_after = "2s" }
delete = "never"
"#;

/// One pump is deleted soon: what was sealed together with the others has to be split first.
const APART: &str = r#"
[[policy]]
name   = "brief"
match  = { device = "pump/0" }
cold   = [{ after = "1s", store = "archive" }]
local  = { drop_after = "2s" }
delete = { after = "3s", undo = "1s" }

[[policy]]
name   = "kept"
cold   = [{ after = "1s", store = "archive" }]
local  = { drop_after = "2s" }
delete = "never"
"#;

/// If nothing is to be seen for so long, that is a moment to be killed as well.
const LONGEST_LIFE: Duration = Duration::from_secs(4);

#[test]
fn a_killed_server_leaves_a_directory_in_order() {
    crash(&Cold::Directory, crash_rounds());
}

#[test]
fn a_killed_server_leaves_a_bucket_of_s3_in_order() {
    Cold::s3().iter().for_each(|cold| crash(cold, crash_rounds().div_ceil(2)));
}

fn crash(cold: &Cold, rounds: u64) {
    let mut site = Site::new();
    cold.configure(&mut site);
    let mut random = Rng::with_seed(crash_seed());
    let address = site.keep_address();
    for (key, value) in [("SEAL__AFTER", "1s"), ("TIER__INTERVAL", "200ms"), ("LOG__SEGMENT", "512KiB")] {
        site.set(key, value);
    }
    fs::write(site.path("retention.toml"), TOGETHER).unwrap();
    let identity = Identity::load(site.enroll_gateway("gateway", "pump/*")).unwrap();
    let disk = (0..3).map(|n| Spool::Disk { dir: site.path(&format!("spool-{n}")), max_bytes: 16 << 20 });

    let mut server = site.serve();
    let acked = Acked::default();
    let config = pumps::config(address.to_string(), identity);
    let pumps = Pumps::start(config, disk.collect(), &acked).unwrap();
    let work = Work::of(&site, cold);
    let mut moments = BTreeMap::new();
    for round in 0..rounds {
        // A policy that splits and deletes comes and goes.
        apply(&site, if round % 2 == 0 { TOGETHER } else { APART });
        let seen = work.wait_for(random.usize(1..25), Duration::from_millis(random.u64(..20)));
        server.kill();
        println!("round {round}: killed after {seen}, {} acks", acked.count());
        *moments.entry(seen).or_insert(0) += 1;
        // It opens its catalog only if all invariants hold.
        server = site.serve();
    }
    println!("the last thing seen before a kill: {moments:?}");
    apply(&site, TOGETHER);
    pumps.finish().unwrap();
    // It finishes the hot segment of the one before, and compares the store with its catalog.
    assert!(server.stop().success());
    let server = site.serve();
    wait_for_rest(|| unrest(&site, cold));
    apply(&site, APART);
    wait_for_rest(|| unrest(&site, cold).or_else(|| brief_is_there(&site)));
    assert!(server.stop().success());
    every_step_was_made(&site);
    prove(&site, cold, &acked, is_brief);
}

fn is_brief(device: &DeviceName) -> bool {
    device.as_str() == "pump/0"
}

fn apply(site: &Site, policies: &str) {
    let file = site.path("proposed.toml");
    fs::write(&file, policies).unwrap();
    site.expect(&["retention", "apply", file.to_str().unwrap(), "--yes"]);
}

/// What is still to be deleted, in the end.
fn brief_is_there(site: &Site) -> Option<String> {
    let view = catalog(site);
    let mut segments = view.segments().unwrap().map(|entry| entry.unwrap().segment);
    let brief = segments.find(|segment| segment.shares.iter().any(|share| share.policy == "brief"));
    brief.map(|segment| format!("{} is to be deleted", segment.id))
}

/// The scenario is about something.
fn every_step_was_made(site: &Site) {
    let mut steps: BTreeMap<&str, usize> = BTreeMap::new();
    for decision in catalog(site).history(..).unwrap() {
        let step = match decision.unwrap().what {
            What::Registered { from, .. } if from.is_empty() => "seals",
            What::Registered { .. } => "splits",
            What::Copied { .. } => "copies",
            What::LocalDropped { .. } => "drops",
            What::Deleted { .. } => "deletions",
            _ => continue,
        };
        *steps.entry(step).or_default() += 1;
    }
    println!("{steps:?}");
    assert_eq!(steps.len(), 5, "{steps:?}");
}

/// What can be seen of the tiers at work: files that come and go.
struct Work {
    directories: Vec<PathBuf>,
}

impl Work {
    fn of(site: &Site, cold: &Cold) -> Self {
        let mut directories = ["data/sealed", "data/manifests"].map(|name| site.path(name)).to_vec();
        if let Cold::Directory = cold {
            directories.push(site.path("bucket/segments"));
        }
        Self { directories }
    }

    /// Waits until so many files have come or gone, and then for `longer`; says what the last one was.
    fn wait_for(&self, mut changes: usize, longer: Duration) -> String {
        let (start, mut before) = (Instant::now(), self.look());
        while start.elapsed() < LONGEST_LIFE {
            thread::sleep(Duration::from_millis(1));
            let now = self.look();
            for changed in now.symmetric_difference(&before) {
                changes -= 1;
                if changes == 0 {
                    thread::sleep(longer);
                    let verb = if now.contains(changed) { "came" } else { "went" };
                    return format!("{} {verb}", kind(changed));
                }
            }
            before = now;
        }
        "nothing".to_owned()
    }

    fn look(&self) -> BTreeSet<PathBuf> {
        let files = |directory: &PathBuf| fs::read_dir(directory).into_iter().flatten();
        self.directories.iter().flat_map(files).map_while(|file| Some(file.ok()?.path())).collect()
    }
}

/// The directory of a file, and what its name ends with: `sealed/ice`.
fn kind(file: &Path) -> String {
    let directory = file.parent().and_then(Path::file_name).unwrap_or_default();
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!("{}/{}", directory.display(), name.split_once('.').map_or("", |(_, ending)| ending))
}
