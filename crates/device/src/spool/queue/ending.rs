//! How batches end: settled, or kept until they are archived.

use std::ops::Range;

use super::{ByClass, Class, EpochQueue, Queued, State};

/// Placeholders that may lie between batches before they are cleared away, beyond as many as there are batches.
pub(super) const PLACEHOLDERS: usize = 64;

impl EpochQueue {
    /// Settles every batch that lies wholly within `range`; calls `done` with each, before its payload is let go.
    /// Returns the bytes that were in flight.
    pub(crate) fn settle(&mut self, range: &Range<u64>, done: impl FnMut(&Queued)) -> ByClass {
        let in_flight = self.conclude(range, State::Settled, false, done);
        self.clear_settled();
        in_flight
    }

    /// Brings every batch that lies wholly within `range` to its end, or next to it.
    fn conclude(
        &mut self,
        range: &Range<u64>,
        end: State,
        with_payload: bool,
        mut done: impl FnMut(&Queued),
    ) -> ByClass {
        let mut in_flight = ByClass::default();
        let start = match self.entries.front() {
            Some(front) if front.first >= range.start => 0,
            _ => self.entries.partition_point(|entry| entry.first < range.start),
        };
        for index in start..self.entries.len() {
            let class = self.class_of(index);
            let entry = &mut self.entries[index];
            if entry.end() > range.end {
                break;
            }
            if entry.state == State::Settled || entry.state == end {
                continue;
            }
            done(entry);
            in_flight[class] += entry.in_flight();
            self.deferred -= usize::from(matches!(entry.state, State::Deferred(_)));
            let unsettled = &mut self.unsettled[entry.mark.priority];
            *(if entry.state == State::Kept { &mut self.kept } else { unsettled }) -= 1;
            self.kept += usize::from(end == State::Kept);
            entry.state = end;
            if !with_payload {
                self.held[class] -= entry.held();
                entry.payload = None;
            }
        }
        in_flight
    }

    /// Lets go of placeholders: at once of those in front, of others when they are most of what is there. Live batches
    /// leave such gaps for as long as a backlog before them lasts.
    fn clear_settled(&mut self) {
        let settled = |entry: &&Queued| entry.state == State::Settled;
        let present = self.unsettled() + self.kept;
        let most = self.entries.len() - present > present + PLACEHOLDERS;
        let end = if most { self.entries.len() } else { self.entries.iter().take_while(settled).count() };
        if end == 0 {
            return;
        }
        let gone_before = |index: usize| self.entries.range(..index.min(end)).filter(settled).count();
        let moved = |index: usize| index - gone_before(index);
        let cursor = ByClass::new(moved(self.cursor[Class::Live]), moved(self.cursor[Class::Backlog]));
        (self.live_from, self.cursor) = (moved(self.live_from), cursor);
        if most {
            self.entries.retain(|entry| entry.state != State::Settled);
        } else {
            self.entries.drain(..end);
        }
    }

    /// Every batch that lies wholly within `range` is durable at the server and stays, with its payload or without; calls
    /// `done` with each that was not durable before. Returns the bytes that were in flight.
    pub(crate) fn keep(
        &mut self,
        range: &Range<u64>,
        with_payload: bool,
        done: impl FnMut(&Queued),
    ) -> ByClass {
        self.conclude(range, State::Kept, with_payload, done)
    }

    /// Kept batches that the server does not have any more, by `has`, are to be sent again. Returns how many.
    pub(crate) fn want_again(&mut self, has: impl Fn(&Range<u64>) -> bool) -> usize {
        let mut lost = 0;
        for index in 0..self.entries.len() {
            let class = self.class_of(index);
            let entry = &mut self.entries[index];
            if entry.state == State::Kept && !has(&entry.range()) {
                entry.state = State::Waiting;
                self.cursor[class] = self.cursor[class].min(index);
                self.unsettled[entry.mark.priority] += 1;
                let oldest = &mut self.oldest[entry.mark.priority];
                *oldest = (*oldest).min(entry.first);
                lost += 1;
            }
        }
        self.kept -= lost;
        lost
    }
}
