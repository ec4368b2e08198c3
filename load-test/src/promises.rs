//! What devices were promised, and whether the log keeps it: the record of acks that the clients made, against a replay.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow, bail, ensure};
use icecore_device::{DeviceName, Digest, Epoch, Event, Level, SequenceRanges};
use icecore_log::{DeviceFilter, LogReader, OnAbsent, RealDisk, Record, Scan};

type Source = (DeviceName, Epoch);

/// Batches that were acked as durable. Cheap to clone; all clones are the same record.
#[derive(Debug, Clone, Default)]
pub struct Acked(Arc<Mutex<Batches>>);

#[derive(Debug, Default)]
struct Batches {
    /// By device and epoch, then by first sequence: the end, and the digest of what was sent. A device that restarts does
    /// not read again what the server has already, so it does not know that digest.
    sources: BTreeMap<Source, BTreeMap<u64, (u64, Option<Digest>)>>,
    events: u64,
    /// The first batch that was acked with other content than an acked one of the same sequences.
    contradiction: Option<(Source, Range<u64>)>,
}

/// What the log was found to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// Batches.
    pub batches: usize,
    /// Events in them.
    pub events: u64,
}

/// What a log was found to hold, by device and epoch.
#[derive(Debug, Default)]
pub struct Contents(BTreeMap<Source, Held>);

/// What the log holds of one epoch.
#[derive(Debug, Default)]
struct Held {
    batches: BTreeMap<u64, (u64, Digest)>,
    stored: SequenceRanges,
    /// Stored, refused or dropped.
    settled: SequenceRanges,
}

impl Acked {
    /// Notes that a batch was acked as durable, with the digest of what was sent if the client knows it.
    pub fn insert(&self, device: DeviceName, epoch: Epoch, range: Range<u64>, digest: Option<Digest>) {
        let mut batches = self.batches();
        let source = (device, epoch);
        let of_source = batches.sources.entry(source.clone()).or_default();
        let Some((end, known)) = of_source.get_mut(&range.start) else {
            of_source.insert(range.start, (range.end, digest));
            batches.events += range.end - range.start;
            return;
        };
        let differs = known.zip(digest).is_some_and(|(known, digest)| known != digest);
        if *end != range.end || differs {
            batches.contradiction.get_or_insert((source, range));
        } else {
            *known = known.or(digest);
        }
    }

    /// Notes what `event` says, if it is a durable ack.
    pub fn note(&self, event: &Event) {
        if let Event::Acked { device, epoch, range, level, digest, .. } = event
            && *level >= Level::Durable
        {
            self.insert(device.clone(), *epoch, range.clone(), *digest);
        }
    }

    /// Batches acked so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.batches().sources.values().map(BTreeMap::len).sum()
    }

    /// Events in them.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.batches().events
    }

    /// Epochs of which batches were acked.
    #[must_use]
    pub fn epochs(&self) -> usize {
        self.batches().sources.len()
    }

    /// The same acks, of those devices only for which `wanted` holds.
    #[must_use]
    pub fn of(&self, wanted: impl Fn(&DeviceName) -> bool) -> Self {
        let batches = self.batches();
        let sources = batches.sources.iter().filter(|((device, _), _)| wanted(device));
        let sources: BTreeMap<_, _> =
            sources.map(|(source, acked)| (source.clone(), acked.clone())).collect();
        let events = sources.values().flatten().map(|(first, (end, _))| end - first).sum();
        let contradiction = batches.contradiction.clone().filter(|((device, _), _)| wanted(device));
        Self(Arc::new(Mutex::new(Batches { sources, events, contradiction })))
    }

    /// Checks the log of the data directory `data`: every acked batch is there with the bytes that were sent, nothing is
    /// there twice, and nothing is missing below what is there. Returns what is there.
    ///
    /// # Errors
    /// The first promise that was not kept, or what keeps the log from being read.
    pub fn check(&self, data: &Path) -> Result<Stored> {
        self.compare(&Contents::read(data)?)
    }

    /// [`Acked::check`] of a log that was read already.
    ///
    /// # Errors
    /// The first promise that was not kept.
    pub fn compare(&self, contents: &Contents) -> Result<Stored> {
        let batches = self.batches();
        if let Some(((device, epoch), range)) = &batches.contradiction {
            bail!("{device} {epoch}: {range:?} was acked, and again with other content");
        }
        for (source, batches) in &batches.sources {
            let (device, epoch) = source;
            let there = contents.0.get(source);
            let there = there.with_context(|| format!("{device} {epoch} was acked and is not in the log"))?;
            for (first, (end, digest)) in batches {
                let stored = there.batches.get(first);
                let same = stored.is_some_and(|(e, d)| e == end && digest.is_none_or(|digest| digest == *d));
                ensure!(
                    same,
                    "{device} {epoch}: batch {first}..{end} {digest:?} was acked, {stored:?} is stored"
                );
            }
        }
        let mut total = Stored::default();
        for ((device, epoch), there) in &contents.0 {
            let missing = there.settled.gaps(there.stored.next());
            ensure!(missing.is_empty(), "{device} {epoch}: {missing:?} are missing without a reason");
            total.batches += there.batches.len();
            total.events += there.batches.iter().map(|(first, (end, _))| end - first).sum::<u64>();
        }
        Ok(total)
    }

    fn batches(&self) -> MutexGuard<'_, Batches> {
        // An insertion that panicked has counted one batch too few at worst.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    /// Reads the log of the data directory `data`.
    ///
    /// # Errors
    /// What keeps it from being read, or something that it holds twice.
    pub fn read(data: &Path) -> Result<Self> {
        Self::scan(&LogReader::open(Arc::new(RealDisk), data)?, Scan::default(), true)
    }

    /// Reads what `reader` finds of the devices for which `wanted` holds. Sealed segments that are nowhere are passed over.
    ///
    /// # Errors
    /// What keeps the log from being read, or something that it holds twice.
    pub fn of(reader: &LogReader, wanted: impl Fn(&DeviceName) -> bool) -> Result<Self> {
        let devices: DeviceFilter<'_> = Box::new(wanted);
        let scan = Scan { devices: Some(devices), on_absent: OnAbsent::Skip, ..Scan::default() };
        Self::scan(reader, scan, false)
    }

    /// `dense`: no position may be missing.
    fn scan(reader: &LogReader, scan: Scan<'_>, dense: bool) -> Result<Self> {
        let mut contents = Self::default();
        let mut position = 0;
        for record in reader.scan(scan) {
            let record = record.map_err(|error| anyhow!("after position {position}: {error}"))?;
            let (source, range, batch) = match record {
                Record::Batch(batch) => {
                    let range = batch.first_sequence..batch.first_sequence + u64::from(batch.count);
                    (Arc::clone(&batch.source), range, Some(batch))
                }
                Record::Refused(refused) => (refused.source, refused.range, None),
                Record::Dropped(dropped) => (dropped.source, dropped.range, None),
            };
            let there = contents.0.entry((source.device.clone(), source.epoch)).or_default();
            let Some(batch) = batch else {
                there.settled.insert(range);
                continue;
            };
            let follows = if dense { batch.position == position } else { batch.position >= position };
            ensure!(follows, "position {position} is followed by {}", batch.position);
            position = batch.position + u64::from(batch.count);
            let is_as_it_came = batch.position >= reader.sealed_to();
            let digest = if is_as_it_came { Digest::of(&batch.payload) } else { batch.digest };
            let stored = there.store(range, digest);
            stored.with_context(|| format!("{} {}", source.device, source.epoch))?;
        }
        Ok(contents)
    }

    /// The sequences that are stored of a device's epoch.
    #[must_use]
    pub fn stored(&self, device: &DeviceName, epoch: Epoch) -> SequenceRanges {
        self.0.get(&(device.clone(), epoch)).map(|held| held.stored.clone()).unwrap_or_default()
    }
}

impl Held {
    fn store(&mut self, range: Range<u64>, digest: Digest) -> Result<()> {
        ensure!(!self.stored.overlaps(&range), "{range:?} is stored twice");
        self.batches.insert(range.start, (range.end, digest));
        self.settled.insert(range.clone());
        self.stored.insert(range);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        ("pump".parse().unwrap(), Epoch::from_bytes([1; 16]))
    }

    fn acked(range: Range<u64>, bytes: &[u8]) -> Acked {
        let acked = Acked::default();
        let (device, epoch) = source();
        acked.insert(device, epoch, range, Some(Digest::of(bytes)));
        acked
    }

    fn held(batches: &[(Range<u64>, &[u8])]) -> Contents {
        let mut held = Held::default();
        for (range, bytes) in batches {
            held.store(range.clone(), Digest::of(bytes)).unwrap();
        }
        Contents(BTreeMap::from([(source(), held)]))
    }

    #[test]
    fn kept_promises_are_counted() {
        let held = held(&[(0..5, b"a"), (5..9, b"b")]);
        assert_eq!(acked(5..9, b"b").compare(&held).unwrap(), Stored { batches: 2, events: 9 });
    }

    #[test]
    fn broken_promises_are_found() {
        let held = held(&[(0..5, b"a"), (6..9, b"b")]);
        let broken = |acked: &Acked| format!("{:#}", acked.compare(&held).unwrap_err());
        assert!(broken(&acked(10..12, b"a")).contains("was acked, None is stored"), "lost");
        assert!(broken(&acked(0..5, b"b")).contains("was acked, Some"), "altered");
        assert!(broken(&acked(0..4, b"a")).contains("was acked, Some"), "cut otherwise");
        assert!(broken(&acked(0..5, b"a")).contains("missing without a reason"), "a hole");
        let nothing = tempfile::tempdir().unwrap();
        assert!(acked(0..5, b"a").check(nothing.path()).is_err(), "a device is lost");
    }

    #[test]
    fn an_ack_of_other_content_is_found() {
        let held = held(&[(0..5, b"a")]);
        let (device, epoch) = source();
        let acked = acked(0..5, b"a");
        acked.insert(device.clone(), epoch, 0..5, None);
        assert_eq!(acked.compare(&held).unwrap().events, 5, "the same again, by a device that has restarted");
        acked.insert(device, epoch, 0..5, Some(Digest::of(b"b")));
        assert!(acked.compare(&held).unwrap_err().to_string().contains("again with other content"));
    }

    #[test]
    fn some_devices_are_checked_alone() {
        let held = held(&[(0..5, b"a")]);
        let acked = acked(0..5, b"a");
        acked.insert("lost".parse().unwrap(), Epoch::from_bytes([2; 16]), 0..3, None);
        assert!(acked.compare(&held).is_err());
        let of_pump = acked.of(|device| device.as_str() == "pump");
        assert_eq!((of_pump.count(), of_pump.events(), acked.events()), (1, 5, 8));
        assert_eq!(of_pump.compare(&held).unwrap().batches, 1);
    }

    #[test]
    fn a_repetition_is_found() {
        let mut held = Held::default();
        held.store(0..5, Digest::of(b"a")).unwrap();
        assert!(held.store(4..6, Digest::of(b"b")).is_err());
    }
}
