//! A chain as one file, for whoever keeps it; and what is kept, where all else is damaged.

use std::path::Path;

use icecore_log::Disk;
use icecore_log::disk::Access;
use icecore_state::snapshot::{Kind, Snapshot};

use super::snapshots::{Bench, DATA, one_history, shown};

/// A full snapshot at block 1, and a delta at block 3.
fn bench() -> Bench {
    let (mut bench, history) = (Bench::new(), one_history());
    bench.fold(0, &history(0));
    bench.snapshot();
    bench.fold(1, &history(1));
    bench.fold(0, &history(2));
    bench.snapshot();
    bench
}

#[test]
fn a_chain_is_saved_as_one_file_from_which_a_start_goes_on() {
    let bench = bench();
    assert!(Bench::new().snapshots.saved().unwrap().is_none());
    let saved = bench.snapshots.saved().unwrap().unwrap();
    assert_eq!((saved.newest.point.block, saved.newest.point.position), (3, 30));
    assert!(matches!(saved.newest.kind, Kind::Delta { .. }) && saved.bytes > 0);

    let kept = Path::new(DATA).join("snapshots/kept");
    bench.disk.create_dir(&kept).unwrap();
    let file = kept.join("00000000000000000003.full");
    let whole = bench.snapshots.save(&file, 9).unwrap().unwrap();
    assert_eq!((whole.head().kind, whole.head().point.block, whole.head().created), (Kind::Full, 3, 9));
    whole.verify().unwrap();

    // Everything else is damaged: what is kept serves, and is not retired with the others.
    for snapshot in bench.snapshots.list().unwrap().0.iter().filter(|other| other.path() != file) {
        bench.disk.flip_bit(snapshot.path(), 8 * (snapshot.bytes() / 2));
    }
    let (loaded, faults) = bench.snapshots.load(&|_| true).unwrap();
    assert_eq!(shown(&loaded.unwrap().fleet), shown(&bench.fleet), "{faults:?}");
    // What is damaged cannot be made one snapshot, and nothing goes for it.
    bench.snapshots.tidy(0).unwrap_err();
    assert!(bench.disk.open(&file, Access::Read).is_ok());
}

#[test]
fn others_are_asked_for_only_where_those_here_are_damaged() {
    let bench = bench();
    let elsewhere = Path::new(DATA).join("elsewhere");
    bench.snapshots.save(&elsewhere, 9).unwrap();
    let others = || vec![Snapshot::open(&bench.disk, &elsewhere).unwrap()];
    let never = || panic!("nothing is damaged");
    assert!(bench.snapshots.load_or(&|_| true, &never).unwrap().0.is_some());
    for snapshot in &bench.snapshots.list().unwrap().0 {
        bench.disk.flip_bit(snapshot.path(), 8 * (snapshot.bytes() / 2));
    }
    let (loaded, faults) = bench.snapshots.load_or(&|_| true, &others).unwrap();
    let loaded = loaded.unwrap();
    assert_eq!((loaded.head.point.block, shown(&loaded.fleet)), (3, shown(&bench.fleet)), "{faults:?}");
}

#[test]
fn what_is_foreign_is_set_aside() {
    let bench = bench();
    let aside = bench.snapshots.set_aside(&|head| head.point.block > 1).unwrap();
    assert_eq!(aside.len(), 1);
    assert_eq!(bench.snapshots.saved().unwrap().unwrap().newest.point.block, 1);
    let there = bench.disk.list(&Path::new(DATA).join("snapshots")).unwrap();
    assert_eq!(there, ["00000000000000000001.full", "00000000000000000003.delta.aside"]);
}
