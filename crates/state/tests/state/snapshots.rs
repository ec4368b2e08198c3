//! Snapshots at random places: a chain is what was folded, and what goes on from it ends the same, to the bit.

use std::path::Path;
use std::sync::Arc;

use icecore_log::disk::{Crash, SimDisk};
use icecore_log::{Disk, LogPoint};
use icecore_state::Fleet;
use icecore_state::snapshot::{Kind, Loaded, Snapshot, SnapshotHead, Snapshots};
use proptest::prelude::*;

use super::history::{self, History};

pub(crate) const DATA: &str = "/data";

/// A log's state and its snapshots; a block is as many batches as are folded at once.
pub(crate) struct Bench {
    pub(crate) disk: SimDisk,
    pub(crate) snapshots: Snapshots,
    pub(crate) fleet: Fleet,
    pub(crate) block: u64,
    base: Option<u64>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let disk = SimDisk::new(7);
        disk.create_dir(Path::new(DATA)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let snapshots = Snapshots::new(Arc::new(disk.clone()), Path::new(DATA));
        Self { disk, snapshots, fleet: Fleet::default(), block: 0, base: None }
    }

    pub(crate) fn fold(&mut self, device: u8, history: &History) {
        let told = history.told_of(&format!("hall/press {device}"));
        told.iter().for_each(|batch| batch.fold_into(&mut self.fleet));
        self.block += 1;
    }

    /// Writes what has changed since the last snapshot.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        self.fleet.cut();
        let mut devices = self.fleet.capture(usize::MAX).unwrap();
        devices.sort_by(|(a, _), (b, _)| a.cmp(b));
        let kind = self.base.map_or(Kind::Full, |base| Kind::Delta { base });
        self.base = Some(self.block);
        self.snapshots.write(head(kind, self.block), devices.into_iter().map(Ok)).unwrap()
    }

    pub(crate) fn load(&self) -> Loaded {
        let (loaded, faults) = self.snapshots.load(&|_| true).unwrap();
        assert!(faults.is_empty(), "{faults:?}");
        loaded.unwrap()
    }
}

pub(crate) fn head(kind: Kind, block: u64) -> SnapshotHead {
    let point = LogPoint { block, position: 10 * block, chain: [3; 32] };
    SnapshotHead { log: [1; 16], kind, point, term: 2, received: 5, created: 6, devices: 0 }
}

/// All of a fleet, to the bit.
pub(crate) fn shown(fleet: &Fleet) -> Vec<String> {
    let mut shown: Vec<_> = fleet.devices().map(|(name, state)| format!("{name} {state:?}")).collect();
    shown.sort();
    shown
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_chain_is_what_was_folded_and_goes_on_the_same(
        rounds in prop::collection::vec((prop::collection::vec((0_u8..8, history::histories()), 0..3), any::<bool>()), 1..6),
        after in prop::collection::vec((0_u8..8, history::histories()), 0..3),
    ) {
        let mut bench = Bench::new();
        bench.snapshot();
        for (devices, tidy) in rounds {
            devices.iter().for_each(|(device, history)| bench.fold(*device, history));
            if bench.fleet.has_changed() {
                bench.snapshot();
            }
            if tidy {
                bench.snapshots.tidy(0).unwrap();
            }
        }
        let mut loaded = bench.load();
        prop_assert_eq!(loaded.head.point.block, bench.block);
        prop_assert_eq!(shown(&loaded.fleet), shown(&bench.fleet));
        for (device, history) in &after {
            bench.fold(*device, history);
            let told = history.told_of(&format!("hall/press {device}"));
            told.iter().for_each(|batch| batch.fold_into(&mut loaded.fleet));
        }
        prop_assert_eq!(shown(&loaded.fleet), shown(&bench.fleet), "from a snapshot or without one");
    }
}

pub(crate) fn one_history() -> impl Fn(u8) -> History {
    let event = super::statistics::event;
    move |n| History(vec![(0..5).map(|sequence| event(sequence + 5 * u64::from(n))).collect()])
}

#[test]
fn a_long_chain_becomes_one_and_two_are_kept() {
    let (mut bench, history) = (Bench::new(), one_history());
    for round in 0..30 {
        bench.fold(round % 5, &history(round));
        bench.snapshot();
        bench.snapshots.tidy(0).unwrap();
        assert_eq!(shown(&bench.load().fleet), shown(&bench.fleet), "{round}");
    }
    let (snapshots, _) = bench.snapshots.list().unwrap();
    let fulls = snapshots.iter().filter(|snapshot| snapshot.head().kind == Kind::Full).count();
    assert_eq!(fulls, 2);
    assert!(snapshots.len() <= 2 + 2 * 8, "{}", snapshots.len());
}

#[test]
fn what_a_crash_leaves_of_a_snapshot_is_none() {
    let history = one_history();
    for seed in 0..12 {
        let mut bench = Bench::new();
        bench.fold(0, &history(0));
        bench.snapshot();
        let before = shown(&bench.fleet);
        bench.fold(1, &history(1));
        bench.disk.go_down_after(seed);
        bench.fleet.cut();
        let devices = bench.fleet.capture(usize::MAX).unwrap();
        let written = bench.snapshots.write(head(Kind::Delta { base: 1 }, 2), devices.into_iter().map(Ok));
        bench.disk.crash(Crash::Power);
        let (loaded, after) = (shown(&bench.load().fleet), shown(&bench.fleet));
        // A file that has its name is whole, whether the name was durable or not.
        assert!(loaded == after || (written.is_err() && loaded == before), "{seed}");
    }
}
