//! A seal, or a split, that is cut short at any point changes nothing of what the log says; not after another crash either.

use std::ops::ControlFlow::Continue;
use std::path::Path;
use std::sync::Arc;

use icecore_log::disk::{Crash, SimDisk};
use icecore_log::mutants::{self, Mutant};
use icecore_log::{Disk, LogReader, SealPlan, Sealing};
use icecore_wire::Schema;

use crate::support::{Log, contents, fill, four_sources, seal};

const DATA: &str = "/data";

#[derive(Debug, Clone, Copy)]
enum Operation {
    Seal,
    Split,
}

/// Interrupts the operation after `changes` changes to the disk, and recovers. Whether it was interrupted at all.
fn cut_short(operation: Operation, changes: u64, crash: Crash, seed: u64) -> Result<bool, String> {
    let sim = SimDisk::new(seed);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let open = |when: &str| Log::open(&disk, Path::new(DATA)).map_err(|error| format!("{when}: {error}"));
    let read = |when: &str| contents(&disk, Path::new(DATA)).map_err(|error| format!("{when}: {error}"));
    let mut log = open("at first")?;
    let sources = four_sources();
    fill(&mut log, &sources, 0..14);
    if let Operation::Split = operation {
        seal(&log, u64::MAX).map_err(|error| error.to_string())?;
    }
    let expected = read("at first")?;

    sim.go_down_after(changes);
    let ended = match operation {
        Operation::Seal => seal(&log, u64::MAX),
        Operation::Split => split(&log, &disk),
    };
    let interrupted = sim.is_down();
    if !interrupted && !matches!(ended, Ok(Sealing::Done(_))) {
        return Err(format!("the seal ends with {ended:?}"));
    }
    drop(log);
    sim.crash(crash);
    let mut log = open("after the crash")?;
    if read("after the crash")? != expected {
        return Err("the log says something else after the crash".into());
    }
    for (round, source) in (0..14).flat_map(|round| sources.iter().map(move |source| (round, source))) {
        let found = log.appender.find_batch(&source.device, &source.epoch, round * 10);
        if !matches!(found, Ok(Some(_))) {
            return Err(format!("a batch is not found after the crash: {found:?}"));
        }
    }
    // Several segments, so that what recovery has removed is gone for good.
    fill(&mut log, &sources, 14..24);
    let expected = read("going on")?;
    drop(log);
    sim.crash(Crash::Power);
    open("after another crash")?;
    if read("after another crash")? != expected {
        return Err("the log says something else after another crash".into());
    }
    Ok(interrupted)
}

fn split(log: &Log, disk: &Arc<dyn Disk>) -> Result<Sealing, icecore_log::LogError> {
    let (id, _) = LogReader::open(Arc::clone(disk), Path::new(DATA))?.sealed().next().unwrap();
    let classify = |schema: &Schema, _: &_, _| Arc::from(schema.name());
    let plan = SealPlan { hot_bytes: 0, classify: &classify, pace: &mut |_| Continue(()), now: 7 };
    log.committer.sealer().split(id, plan)
}

fn cut_short_anywhere(seeds: std::ops::Range<u64>) -> Result<(), String> {
    for (seed, operation) in seeds.flat_map(|seed| [(seed, Operation::Seal), (seed, Operation::Split)]) {
        for crash in [Crash::Process, Crash::Power] {
            for changes in 0.. {
                match cut_short(operation, changes, crash, seed) {
                    Ok(true) => {}
                    Ok(false) if changes > 8 => break,
                    Ok(false) => return Err("there was nothing to cut short".into()),
                    Err(broken) => {
                        return Err(format!(
                            "{operation:?}, seed {seed}, {crash:?} after {changes}: {broken}"
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn nothing_is_lost_wherever_it_is_cut_short() {
    cut_short_anywhere(0..2).unwrap_or_else(|broken| panic!("{broken}"));
}

#[test]
fn planted_bugs_of_seals_are_caught() {
    let mutants = [
        Mutant::ManifestBeforeChildren,
        Mutant::ChildrenNotNamed,
        Mutant::SourcesBeforeManifest,
        Mutant::TrustManifest,
    ];
    for mutant in mutants {
        mutants::plant(Some(mutant));
        let caught = cut_short_anywhere(0..20);
        mutants::plant(None);
        let broken = caught.expect_err(&format!("{mutant:?} goes unnoticed"));
        println!("{mutant:?} is caught: {broken}");
    }
}
