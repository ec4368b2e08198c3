//! Thousands of seeded histories of the whole system: whatever happens, what was promised holds.
//!
//! `ICECORE_SIM_SEEDS` runs more of them than the default, `ICECORE_SIM_SEED` a single one and prints its trace.

use icecore_sim::{Tally, run};
use icecore_wire::Digest;

use crate::seeds;

#[test]
fn every_history_keeps_the_promises() {
    if let Some(seed) = seeds::number("ICECORE_SIM_SEED") {
        let history = run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        println!("{}{:?}", history.trace, history.tally);
        return;
    }
    let tallies = seeds::run_all(0..seeds::count(), |seed| match run(seed) {
        Ok(history) => history.tally,
        Err(failure) => panic!("{failure}"),
    });
    let sum = tallies.iter().fold(Tally::default(), |sum, tally| sum + *tally);
    println!("{} histories: {sum:?}", tallies.len());
    // A simulation in which something never happens proves nothing about it.
    let Tally { stored, acked, refused, duplicates, recoveries, torn, full, failed, sealed } = sum;
    for (what, count) in [
        ("stored", stored),
        ("acked", acked),
        ("refused", refused),
        ("duplicates", duplicates),
        ("recoveries", recoveries),
        ("torn", torn),
        ("full", full),
        ("failed", failed),
        ("sealed", sealed),
    ] {
        assert!(count > 0, "{what} never happened");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..20 {
        let trace = || Digest::of(run(seed).unwrap_or_else(|e| panic!("{e}")).trace.as_bytes());
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}
