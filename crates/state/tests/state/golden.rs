//! Snapshots of format version 1, frozen: every later version must read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_log::Disk;
use icecore_log::RealDisk;
use icecore_log::disk::Access;
use icecore_state::snapshot::Snapshots;

use super::history::{Event, History};
use super::snapshots::{Bench, shown};
use super::statistics::event;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// Every kind of field with every part of its statistics, an event ahead of its time, two epochs, a gap.
fn write() -> Bench {
    let mut bench = Bench::new();
    let event = |sequence: u64, mode: Option<&str>| Event {
        level: mode.map(|_| 20.5 + sequence as f64),
        count: 7 * (sequence as i64 % 4),
        heading: 350.0 + sequence as f64,
        mode: mode.map(str::to_owned),
        ..event(sequence)
    };
    let first = vec![event(0, Some("on")), event(1, None), event(2, Some("größe")), event(3, Some("on"))];
    let rogue = vec![Event { time: 2_934_000_000_000_000_000, ..event(9, Some("off")) }];
    let second = vec![Event { epoch: 1, revolutions: f64::NAN, ..event(0, Some("off")) }];
    bench.fold(1, &History(vec![first.clone()]));
    bench.fold(2, &History(vec![first, rogue]));
    bench.snapshot();
    bench.fold(2, &History(vec![second]));
    bench.fold(3, &History(vec![vec![event(5, None)]]));
    bench.snapshot();
    bench
}

/// Writes the frozen files anew with `ICECORE_WRITE_GOLDEN=1`: only ever for a new version, beside the old one.
#[test]
fn version_1_is_written_and_read_as_it_was() {
    let bench = write();
    let write_anew = std::env::var_os("ICECORE_WRITE_GOLDEN").is_some();
    for (path, len) in bench.disk.files() {
        let mut bytes = vec![0; len as usize];
        bench.disk.open(&path, Access::Read).unwrap().read_at(&mut bytes, 0).unwrap();
        let file = golden().join(path.strip_prefix("/data").unwrap());
        if write_anew {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &bytes).unwrap();
        }
        assert!(fs::read(&file).unwrap() == bytes, "{} is written otherwise", file.display());
    }
    let (loaded, faults) = Snapshots::new(Arc::new(RealDisk), &golden()).load(&|_| true).unwrap();
    assert!(faults.is_empty(), "{faults:?}");
    let found = shown(&loaded.unwrap().fleet).join("\n") + "\n";
    let states = golden().join("states.txt");
    if write_anew {
        fs::write(&states, &found).unwrap();
    }
    assert_eq!(found, fs::read_to_string(states).unwrap());
    assert_eq!(found, shown(&bench.fleet).join("\n") + "\n");
}
