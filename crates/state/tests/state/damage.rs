//! Flipped bits: told, and what is older is used.

use std::path::PathBuf;

use super::snapshots::{Bench, one_history, shown};

#[test]
fn whatever_bit_is_flipped_the_state_is_one_that_was() {
    let (mut bench, history) = (Bench::new(), one_history());
    let mut states = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    for round in 0..3 {
        bench.fold(round, &history(round));
        files.push(bench.snapshot().path().to_owned());
        states.push(shown(&bench.fleet));
    }
    for (nth, file) in files.iter().enumerate() {
        let bits = 8 * bench.disk.files().iter().find(|(path, _)| path == file).unwrap().1;
        for bit in (0..bits).step_by(61) {
            bench.disk.flip_bit(file, bit);
            let (loaded, faults) = bench.snapshots.load(&|_| true).unwrap();
            // Only the padding between pages may go unnoticed.
            let found = loaded.map(|loaded| shown(&loaded.fleet));
            let expected =
                if faults.is_empty() { states.last() } else { nth.checked_sub(1).map(|n| &states[n]) };
            assert_eq!(found.as_ref(), expected, "bit {bit} of {}", file.display());
            if let Some(fault) = faults.first() {
                assert!(fault.to_string().contains(file.to_str().unwrap()) || nth == 0, "{fault}");
            }
            bench.disk.flip_bit(file, bit);
        }
    }
}

#[test]
fn a_damaged_chain_is_passed_over_for_the_one_before() {
    let (mut bench, history) = (Bench::new(), one_history());
    for round in 0..12 {
        bench.fold(round % 3, &history(round));
        bench.snapshot();
        bench.snapshots.tidy(0).unwrap();
    }
    let (snapshots, _) = bench.snapshots.list().unwrap();
    let full = snapshots.iter().find(|snapshot| snapshot.path().extension().unwrap() == "full").unwrap();
    let chain_before =
        snapshots.iter().filter(|snapshot| snapshot.head().point.block <= full.head().point.block);
    assert!(chain_before.count() >= 2);
    bench.disk.flip_bit(full.path(), 8 * 200);
    let (loaded, faults) = bench.snapshots.load(&|_| true).unwrap();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(shown(&loaded.unwrap().fleet), shown(&bench.fleet), "the deltas of the chain before go on");
}
