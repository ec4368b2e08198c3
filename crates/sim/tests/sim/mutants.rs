//! Planted bugs: a simulation that does not notice them proves nothing.

use icecore_sim::{Mutant, run};

use crate::seeds;

#[test]
fn every_planted_bug_is_caught() {
    let mutants = Mutant::ALL.len() as u64;
    let caught = seeds::run_all(0..mutants, |n| {
        let mutant = Mutant::ALL[n as usize];
        let first = mutant.planted(|| (0..seeds::count()).find_map(|seed| run(seed).err()));
        (mutant, first)
    });
    for (mutant, first) in caught {
        let failure = first.unwrap_or_else(|| panic!("{mutant:?} survived {} histories", seeds::count()));
        println!("{mutant:?} is caught after {} histories: {}", failure.seed + 1, failure.violation);
    }
}
