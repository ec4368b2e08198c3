//! Which batches a full spool lets go of.

use std::ops::Range;

use icecore_wire::limits;

use super::{ByClass, EpochQueue, Queued, State};
use crate::spool::priority::Priority;

/// Disjoint ranges of an epoch that were dropped, or refused, beyond which nothing is dropped from the middle any more.
/// The server keeps four times as many of an epoch for good and has no place for more. The rest is for those that are
/// not known here: settled before a restart without a network since.
pub(crate) const MAX_HOLES: usize = limits::MAX_RANGES / 4;

impl EpochQueue {
    /// The least important priority of which there are unsettled batches.
    pub(crate) fn least_important(&self) -> Option<Priority> {
        Priority::ALL.into_iter().find(|priority| self.unsettled[*priority] > 0)
    }

    /// The oldest batch that is not on its way, or the oldest of all if all are.
    pub(crate) fn oldest_to_drop(&self) -> Option<&Queued> {
        self.iter().find(|entry| !entry.is_sent()).or_else(|| self.iter().next())
    }

    /// The same of those of one priority.
    pub(crate) fn oldest_of(&mut self, priority: Priority) -> Option<&Queued> {
        let start = self.entries.partition_point(|entry| entry.first < self.oldest[priority]);
        let unsettled = |entry: &&Queued| {
            entry.mark.priority == priority && !matches!(entry.state, State::Kept | State::Settled)
        };
        let mut found = self.entries.range(start..).filter(unsettled);
        let oldest = found.next()?;
        self.oldest[priority] = oldest.first;
        if oldest.is_sent() { found.find(|entry| !entry.is_sent()).or(Some(oldest)) } else { Some(oldest) }
    }

    /// Whether dropping `ranges` leaves the epoch with no more holes than it may have, or than it has.
    pub(crate) fn has_room_for_holes(&self, ranges: &[Range<u64>]) -> bool {
        let before = self.dropped.len();
        let after = match ranges {
            [range] => before + usize::from(self.dropped.would_open(range)),
            _ => {
                let mut dropped = self.dropped.clone();
                dropped.extend(ranges.iter().cloned());
                dropped.len()
            }
        };
        after <= before || after + self.given_up.len() <= MAX_HOLES
    }

    /// Gives up the batches within `range`, to be reported as dropped. Returns the bytes that were in flight.
    pub(crate) fn give_up(&mut self, range: &Range<u64>, done: impl FnMut(&Queued)) -> ByClass {
        self.dropped.insert(range.clone());
        self.unreported.insert(range.clone());
        self.settle(range, done)
    }

    /// Gives the next sequences, `range`, to events that are dropped instead of being cut.
    pub(crate) fn skip(&mut self, range: &Range<u64>) {
        self.next_sequence = range.end;
        self.dropped.insert(range.clone());
        self.unreported.insert(range.clone());
    }
}
