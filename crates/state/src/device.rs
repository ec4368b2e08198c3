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

    pub(crate) fn settle(&mut self, ledger: DeviceLedger) {
        self.ledger = ledger;
    }

    /// Takes in the events in `rows` of a batch: of the epoch with this number, received at `received` (nanoseconds since the Unix
    /// epoch). Events come in log order. Whoever wants the state as of some instant gives only the rows up to it; in
    /// which parts they are given makes no difference.
    ///
    /// # Panics
    /// When the batch has no such rows.
    pub fn fold(&mut self, epoch: u32, received: i64, batch: &Batch, rows: Range<usize>) {
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
