//! A bit flipped anywhere on the disk that a history left behind is noticed, with file and offset, or carries nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use icecore_log::disk::{Access, SimDisk};
use icecore_log::sealed::SealedSegment;
use icecore_log::{Disk, Fact, HotLog, LogReader, Options, Record};
use icecore_sim::{data, read_log, run};
use icecore_wire::Digest;

use crate::seeds;

/// Flips in each history; each is read and recovered.
const FLIPS: usize = 60;

/// A disk writes no less than this.
const SECTOR: u64 = 512;

/// What became of a flipped bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Reported,
    CarriesNothing,
}

#[test]
fn a_flipped_bit_is_reported_or_carries_nothing() {
    let histories = (seeds::count() / 40).max(1);
    let outcomes = seeds::run_all(0..histories, |seed| {
        let disk = run(seed).unwrap_or_else(|failure| panic!("{failure}")).disk;
        let mut rng = Rng::with_seed(seed);
        (0..FLIPS).map(|_| flip(&disk, &mut rng, seed)).collect::<Vec<_>>()
    });
    let mut sum = BTreeMap::new();
    for outcome in outcomes.into_iter().flatten() {
        *sum.entry(outcome).or_insert(0) += 1;
    }
    println!("{} flips: {sum:?}", sum.values().sum::<usize>());
    assert_eq!(sum.len(), 2, "both happen");
}

/// Flips one bit of a copy of the disk.
fn flip(disk: &SimDisk, rng: &mut Rng, seed: u64) -> Outcome {
    let files: Vec<_> = disk.files().into_iter().filter(|(_, len)| *len > 0).collect();
    let (file, len) = &files[rng.usize(..files.len())];
    let bit = rng.u64(..len * 8);
    let place = format!("seed {seed}, {} byte {}", file.display(), bit / 8);
    let flipped = disk.copy();
    flipped.flip_bit(file, bit);

    let whole = seen(disk).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    match seen(&flipped) {
        Ok(found) => assert!(found == whole, "{place}: something else is read, in silence"),
        Err(report) => {
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(report.contains(name) && report.contains("offset"), "{place}: reported as {report}");
            return Outcome::Reported;
        }
    }
    // Nobody noticed. Then nothing from this sector on may matter.
    let shortened = disk.copy();
    let cut = bit / 8 / SECTOR * SECTOR;
    shortened.open(file, Access::Write).unwrap().set_len(cut).unwrap();
    assert!(seen(&shortened).is_ok_and(|found| found == whole), "{place}: nobody noticed");
    Outcome::CarriesNothing
}

/// What is read from a disk and what recovery tells, in a form that can be compared; or the report of damage.
fn seen(disk: &SimDisk) -> Result<String, String> {
    let reading: Arc<dyn Disk> = Arc::new(disk.copy());
    let records = read_log(reading).map_err(|e| e.to_string())?;
    let mut text: Vec<String> = records.iter().map(describe).collect();
    verify_sealed(disk)?;

    let (opening, mut facts) = (disk.copy(), Vec::new());
    let mut fold = |fact: &Fact<'_>| facts.push(format!("{fact:?}"));
    let options = Options { segment_bytes: 16 << 10, ..Options::default() };
    let opened = HotLog::open(Arc::new(opening), data(), options, 0, &mut fold);
    let (_, _, recovery) = opened.map_err(|e| e.to_string())?;
    if let Some(torn) = recovery.torn {
        return Err(format!("torn at {} offset {}", torn.file.display(), torn.offset));
    }
    facts.sort_unstable();
    text.append(&mut facts);
    text.push(format!("{} {}", recovery.position, recovery.received));
    Ok(text.join("\n"))
}

/// What reads a segment in log order does not need all of it.
fn verify_sealed(disk: &SimDisk) -> Result<(), String> {
    let disk: Arc<dyn Disk> = Arc::new(disk.copy());
    let reader = LogReader::open(Arc::clone(&disk), data()).map_err(|e| e.to_string())?;
    for (id, _) in reader.sealed() {
        let path = id.file(data());
        let file = disk.open(&path, Access::Read).map_err(|e| e.to_string())?;
        let segment = SealedSegment::open(Arc::new(file), path).map_err(|e| e.to_string())?;
        if let Some(damage) = segment.verify().map_err(|e| e.to_string())?.first() {
            return Err(damage.to_string());
        }
    }
    Ok(())
}

fn describe(record: &Record) -> String {
    match record {
        Record::Batch(batch) => {
            let (position, received, digest) = (batch.position, batch.received, batch.digest);
            let payload = Digest::of(&batch.payload);
            format!("{position} {received} {:?} {} {digest} {payload}", batch.source, batch.first_sequence)
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_history_leaves_every_kind_of_file() {
    let kinds = |disk: &SimDisk| disk.files().iter().map(|(file, _)| kind(file)).collect::<Vec<_>>();
    let all: Vec<String> =
        (0..20).flat_map(|seed| kinds(&run(seed).expect("it keeps the promises").disk)).collect();
    for wanted in ["hot", "dir", "watermark", "log.id", "ice", "manifest"] {
        assert!(all.iter().any(|kind| kind == wanted), "no {wanted} file");
    }
}

fn kind(file: &Path) -> String {
    let kind = file.extension().filter(|_| file.file_name() != Some("log.id".as_ref())).or(file.file_name());
    kind.unwrap_or_default().to_string_lossy().into_owned()
}
