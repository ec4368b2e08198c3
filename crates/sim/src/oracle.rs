//! The oracle: remembers what devices were told, and reads the log to see whether it is true.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use icecore_log::{Disk, LogError, LogReader, Record, Scan, StoredBatch};
use icecore_state::Ledger;
use icecore_wire::{Batch, BatchHeader, DeviceName, Digest, Epoch, Payload, SequenceRanges};

use crate::data;
use crate::sample::Sample;
use crate::spool::SpooledEpoch;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(String);

impl Violation {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type Source = (DeviceName, Epoch);

/// What was said about one epoch.
#[derive(Debug, Default)]
struct Said {
    /// One past the last sequence that the device cut.
    cut: u64,
    /// Every batch that anybody sent: first sequence, end, digest.
    sent: BTreeMap<(u64, u64), Vec<Digest>>,
    /// Batches acked as durable to whoever sent them, by first sequence.
    durable: BTreeMap<u64, (u64, Digest)>,
    /// Sequences that somebody was told are stored.
    stored: SequenceRanges,
    /// Sequences that somebody was told are settled.
    settled: SequenceRanges,
    /// Sequences whose spool was wiped: they may be missing.
    wiped: SequenceRanges,
}

/// Remembers what was said.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    said: BTreeMap<Source, Said>,
    /// What was sent, by digest.
    payloads: HashMap<Digest, Payload>,
}

/// What the log holds of one epoch.
#[derive(Debug, Default)]
struct Held {
    number: u32,
    /// By first sequence: end and digest.
    batches: BTreeMap<u64, (u64, Digest)>,
    stored: SequenceRanges,
    refused: SequenceRanges,
    dropped: SequenceRanges,
}

/// What the log holds.
#[derive(Debug, Default)]
pub(crate) struct Content {
    sources: BTreeMap<Source, Held>,
    /// Batches whose payloads are not those that came: they were sealed, and made anew.
    remade: Vec<StoredBatch>,
    next_position: u64,
    received: i64,
}

impl Oracle {
    pub(crate) fn cut(&mut self, device: &DeviceName, epoch: Epoch, next: u64) {
        self.about(device, epoch).cut = next;
    }

    pub(crate) fn sent(&mut self, device: &DeviceName, epoch: Epoch, sample: &Sample, digest: Digest) {
        self.payloads.entry(digest).or_insert_with(|| sample.payload.clone());
        let range = sample.range();
        let digests = self.about(device, epoch).sent.entry((range.start, range.end)).or_default();
        if !digests.contains(&digest) {
            digests.push(digest);
        }
    }

    /// The batch with this digest was acked as durable.
    pub(crate) fn told_durable(
        &mut self,
        device: &DeviceName,
        epoch: Epoch,
        range: Range<u64>,
        digest: Digest,
    ) {
        self.about(device, epoch).durable.insert(range.start, (range.end, digest));
    }

    pub(crate) fn told_stored(&mut self, device: &DeviceName, epoch: Epoch, ranges: &SequenceRanges) {
        self.about(device, epoch).stored.insert_all(ranges);
    }

    pub(crate) fn told_settled(&mut self, device: &DeviceName, epoch: Epoch, ranges: &SequenceRanges) {
        self.about(device, epoch).settled.insert_all(ranges);
    }

    /// A device let a batch go because the server said that its sequences are stored. Unless somebody else sent other
    /// content for them, that is as good as an ack of the batch.
    pub(crate) fn resumed(&mut self, device: &DeviceName, epoch: Epoch, sample: &Sample) {
        let said = self.about(device, epoch);
        let digest = Digest::of(&sample.payload);
        let range = sample.range();
        let contested = said.sent.iter().any(|(&(first, end), digests)| {
            first < range.end && range.start < end && digests.iter().any(|other| *other != digest)
        });
        if !contested {
            said.durable.insert(range.start, (range.end, digest));
        }
    }

    pub(crate) fn wiped(&mut self, device: &DeviceName, epoch: &SpooledEpoch) {
        let said = self.about(device, epoch.epoch);
        epoch.batches.values().for_each(|batch| said.wiped.insert(batch.sample.range()));
        said.wiped.insert_all(&epoch.dropped);
    }

    /// How many batches were acked.
    pub(crate) fn acked(&self) -> u64 {
        self.said.values().map(|said| said.durable.len() as u64).sum()
    }

    /// Whether everything that was said is true of the log.
    pub(crate) fn check(&self, content: &Content) -> Result<(), Violation> {
        for (source, said) in &self.said {
            let held = content.sources.get(source);
            let name = format!("{} {}", source.0, source.1);
            check_epoch(said, held.unwrap_or(&Held::default()))
                .map_err(|e| Violation::new(format!("{name}: {e}")))?;
        }
        for batch in &content.remade {
            let sent = self.payloads.get(&batch.digest).and_then(|sent| rows(sent, batch));
            if sent.is_none() || sent != rows(&batch.payload, batch) {
                return Err(Violation::new(format!(
                    "what was sent as {} reads back as something else",
                    batch.digest
                )));
            }
        }
        match content.sources.keys().find(|source| !self.said.contains_key(source)) {
            Some((device, epoch)) => Err(Violation::new(format!("{device} {epoch} was never heard of"))),
            None => Ok(()),
        }
    }

    /// Whether nothing is missing that was not lost with a wiped spool: true when every device is content.
    pub(crate) fn check_complete(&self, content: &Content) -> Result<(), Violation> {
        for (source, said) in &self.said {
            let mut known = content.sources.get(source).map(Held::settled).unwrap_or_default();
            known.insert_all(&said.wiped);
            let missing = known.gaps(said.cut);
            if !missing.is_empty() {
                return Err(Violation::new(format!("{} {}: {missing:?} are missing", source.0, source.1)));
            }
        }
        Ok(())
    }

    fn about(&mut self, device: &DeviceName, epoch: Epoch) -> &mut Said {
        self.said.entry((device.clone(), epoch)).or_default()
    }
}

/// The rows of a payload, if it is a batch of the schema of `stored`.
fn rows(payload: &Payload, stored: &StoredBatch) -> Option<Vec<String>> {
    let batch = Batch::validate(payload.clone(), Arc::clone(&stored.schema)).ok()?;
    let columns: Vec<_> = (0..stored.schema.fields().len()).map(|field| batch.column(field)).collect();
    let values = |row| columns.iter().map(|column| format!("{:?}", column.value(row))).collect::<Vec<_>>();
    let rows = batch.times().iter().enumerate();
    Some(rows.map(|(row, time)| format!("{time} {:?}", values(row))).collect())
}

fn check_epoch(said: &Said, held: &Held) -> Result<(), String> {
    for (&first, &(end, digest)) in &said.durable {
        match held.batches.get(&first) {
            Some(&(stored_end, stored)) if stored_end == end && stored == digest => {}
            Some(other) => {
                return Err(format!("batch {first}..{end} {digest} is acked, and {other:?} is stored"));
            }
            None => return Err(format!("batch {first}..{end} is acked and not stored")),
        }
    }
    if let Some(range) = said.stored.iter().find(|range| !held.stored.covers(range)) {
        return Err(format!("{range:?} is said to be stored; stored are {:?}", held.stored));
    }
    let settled = held.settled();
    if let Some(range) = said.settled.iter().find(|range| !settled.covers(range)) {
        return Err(format!("{range:?} is said to be settled; settled are {settled:?}"));
    }
    let invented = held.batches.iter().find(|&(&first, &(end, digest))| {
        !said.sent.get(&(first, end)).is_some_and(|digests| digests.contains(&digest))
    });
    match invented {
        Some((first, (end, _))) => Err(format!("batch {first}..{end} is stored, and nobody sent it")),
        None => Ok(()),
    }
}

impl Held {
    /// Everything that is stored, refused or dropped.
    fn settled(&self) -> SequenceRanges {
        let mut settled = self.stored.clone();
        settled.insert_all(&self.refused);
        settled.insert_all(&self.dropped);
        settled
    }
}

/// Reads a log whole, and checks what holds for every log: positions are dense, received times do not step back,
/// nothing is stored twice, epochs are numbered in order of arrival.
///
/// # Errors
/// When one of these does not hold, or the log cannot be read.
pub fn read_log(disk: Arc<dyn Disk>) -> Result<Vec<Record>, Violation> {
    let reader = LogReader::open(disk, data()).map_err(unreadable)?;
    let records: Vec<Record> = reader.scan(Scan::default()).collect::<Result<_, _>>().map_err(unreadable)?;
    let content = Content::of(&records)?;
    content.check_facts(&reader)?;
    Ok(records)
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn unreadable(e: LogError) -> Violation {
    Violation::new(format!("the log cannot be read: {e}"))
}

impl Content {
    pub(crate) fn of(records: &[Record]) -> Result<Self, Violation> {
        let mut content = Self { received: i64::MIN, ..Self::default() };
        for record in records {
            content.add(record).map_err(Violation::new)?;
        }
        Ok(content)
    }

    /// Batches in it.
    pub(crate) fn batches(&self) -> u64 {
        self.sources.values().map(|held| held.batches.len() as u64).sum()
    }

    /// Ranges that are refused.
    pub(crate) fn refusals(&self) -> u64 {
        self.sources.values().map(|held| held.refused.len() as u64).sum()
    }

    /// Whether the facts that the log tells, from batch directories where it has them, say what its records say.
    fn check_facts(&self, reader: &LogReader) -> Result<(), Violation> {
        let mut ledger = Ledger::default();
        reader.facts(&mut |fact| ledger.apply(fact)).map_err(unreadable)?;
        self.check_ledger(&ledger)
    }

    /// Whether a ledger says what the records say.
    pub(crate) fn check_ledger(&self, ledger: &Ledger) -> Result<(), Violation> {
        for ((device, epoch), held) in &self.sources {
            let differs =
                |what| Violation::new(format!("{device} {epoch}: the ledger differs from the log in {what}"));
            let known = ledger.resolve(device, epoch).ok_or_else(|| differs("knowing it"))?;
            if known.number() != held.number {
                return Err(differs("the epoch's number"));
            }
            if *known.stored() != held.stored {
                return Err(differs("what is stored"));
            }
            if known.settled() != held.settled() {
                return Err(differs("what is settled"));
            }
        }
        let epochs: usize = ledger.devices().map(|(_, device)| device.epochs().len()).sum();
        if epochs == self.sources.len() {
            Ok(())
        } else {
            Err(Violation::new("the ledger knows epochs that are not in the log"))
        }
    }

    fn add(&mut self, record: &Record) -> Result<(), String> {
        let (source, received) = match record {
            Record::Batch(batch) => (&batch.source, batch.received),
            Record::Refused(refused) => (&refused.source, refused.received),
            Record::Dropped(dropped) => (&dropped.source, dropped.received),
        };
        if received < self.received {
            return Err(format!("received time steps back from {} to {received}", self.received));
        }
        self.received = received;
        let key = (source.device.clone(), source.epoch);
        if !self.sources.contains_key(&key) {
            let earlier = self.sources.keys().filter(|(device, _)| *device == source.device).count();
            if source.number as usize != earlier {
                return Err(format!("{source:?} is the {earlier}th epoch of its device to arrive"));
            }
        }
        let held = self.sources.entry(key).or_insert(Held { number: source.number, ..Held::default() });
        if held.number != source.number {
            return Err(format!("{source:?} was number {} before", held.number));
        }
        match record {
            Record::Batch(batch) => {
                self.next_position = held.add(batch, self.next_position)?;
                if Digest::of(&batch.payload) != batch.digest {
                    self.remade.push(batch.clone());
                }
            }
            Record::Refused(refused) => held.refused.insert(refused.range.clone()),
            Record::Dropped(dropped) => held.dropped.insert(dropped.range.clone()),
        }
        Ok(())
    }
}

impl Held {
    /// Adds a batch that has to begin at `position`; returns where the next one has to.
    fn add(&mut self, batch: &StoredBatch, position: u64) -> Result<u64, String> {
        let range = batch.first_sequence..batch.first_sequence + u64::from(batch.count);
        if batch.position != position {
            return Err(format!("batch {range:?} has position {}, not {position}", batch.position));
        }
        if self.stored.overlaps(&range) {
            return Err(format!("{range:?} of {:?} is stored twice", batch.source));
        }
        let header = BatchHeader::peek(&batch.payload).map_err(|e| format!("batch {range:?}: {e}"))?;
        if header.range() != range || header.schema != batch.schema.id() {
            return Err(format!("batch {range:?} of {:?} is not what its record says", batch.source));
        }
        self.stored.insert(range.clone());
        self.batches.insert(range.start, (range.end, batch.digest));
        Ok(position + u64::from(batch.count))
    }
}
