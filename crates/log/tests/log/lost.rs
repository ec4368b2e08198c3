//! Sealed segments that are nowhere any more: what was in them counts as missing, and may be stored again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use icecore_log::disk::SimDisk;
use icecore_log::{Disk, Fact, LogReader, LostEvents, Scan, Sealing, SegmentId, forget_tail};

use crate::support::{Log, batch, fill, four_sources, schema, seal};

const DATA: &str = "/data";

/// Two sealed segments of 60 batches of each of four sources; the ids of the second one, whose sources have an odd number of letters.
fn sealed() -> (Arc<dyn Disk>, SegmentId) {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let mut log = Log::open(&disk, Path::new(DATA)).unwrap();
    fill(&mut log, &four_sources(), 0..60);
    drop(log);
    let log = Log::open(&disk, Path::new(DATA)).unwrap();
    let Ok(Sealing::Done(manifest)) = seal(&log, u64::MAX) else { panic!("nothing is sealed") };
    let odd = manifest.segments().find(|(_, child)| child.class == "odd").unwrap().0;
    (disk, odd)
}

/// The devices and sequences that are stored, of the manifests.
fn stored(disk: &Arc<dyn Disk>) -> BTreeSet<(String, u64)> {
    let mut stored = BTreeSet::new();
    let reader = LogReader::open(Arc::clone(disk), Path::new(DATA)).unwrap();
    let mut tell = |fact: &Fact<'_>| {
        if let Fact::Sealed { source, sequences, .. } = fact {
            stored.extend(sequences.clone().map(|sequence| (source.device.to_string(), sequence)));
        }
    };
    reader.facts(&mut tell).unwrap();
    stored
}

#[test]
fn what_only_a_lost_segment_had_is_not_stored_any_more() {
    let (disk, odd) = sealed();
    let all = stored(&disk);
    let reader = LogReader::open(Arc::clone(&disk), Path::new(DATA)).unwrap();
    assert_eq!(reader.lose(&|_| false).unwrap(), LostEvents::default());
    let from = reader.sealed().find(|(id, _)| *id == odd).unwrap().1.positions.start;

    disk.remove(&Path::new(DATA).join(format!("sealed/{odd}.ice"))).unwrap();
    let lost = reader.lose(&|id| id == odd).unwrap();
    let is_odd = |(device, _): &&(String, u64)| !device.len().is_multiple_of(2);
    assert_eq!(
        lost,
        LostEvents { events: all.iter().filter(is_odd).count() as u64, from: Some(from), unknown: 0 }
    );
    assert!(lost.events > 0);
    let left: BTreeSet<_> = all.iter().filter(|sequence| !is_odd(sequence)).cloned().collect();
    assert_eq!(stored(&disk), left);

    let mut log = Log::open(&disk, Path::new(DATA)).unwrap();
    let device =
        four_sources().into_iter().find(|source| !source.device.as_str().len().is_multiple_of(2)).unwrap();
    assert!(log.appender.find_batch(&device.device, &device.epoch, 0).unwrap().is_none(), "it is new");
    log.store(&device, &schema("a"), batch(0, 10, 100)).unwrap();
    drop(log);

    let reader = LogReader::open(Arc::clone(&disk), Path::new(DATA)).unwrap();
    assert_eq!(reader.lose(&|_| false).unwrap(), LostEvents::default(), "it is there again");
    assert_eq!(stored(&disk), all);
    assert!(reader.scan(Scan::default()).any(|record| record.is_err()), "the file is not");
}

#[test]
fn where_others_were_forgotten_nobody_can_tell() {
    let (disk, odd) = sealed();
    let reader = LogReader::open(Arc::clone(&disk), Path::new(DATA)).unwrap();
    let even = reader.sealed().find(|(id, _)| *id != odd).unwrap().0;
    for id in [odd, even] {
        disk.remove(&Path::new(DATA).join(format!("sealed/{id}.ice"))).unwrap();
    }
    forget_tail(&*disk, Path::new(DATA), even).unwrap();
    let all = stored(&disk);
    let lost = reader.lose(&|id| id == odd).unwrap();
    assert_eq!((lost.events, lost.unknown), (0, 1));
    assert_eq!(stored(&disk), all, "it counts as stored");
}
