//! The ledger: per device and epoch, what became of every sequence.

use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};

use icecore_log::{Fact, Source};
use icecore_wire::limits::{MAX_OPEN_EPOCHS, MAX_RANGES};
use icecore_wire::{Code, DeviceName, Epoch, SequenceRanges};

use crate::{Fleet, RefusedRanges};

/// What is settled of every device, folded from the facts of the log.
///
/// Its size grows with devices, epochs and disjoint ranges, not with events: a device that streams without
/// gaps costs one entry and one range.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    devices: HashMap<DeviceName, DeviceLedger>,
}

/// What is settled of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLedger {
    epochs: Vec<EpochLedger>,
    first_received: i64,
    last_received: i64,
}

/// What is settled of one epoch. Stored beats refused beats dropped beats missing, so the four are disjoint
/// and together cover everything below [`EpochLedger::next`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochLedger {
    epoch: Epoch,
    number: u32,
    stored: SequenceRanges,
    refused: RefusedRanges,
    dropped: SequenceRanges,
}

/// How a batch's sequences relate to what is stored, within the limits of `icecore_wire::limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// None of them is stored: the batch is new.
    New,
    /// All of them are stored: a resend, if the content agrees.
    Covered,
    /// Some are stored, some are not: never a resend.
    Overlapping,
    /// New, but it would open one disjoint range more than an epoch may have. Room comes when gaps close.
    TooManyRanges,
    /// New, but its epoch would be one more than a device may have while so many have gaps. Room comes when
    /// gaps close.
    TooManyEpochs,
}

impl Ledger {
    /// Adds one fact. Neither the order of facts matters nor whether one is told again, except that of two refusals of one
    /// sequence the first one told gives the reason.
    pub fn apply(&mut self, fact: &Fact<'_>) {
        if let Fact::Schema { .. } = fact {
            return;
        }
        self.devices.entry(fact.source().device.clone()).or_default().apply(fact);
    }

    /// What is settled of all devices, as the states of a snapshot say.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let devices = fleet.devices().map(|(name, state)| (name.clone(), state.ledger().clone()));
        Self { devices: devices.collect() }
    }

    /// Every device that has a fact in the log, in no particular order.
    pub fn devices(&self) -> impl ExactSizeIterator<Item = (&DeviceName, &DeviceLedger)> {
        self.devices.iter()
    }

    /// What is settled of `device`; `None` if the log says nothing of it.
    pub fn device(&self, device: &DeviceName) -> Option<&DeviceLedger> {
        self.devices.get(device)
    }

    /// What is settled of one epoch of `device`; `None` if the log says nothing of it.
    pub fn resolve(&self, device: &DeviceName, epoch: &Epoch) -> Option<&EpochLedger> {
        self.device(device)?.epoch(epoch)
    }

    /// The number that the next new epoch of `device` gets.
    pub fn next_epoch_number(&self, device: &DeviceName) -> u32 {
        self.device(device).map_or(0, DeviceLedger::next_epoch_number)
    }

    /// Decides whether a batch with the sequences `range` is new. A batch that extends a stored range is
    /// never turned away by a limit, whatever the number of ranges.
    pub fn classify(&self, device: &DeviceName, epoch: &Epoch, range: &Range<u64>) -> Verdict {
        let Some(device) = self.device(device) else { return Verdict::New };
        let Some(epoch) = device.epoch(epoch) else { return device.verdict_on_new_epoch() };
        if epoch.stored.covers(range) {
            Verdict::Covered
        } else if epoch.stored.overlaps(range) {
            Verdict::Overlapping
        } else if epoch.stored.len() >= MAX_RANGES && epoch.stored.would_open(range) {
            Verdict::TooManyRanges
        } else {
            Verdict::New
        }
    }

    /// Whether a refusal or a drop of `range` can be recorded within the limits.
    pub fn can_settle(&self, device: &DeviceName, epoch: &Epoch, range: &Range<u64>) -> bool {
        let Some(device) = self.device(device) else { return true };
        let Some(epoch) = device.epoch(epoch) else { return device.verdict_on_new_epoch() == Verdict::New };
        epoch.refused.len() + epoch.dropped.len() < MAX_RANGES || epoch.settled().covers(range)
    }
}

impl Default for DeviceLedger {
    fn default() -> Self {
        Self { epochs: Vec::with_capacity(1), first_received: i64::MAX, last_received: i64::MIN }
    }
}

impl DeviceLedger {
    pub(crate) fn restored(epochs: Vec<EpochLedger>, received: RangeInclusive<i64>) -> Self {
        let (first_received, last_received) = received.into_inner();
        Self { epochs, first_received, last_received }
    }

    /// Adds a fact about this device, as [`Ledger::apply`] does.
    pub(crate) fn apply(&mut self, fact: &Fact<'_>) {
        match fact {
            Fact::Batch { source, first_sequence, count, received, .. } => {
                let sequences = *first_sequence..*first_sequence + u64::from(*count);
                self.heard(source, *received..=*received).store(sequences);
            }
            Fact::Refused { source, range, code, received, .. } => {
                self.heard(source, *received..=*received).refuse(range.clone(), Code::from_number(*code));
            }
            Fact::Dropped { source, range, received, .. } => {
                self.heard(source, *received..=*received).drop(range.clone());
            }
            Fact::Sealed { source, sequences, received } => {
                self.heard(source, received.clone()).store(sequences.clone());
            }
            Fact::Schema { .. } => {}
        }
    }

    /// Takes note of when something was received, and returns the epoch it is about.
    fn heard(&mut self, source: &Source, received: RangeInclusive<i64>) -> &mut EpochLedger {
        // What the server derives says nothing of whether the device is alive.
        if !source.epoch.is_derived() {
            self.first_received = self.first_received.min(*received.start());
            self.last_received = self.last_received.max(*received.end());
        }
        self.epoch_entry(source)
    }

    /// The device's epochs in order of first arrival.
    pub fn epochs(&self) -> &[EpochLedger] {
        &self.epochs
    }

    /// Those that the device itself began: without what the server derived from its events.
    pub fn device_epochs(&self) -> impl Iterator<Item = &EpochLedger> {
        self.epochs.iter().filter(|epoch| !epoch.epoch.is_derived())
    }

    /// The epoch with this id.
    pub fn epoch(&self, epoch: &Epoch) -> Option<&EpochLedger> {
        // A device has few epochs and writes to the newest.
        self.epochs.iter().rev().find(|ledger| ledger.epoch == *epoch)
    }

    /// When the log first heard of the device: received time, nanoseconds since the Unix epoch.
    pub fn first_received(&self) -> i64 {
        self.first_received
    }

    /// When the log last heard of the device: received time, nanoseconds since the Unix epoch.
    pub fn last_received(&self) -> i64 {
        self.last_received
    }

    /// How many events that the device sent are stored.
    pub fn events(&self) -> u64 {
        self.device_epochs().map(|epoch| epoch.stored.count()).sum()
    }

    fn next_epoch_number(&self) -> u32 {
        // Not the count: where a damaged part of the log was accepted, numbers may be absent.
        self.epochs.last().map_or(0, |last| last.number + 1)
    }

    fn verdict_on_new_epoch(&self) -> Verdict {
        let open = self.epochs.iter().filter(|epoch| epoch.has_missing()).count();
        if open >= MAX_OPEN_EPOCHS { Verdict::TooManyEpochs } else { Verdict::New }
    }

    fn epoch_entry(&mut self, source: &Source) -> &mut EpochLedger {
        let known = self.epochs.iter().rposition(|ledger| ledger.epoch == source.epoch);
        let at = known.unwrap_or_else(|| {
            let at = self.epochs.partition_point(|ledger| ledger.number < source.number);
            self.epochs.insert(at, EpochLedger::new(source.epoch, source.number));
            at
        });
        &mut self.epochs[at]
    }
}

impl EpochLedger {
    pub(crate) fn restored(
        epoch: Epoch,
        number: u32,
        stored: SequenceRanges,
        refused: RefusedRanges,
        dropped: SequenceRanges,
    ) -> Self {
        Self { epoch, number, stored, refused, dropped }
    }

    fn new(epoch: Epoch, number: u32) -> Self {
        Self {
            epoch,
            number,
            stored: SequenceRanges::default(),
            refused: RefusedRanges::default(),
            dropped: SequenceRanges::default(),
        }
    }

    /// The epoch's id.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The epoch's number: 0 for the first of the device that arrived.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Sequences in the log.
    pub fn stored(&self) -> &SequenceRanges {
        &self.stored
    }

    /// Sequences refused and not stored.
    pub fn refused(&self) -> &RefusedRanges {
        &self.refused
    }

    /// Sequences that the device said it dropped, neither stored nor refused.
    pub fn dropped(&self) -> &SequenceRanges {
        &self.dropped
    }

    /// The sequence after the highest one that anything is known of.
    pub fn next(&self) -> u64 {
        self.stored.next().max(self.refused.next()).max(self.dropped.next())
    }

    /// Everything the device need not send (again): stored, refused and dropped.
    pub fn settled(&self) -> SequenceRanges {
        let mut settled = self.stored.clone();
        settled.extend(self.refused.iter().map(|refused| refused.range.clone()));
        settled.insert_all(&self.dropped);
        settled
    }

    /// Sequences below [`EpochLedger::next`] of which nothing is known: late, or lost.
    pub fn missing(&self) -> SequenceRanges {
        self.settled().gaps(self.next())
    }

    fn has_missing(&self) -> bool {
        self.stored.count() + self.refused.count() + self.dropped.count() < self.next()
    }

    fn store(&mut self, range: Range<u64>) {
        self.refused.remove(&range);
        self.dropped.remove(range.clone());
        self.stored.insert(range);
    }

    fn refuse(&mut self, range: Range<u64>, code: Code) {
        let mut fresh = SequenceRanges::from(range);
        fresh.remove_all(&self.stored);
        for range in &fresh {
            self.dropped.remove(range.clone());
            self.refused.insert(range, code);
        }
    }

    fn drop(&mut self, range: Range<u64>) {
        let mut fresh = SequenceRanges::from(range);
        fresh.remove_all(&self.stored);
        for refused in &self.refused {
            fresh.remove(refused.range.clone());
        }
        self.dropped.insert_all(&fresh);
    }
}

#[cfg(test)]
mod tests;
