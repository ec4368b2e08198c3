//! The state of one device.

use std::ops::Range;

use icecore_log::Fact;
use icecore_wire::Batch;

use crate::DeviceLedger;
use crate::fold::{Run, Tally};
use crate::limits::MAX_FUTURE;
use crate::skew::Skew;

/// What the log says of one device: the fold of its events.
///
/// Labels are not in it: the registry has them, and they are not in the log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceState {
    ledger: DeviceLedger,
    skew: Skew,
    tally: Tally,
    ahead: Option<Box<Tally>>,
}

/// On which side of an instant the times of some events are.
enum Side {
    None,
    Before,
    After,
    Both,
}

impl DeviceState {
    pub(crate) fn restored(ledger: DeviceLedger, skew: Skew, tally: Tally, ahead: Option<Tally>) -> Self {
        Self { ledger, skew, tally, ahead: ahead.map(Box::new) }
    }

    /// What is settled of each epoch, and when the log heard of the device.
    #[must_use]
    pub fn ledger(&self) -> &DeviceLedger {
        &self.ledger
    }

    /// How far its clock is off.
    #[must_use]
    pub fn skew(&self) -> &Skew {
        &self.skew
    }

    /// What is known of its events, without those ahead of their time.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What is known of the events that were more than [`MAX_FUTURE`] ahead of their received time, if there are any.
    #[must_use]
    pub fn ahead(&self) -> Option<&Tally> {
        self.ahead.as_deref()
    }

    /// Takes in what a record says without its events.
    pub fn apply(&mut self, fact: &Fact<'_>) {
        self.ledger.apply(fact);
    }

    /// Has the ledger say this.
    pub fn settle(&mut self, ledger: DeviceLedger) {
        self.ledger = ledger;
    }

    /// The latest event time, nanoseconds since the Unix epoch; `None` without events.
    #[must_use]
    pub fn newest_time(&self) -> Option<i64> {
        let ahead = self.ahead().and_then(Tally::times);
        self.tally.times().into_iter().chain(ahead).map(|(_, last)| last).max()
    }

    /// What it would be without the events later than `time`; the ledger stays. `None` if that cannot be told from it: statistics have
    /// no way back.
    #[must_use]
    pub fn up_to(&self, time: i64) -> Option<Self> {
        let side = |times: Option<(i64, i64)>| match times {
            None => Side::None,
            Some((_, last)) if last <= time => Side::Before,
            Some((first, _)) if first > time => Side::After,
            Some(_) => Side::Both,
        };
        let ledger = self.ledger.clone();
        match (side(self.tally.times()), side(self.ahead().and_then(Tally::times))) {
            (Side::None | Side::Before, Side::None | Side::Before) => Some(self.clone()),
            (Side::None | Side::After, Side::None | Side::After) => Some(Self { ledger, ..Self::default() }),
            (Side::Before, Side::After) if self.skew.is_credible() => {
                Some(Self { ledger, skew: self.skew.clone(), tally: self.tally.clone(), ahead: None })
            }
            _ => None,
        }
    }

    /// Takes in the events in `rows` of a batch: of the epoch with this number, received at `received` (nanoseconds since the Unix
    /// epoch). Events come in log order. Whoever wants the state as of some instant gives only the rows up to it; in
    /// which parts they are given makes no difference.
    ///
    /// # Panics
    /// When the batch has no such rows.
    pub fn fold(&mut self, epoch: u32, received: i64, batch: &Batch, rows: Range<usize>) {
        // What the server derived is no event of the device's.
        if batch.schema().is_derived() {
            return;
        }
        let Some(run) = Run::of(batch, epoch, rows) else { return };
        if !batch.header().time_uncertain() {
            self.skew.fold(received, run.newest_time());
        }
        let latest = received.saturating_add(MAX_FUTURE.as_nanos() as i64);
        if run.newest_time() <= latest {
            return self.tally.fold(&run);
        }
        let times = batch.times();
        run.parts(|row| times[row] <= latest, |part| self.tally.fold(part));
        let ahead = self.ahead.get_or_insert_default();
        run.parts(|row| times[row] > latest, |part| ahead.fold(part));
    }
}
