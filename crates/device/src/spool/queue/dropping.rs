//! Which batches a full spool lets go of.

use std::ops::Range;

use icecore_wire::limits;

use super::{ByClass, EpochQueue, Queued, State};
use crate::spool::priority::Priority;

/// Disjoint ranges of an epoch that were dropped, or refused, beyond which nothing is dropped from the middle any more.
/// The server keeps four times as many of an epoch for good and has no place for more. The rest is for those that are
/// not known here: settled before a restart without a network since.
pub(crate) const MAX_HOLES: usize = limits::MAX_RANGES / 4;

/// Beyond this many nothing is dropped any more that makes another: a server without a place for them would put off for ever
/// what comes behind.
pub(crate) const MAX_LAST_HOLES: usize = 2 * MAX_HOLES;

impl EpochQueue {
    /// The least important priority of which there are unsettled batches.
    pub(crate) fn least_important(&self) -> Option<Priority> {
        Priority::ALL.into_iter().find(|priority| self.unsettled[*priority] > 0)
    }

    /// The batches that are not on their way, or all if all are, oldest first.
    pub(crate) fn to_drop(&self) -> impl Iterator<Item = &Queued> {
        let all_sent = self.iter().all(Queued::is_sent);
        self.iter().filter(move |entry| all_sent || !entry.is_sent())
    }

    /// The oldest batch of a priority that is not on its way, or the oldest of all of it if all are.
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
        if let [range] = ranges {
            let opens = self.dropped.would_open(range) && self.given_up.would_open(range);
            return !opens || self.dropped.len() + self.given_up.len() < MAX_HOLES;
        }
        let mut holes = self.given_up.clone();
        holes.insert_all(&self.dropped);
        let before = holes.len();
        holes.extend(ranges.iter().cloned());
        holes.len() <= before.max(MAX_HOLES)
    }

    /// Whether there may be another hole where nothing can be dropped without.
    pub(crate) fn has_room_for_a_last_hole(&self) -> bool {
        self.dropped.len() + self.given_up.len() < MAX_LAST_HOLES
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
