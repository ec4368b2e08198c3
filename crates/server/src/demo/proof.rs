//! The proof: the log against what the clients were promised.
//!
//! Read batch by batch, the log must hold every acked batch exactly once with the bytes that were sent, no sequence
//! twice, and no hole that it does not explain itself (as dropped by the device or refused).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;

use icecore_log::{LogError, Record, Source, StoredBatch};
use icecore_wire::{DeviceName, Digest, Epoch, SequenceRanges};

use super::acked::{Acked, AckedBatch};

/// How many broken promises are spelled out; the rest are counted.
const EXAMPLES: usize = 10;

/// What the comparison found.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// Batches in the log.
    pub(super) stored_batches: u64,
    /// Events in the log.
    pub(super) stored_events: u64,
    sealed_to: u64,
    broken: u64,
    examples: Vec<Broken>,
}

/// One broken promise.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Acked, and not in the log.
    Lost { device: DeviceName, epoch: Epoch, sequences: Range<u64> },
    /// In the log with other bytes than were sent, or cut differently.
    Altered { device: DeviceName, epoch: Epoch, sequences: Range<u64> },
    /// In the log though some of its sequences were there before.
    Repeated { device: DeviceName, epoch: Epoch, sequences: Range<u64>, position: u64 },
    /// Later sequences are stored, these are neither stored nor dropped nor refused.
    Hole { device: DeviceName, epoch: Epoch, sequences: Range<u64> },
}

impl Proof {
    /// Compares the log's `records` with what was `acked`. Before the position `sealed_to` payloads may have been made anew, so
    /// that their digests are those which the log keeps.
    ///
    /// # Errors
    /// When the log cannot be read to its end.
    pub(super) fn of(
        records: impl Iterator<Item = Result<Record, LogError>>,
        sealed_to: u64,
        acked: &Acked,
    ) -> Result<Self, LogError> {
        let mut proof = Self { sealed_to, ..Self::default() };
        let mut accounts: Accounts =
            acked.sources().map(|(source, batches)| (source.clone(), Account::new(batches))).collect();
        for record in records {
            proof.settle(&mut accounts, record?);
        }
        for ((device, epoch), account) in accounts {
            for batch in account.owed() {
                let sequences = batch.sequences.clone();
                proof.report(Broken::Lost { device: device.clone(), epoch, sequences });
            }
            for sequences in &account.holes() {
                proof.report(Broken::Hole { device: device.clone(), epoch, sequences });
            }
        }
        Ok(proof)
    }

    /// Whether every promise was kept.
    pub(super) fn holds(&self) -> bool {
        self.broken == 0
    }

    /// How many promises were broken.
    pub(super) fn broken(&self) -> u64 {
        self.broken
    }

    /// The first broken promises.
    pub(super) fn examples(&self) -> &[Broken] {
        &self.examples
    }

    fn settle(&mut self, accounts: &mut Accounts, record: Record) {
        match record {
            Record::Batch(batch) => {
                self.stored_batches += 1;
                self.stored_events += u64::from(batch.count);
                if let Some(broken) = account(accounts, &batch.source).stored(&batch, self.sealed_to) {
                    self.report(broken);
                }
            }
            Record::Refused(refused) => account(accounts, &refused.source).explained.insert(refused.range),
            Record::Dropped(dropped) => account(accounts, &dropped.source).explained.insert(dropped.range),
        }
    }

    fn report(&mut self, broken: Broken) {
        self.broken += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(broken);
        }
    }
}

/// One account per device and epoch.
type Accounts = BTreeMap<(DeviceName, Epoch), Account>;

fn account<'a>(accounts: &'a mut Accounts, source: &Source) -> &'a mut Account {
    accounts.entry((source.device.clone(), source.epoch)).or_default()
}

/// One device and epoch: what is owed to it, and what the log has.
#[derive(Debug, Default)]
struct Account {
    /// Acked batches not yet found, by first sequence.
    owed: HashMap<u64, AckedBatch>,
    stored: SequenceRanges,
    /// Sequences that the log says will never come.
    explained: SequenceRanges,
}

impl Account {
    fn new(acked: &[AckedBatch]) -> Self {
        let owed = acked.iter().map(|batch| (batch.sequences.start, batch.clone())).collect();
        Self { owed, ..Self::default() }
    }

    /// Enters a batch of the log; returns what is wrong with it.
    fn stored(&mut self, batch: &StoredBatch, sealed_to: u64) -> Option<Broken> {
        let sequences = batch.first_sequence..batch.first_sequence + u64::from(batch.count);
        let (device, epoch) = (batch.source.device.clone(), batch.source.epoch);
        if self.stored.overlaps(&sequences) {
            return Some(Broken::Repeated { device, epoch, sequences, position: batch.position });
        }
        self.stored.insert(sequences.clone());
        let digest = if batch.position < sealed_to { batch.digest } else { Digest::of(&batch.payload) };
        let found = AckedBatch { sequences: sequences.clone(), digest };
        // A batch may be durable without its ack having arrived; that one is owed to nobody.
        let owed = self.owed.remove(&batch.first_sequence)?;
        (owed != found).then_some(Broken::Altered { device, epoch, sequences })
    }

    fn owed(&self) -> Vec<&AckedBatch> {
        let mut owed = self.owed.values().collect::<Vec<_>>();
        owed.sort_unstable_by_key(|batch| batch.sequences.start);
        owed
    }

    /// What is missing below the last stored sequence, without explanation. A lost batch is reported as such.
    fn holes(&self) -> SequenceRanges {
        let mut known = self.stored.clone();
        known.insert_all(&self.explained);
        for batch in self.owed.values() {
            known.insert(batch.sequences.clone());
        }
        known.gaps(self.stored.next())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { device, epoch, sequences } => {
                write!(
                    f,
                    "lost: {device}, epoch {epoch}, sequences {sequences:?} were acked and are not in the log"
                )
            }
            Self::Altered { device, epoch, sequences } => {
                write!(f, "altered: {device}, epoch {epoch}, sequences {sequences:?} are not what was sent")
            }
            Self::Repeated { device, epoch, sequences, position } => write!(
                f,
                "repeated: {device}, epoch {epoch}, sequences {sequences:?} are stored again at position {position}"
            ),
            Self::Hole { device, epoch, sequences } => {
                write!(
                    f,
                    "hole: {device}, epoch {epoch}, sequences {sequences:?} are missing without a reason"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use icecore_log::DroppedRange;
    use icecore_wire::{ColumnType, Field, Payload, Schema};

    use super::*;

    const EPOCH: Epoch = Epoch::from_bytes([7; 16]);

    fn device() -> DeviceName {
        "press-1".parse().unwrap()
    }

    fn stored(sequences: Range<u64>, content: &[u8]) -> Result<Record, LogError> {
        let schema = Schema::new("press", 1, vec![Field::new("force", ColumnType::F64)]).unwrap();
        Ok(Record::Batch(StoredBatch {
            source: Arc::new(Source { device: device(), epoch: EPOCH, number: 0 }),
            schema: Arc::new(schema),
            first_sequence: sequences.start,
            count: u32::try_from(sequences.end - sequences.start).unwrap(),
            position: sequences.start,
            received: 0,
            digest: Digest::of(content),
            compressed: false,
            payload: Payload::copy_from(content),
        }))
    }

    fn dropped(range: Range<u64>) -> Result<Record, LogError> {
        let source = Arc::new(Source { device: device(), epoch: EPOCH, number: 0 });
        Ok(Record::Dropped(DroppedRange { source, range, received: 0 }))
    }

    fn acked(batches: &[(Range<u64>, &[u8])]) -> Acked {
        let mut acked = Acked::default();
        for (sequences, content) in batches {
            let batch = AckedBatch { sequences: sequences.clone(), digest: Digest::of(content) };
            acked.record(device(), EPOCH, batch);
        }
        acked
    }

    fn first_broken(records: Vec<Result<Record, LogError>>, acked: &Acked) -> Broken {
        let mut proof = Proof::of(records.into_iter(), 0, acked).unwrap();
        assert!(!proof.holds());
        proof.examples.remove(0)
    }

    #[test]
    fn a_log_that_kept_every_promise_holds() {
        let acked = acked(&[(0..10, b"a"), (15..20, b"b")]);
        let records =
            vec![stored(0..10, b"a"), dropped(10..15), stored(15..20, b"b"), stored(20..21, b"unacked")];
        let proof = Proof::of(records.into_iter(), 0, &acked).unwrap();
        assert!(proof.holds(), "{:?}", proof.examples);
        assert_eq!((proof.stored_batches, proof.stored_events), (3, 16));
    }

    #[test]
    fn each_broken_promise_is_found() {
        let acked = acked(&[(0..10, b"a"), (10..20, b"b")]);
        let (device, epoch) = (device(), EPOCH);

        let found = first_broken(vec![stored(0..10, b"a")], &acked);
        assert_eq!(found, Broken::Lost { device: device.clone(), epoch, sequences: 10..20 });

        let found = first_broken(vec![stored(0..10, b"x"), stored(10..20, b"b")], &acked);
        assert_eq!(found, Broken::Altered { device: device.clone(), epoch, sequences: 0..10 });

        let twice = vec![stored(0..10, b"a"), stored(10..20, b"b"), stored(0..10, b"a")];
        let found = first_broken(twice, &acked);
        assert_eq!(found, Broken::Repeated { device: device.clone(), epoch, sequences: 0..10, position: 0 });

        let found =
            first_broken(vec![stored(0..10, b"a"), stored(10..20, b"b"), stored(25..26, b"c")], &acked);
        assert_eq!(found, Broken::Hole { device, epoch, sequences: 20..25 });
    }
}
