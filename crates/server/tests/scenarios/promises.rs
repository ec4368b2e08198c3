//! What devices were promised, and whether the log keeps it.

use std::collections::BTreeMap;
use std::env;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use icecore_device::{DeviceName, Digest, Epoch, SequenceRanges};
use icecore_log::{LogReader, RealDisk, Record, Scan};

/// How often a crash test crashes: `ICECORE_CRASH_ROUNDS`, or 20 times.
pub(crate) fn crash_rounds() -> u64 {
    env::var("ICECORE_CRASH_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap())
}

type Source = (DeviceName, Epoch);

/// Batches that were acked as durable.
#[derive(Debug, Default)]
pub(crate) struct Acked {
    /// By device and epoch, then by first sequence: the end, and the digest of what was sent. A device that restarts does
    /// not read again what the server has already, so it does not know that digest.
    batches: BTreeMap<Source, BTreeMap<u64, (u64, Option<Digest>)>>,
}

/// What the log holds of one epoch.
#[derive(Debug, Default)]
struct Held {
    batches: BTreeMap<u64, (u64, Digest)>,
    stored: SequenceRanges,
    /// Stored, refused or dropped.
    settled: SequenceRanges,
}

impl Acked {
    pub(crate) fn insert(
        &mut self,
        device: DeviceName,
        epoch: Epoch,
        range: Range<u64>,
        digest: Option<Digest>,
    ) {
        self.batches.entry((device, epoch)).or_default().insert(range.start, (range.end, digest));
    }

    pub(crate) fn count(&self) -> usize {
        self.batches.values().map(BTreeMap::len).sum()
    }

    pub(crate) fn epochs(&self) -> usize {
        self.batches.len()
    }

    /// Checks the log in `data`: every acked batch is there, nothing is there twice, and nothing is missing below what
    /// is there. Returns how many batches are.
    pub(crate) fn check(&self, data: &Path) -> usize {
        let held = read(data);
        for ((device, epoch), batches) in &self.batches {
            let there =
                held.get(&(device.clone(), *epoch)).unwrap_or_else(|| panic!("{device} {epoch} is lost"));
            for (first, (end, digest)) in batches {
                let stored = there.batches.get(first);
                let same = stored.is_some_and(|(e, d)| e == end && digest.is_none_or(|digest| digest == *d));
                assert!(
                    same,
                    "{device} {epoch}: batch {first}..{end} {digest:?} was acked, {stored:?} is stored"
                );
            }
        }
        for ((device, epoch), there) in &held {
            let missing = there.settled.gaps(there.stored.next());
            assert!(missing.is_empty(), "{device} {epoch}: {missing:?} are missing without a reason");
        }
        held.values().map(|there| there.batches.len()).sum()
    }
}

fn read(data: &Path) -> BTreeMap<Source, Held> {
    let mut held = BTreeMap::<Source, Held>::new();
    let reader = LogReader::open(Arc::new(RealDisk), data).unwrap();
    let mut position = 0;
    for record in reader.scan(Scan::default()) {
        let (source, range, batch) = match record.unwrap() {
            Record::Batch(batch) => {
                let range = batch.first_sequence..batch.first_sequence + u64::from(batch.count);
                (Arc::clone(&batch.source), range, Some(batch))
            }
            Record::Refused(refused) => (refused.source, refused.range, None),
            Record::Dropped(dropped) => (dropped.source, dropped.range, None),
        };
        let there = held.entry((source.device.clone(), source.epoch)).or_default();
        there.settled.insert(range.clone());
        let Some(batch) = batch else { continue };
        assert_eq!(batch.position, position, "positions are dense");
        position += u64::from(batch.count);
        assert!(!there.stored.overlaps(&range), "{source:?}: {range:?} is stored twice");
        there.stored.insert(range.clone());
        there.batches.insert(range.start, (range.end, Digest::of(&batch.payload)));
    }
    held
}
