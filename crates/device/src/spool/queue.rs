//! The batches of one epoch that the server has not settled yet.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use icecore_wire::{Epoch, Level, Payload, Schema, SequenceRanges};

/// A batch that waits for its ack.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) first: u64,
    pub(crate) count: u32,
    /// Bytes of the payload.
    pub(crate) length: u32,
    pub(crate) schema: Arc<Schema>,
    /// `None` while it is only on disk.
    pub(crate) payload: Option<Payload>,
    /// Where it lies on disk; meaningless for a spool in memory.
    pub(crate) place: Place,
    pub(crate) state: State,
    pub(crate) sent_before: bool,
}

/// Where a payload lies on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    /// Of the payload's first byte.
    pub(crate) offset: u64,
}

/// How far a batch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Not fsynced yet, so it must not be sent.
    Unsynced,
    /// To be sent.
    Waiting,
    /// On its way on the present connection.
    Sent(Instant),
    /// The server wants it again, but not before this time.
    Deferred(Instant),
    /// Done; kept as a placeholder until the batches before it are done too.
    Settled,
}

impl Queued {
    pub(crate) fn range(&self) -> Range<u64> {
        self.first..self.end()
    }

    fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// Bytes that count as in flight because of this batch.
    fn in_flight(&self) -> usize {
        if matches!(self.state, State::Sent(_)) { self.length as usize } else { 0 }
    }
}

/// What the connection knows about the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attachment {
    Detached,
    Asked,
    Attached(u32),
    /// The server refused; ask again at this time.
    Refused(Instant),
}

/// A batch on its way to the link.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) alias: u32,
    pub(crate) schema: Arc<Schema>,
    pub(crate) payload: Payload,
    pub(crate) resent: bool,
}

/// One epoch's unsettled batches in order of sequence, and how far the link has got with them.
#[derive(Debug)]
pub(crate) struct EpochQueue {
    pub(crate) epoch: Epoch,
    pub(crate) attachment: Attachment,
    /// The sequence after the last batch that was ever cut.
    pub(crate) next_sequence: u64,
    /// Dropped by the full spool, and not yet settled by the server.
    pub(crate) dropped: SequenceRanges,
    /// Of those, what the present connection was not told yet.
    pub(crate) unreported: SequenceRanges,
    pub(crate) archived: SequenceRanges,
    /// Sequences that will never be stored: refused, or dropped and settled.
    pub(crate) given_up: SequenceRanges,
    /// What the server has of batches that are still to be cut: a source that is read again makes the same ones.
    ahead: Vec<(Level, SequenceRanges)>,
    entries: VecDeque<Queued>,
    /// Entries before this index were sent on the present connection, or are deferred or settled.
    cursor: usize,
    deferred: usize,
    unsettled: usize,
}

impl EpochQueue {
    pub(crate) fn new(epoch: Epoch, next_sequence: u64) -> Self {
        Self {
            epoch,
            attachment: Attachment::Detached,
            next_sequence,
            dropped: SequenceRanges::new(),
            unreported: SequenceRanges::new(),
            archived: SequenceRanges::new(),
            given_up: SequenceRanges::new(),
            ahead: Vec::new(),
            entries: VecDeque::new(),
            cursor: 0,
            deferred: 0,
            unsettled: 0,
        }
    }

    /// Appends a batch; batches come in order of sequence.
    pub(crate) fn push(&mut self, batch: Queued) {
        debug_assert!(batch.first >= self.next_sequence, "batches are cut in order");
        self.next_sequence = batch.end();
        self.unsettled += 1;
        self.entries.push_back(batch);
    }

    /// Remembers what the server has beyond the batches cut so far.
    pub(crate) fn attached(&mut self, alias: u32, stored: &SequenceRanges, settled: &SequenceRanges) {
        self.attachment = Attachment::Attached(alias);
        let known = [(Level::Durable, stored), (Level::Settled, settled)];
        let ahead = known.into_iter().filter(|(_, ranges)| ranges.next() > self.next_sequence);
        self.ahead = ahead.map(|(level, ranges)| (level, ranges.clone())).collect();
    }

    /// Whether the server had a batch before it was cut.
    pub(crate) fn known_ahead(&self, range: &Range<u64>) -> Option<Level> {
        self.ahead.iter().find(|(_, ranges)| ranges.covers(range)).map(|(level, _)| *level)
    }

    /// Batches that are not settled.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// Whether the server need not hear of this epoch any more.
    pub(crate) fn is_done(&self) -> bool {
        self.unsettled == 0 && self.dropped.is_empty()
    }

    /// The batches that are not settled, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.entries.iter().filter(|entry| entry.state != State::Settled)
    }

    /// Marks batches up to the sequence `through` as fsynced.
    pub(crate) fn synced(&mut self, through: u64) {
        let tail = self.entries.iter_mut().rev();
        for entry in tail.take_while(|entry| matches!(entry.state, State::Unsynced | State::Settled)) {
            if entry.state == State::Unsynced && entry.end() <= through {
                entry.state = State::Waiting;
            }
        }
    }

    /// Moves batches to `out` until `budget` bytes are spent; returns the bytes taken.
    pub(crate) fn take(&mut self, now: Instant, budget: usize, out: &mut Vec<Outgoing>) -> usize {
        let Attachment::Attached(alias) = self.attachment else { return 0 };
        let mut taken = 0;
        if self.deferred > 0 {
            for entry in self.entries.range_mut(..self.cursor) {
                let due = matches!(entry.state, State::Deferred(until) if until <= now);
                if due && taken < budget && send(entry, alias, now, out) {
                    self.deferred -= 1;
                    taken += entry.length as usize;
                }
            }
        }
        while taken < budget && self.cursor < self.entries.len() {
            let entry = &mut self.entries[self.cursor];
            match entry.state {
                State::Unsynced => break,
                State::Waiting => {
                    if !send(entry, alias, now, out) {
                        break;
                    }
                    taken += entry.length as usize;
                }
                State::Sent(_) | State::Deferred(_) | State::Settled => {}
            }
            self.cursor += 1;
        }
        taken
    }

    /// Whether [`EpochQueue::take`] would find a batch that was not sent yet.
    pub(crate) fn is_sendable(&self) -> bool {
        let ready = |entry: &Queued| entry.state == State::Waiting && entry.payload.is_some();
        matches!(self.attachment, Attachment::Attached(_)) && self.next_unsent().is_some_and(ready)
    }

    /// Whether the next batch to be sent has to be read from disk first.
    pub(crate) fn is_behind(&self) -> bool {
        self.next_unsent().is_some_and(|entry| entry.state == State::Waiting && entry.payload.is_none())
    }

    fn next_unsent(&self) -> Option<&Queued> {
        let unsent = |entry: &&Queued| matches!(entry.state, State::Unsynced | State::Waiting);
        self.entries.range(self.cursor..).find(unsent)
    }

    /// The next batches to be sent whose payload is only on disk, until `budget` bytes are reached. At least one.
    pub(crate) fn to_load(&self, budget: usize) -> Vec<(u64, Place, u32)> {
        let waiting = self.entries.range(self.cursor..).filter(|entry| entry.state != State::Settled);
        let mut bytes = 0;
        let within = waiting.take_while(|entry| {
            let fits = bytes == 0 || bytes + entry.length as usize <= budget;
            bytes += entry.length as usize;
            fits && entry.state == State::Waiting
        });
        let absent = within.filter(|entry| entry.payload.is_none());
        absent.map(|entry| (entry.first, entry.place, entry.length)).collect()
    }

    /// Puts a payload read from disk in its place; returns whether it is still wanted.
    pub(crate) fn loaded(&mut self, first: u64, payload: Payload) -> bool {
        let Some(entry) = self.find(first) else { return false };
        if entry.state != State::Waiting || entry.payload.is_some() {
            return false;
        }
        entry.payload = Some(payload);
        true
    }

    /// Lets go of the newest payloads that wait to be sent, until `excess` bytes are freed; returns the bytes freed.
    pub(crate) fn unload_newest(&mut self, excess: usize) -> usize {
        let mut freed = 0;
        for entry in self.entries.range_mut(self.cursor..).rev() {
            if freed >= excess {
                break;
            }
            if entry.state == State::Waiting && entry.payload.take().is_some() {
                freed += entry.length as usize;
            }
        }
        freed
    }

    /// Lets go of the payloads of all batches that wait to be sent; returns their bytes.
    pub(crate) fn unload_all(&mut self) -> usize {
        let waiting = self.entries.iter_mut().filter(|entry| entry.state == State::Waiting);
        waiting.filter_map(|entry| entry.payload.take()).map(|payload| payload.len()).sum()
    }

    fn find(&mut self, first: u64) -> Option<&mut Queued> {
        let index = self.entries.binary_search_by_key(&first, |entry| entry.first).ok()?;
        Some(&mut self.entries[index])
    }

    /// Settles every batch that lies wholly within `range`; calls `done` with each, before its payload is let go.
    /// Returns the bytes that were in flight.
    pub(crate) fn settle(&mut self, range: &Range<u64>, mut done: impl FnMut(&Queued)) -> usize {
        let mut in_flight = 0;
        let start = match self.entries.front() {
            Some(front) if front.first >= range.start => 0,
            _ => self.entries.partition_point(|entry| entry.first < range.start),
        };
        for entry in self.entries.range_mut(start..) {
            if entry.end() > range.end {
                break;
            }
            if entry.state == State::Settled {
                continue;
            }
            done(entry);
            in_flight += entry.in_flight();
            self.deferred -= usize::from(matches!(entry.state, State::Deferred(_)));
            self.unsettled -= 1;
            entry.state = State::Settled;
            entry.payload = None;
        }
        while self.entries.front().is_some_and(|entry| entry.state == State::Settled) {
            self.entries.pop_front();
            self.cursor = self.cursor.saturating_sub(1);
        }
        in_flight
    }

    /// Holds the batches within `range` back until `until`; returns the bytes that were in flight.
    pub(crate) fn defer(&mut self, range: &Range<u64>, until: Instant) -> usize {
        let mut in_flight = 0;
        let start = self.entries.partition_point(|entry| entry.first < range.start);
        for entry in self.entries.range_mut(start..).take_while(|entry| entry.end() <= range.end) {
            if matches!(entry.state, State::Sent(_)) {
                in_flight += entry.in_flight();
                entry.state = State::Deferred(until);
                self.deferred += 1;
            }
        }
        in_flight
    }

    /// The oldest batch that is not on its way, or the oldest of all if all are.
    pub(crate) fn oldest_to_drop(&self) -> Option<&Queued> {
        self.iter().find(|entry| !matches!(entry.state, State::Sent(_))).or_else(|| self.iter().next())
    }

    /// Gives up the batches within `range`, to be reported as dropped. Returns the bytes that were in flight.
    pub(crate) fn give_up(&mut self, range: &Range<u64>, done: impl FnMut(&Queued)) -> usize {
        self.dropped.insert(range.clone());
        self.unreported.insert(range.clone());
        self.settle(range, done)
    }

    /// The connection is gone: everything unsettled is to be sent again. Returns the bytes that were in flight.
    pub(crate) fn rewind(&mut self) -> usize {
        let mut in_flight = 0;
        for entry in self.entries.range_mut(..self.cursor) {
            in_flight += entry.in_flight();
            if matches!(entry.state, State::Sent(_) | State::Deferred(_)) {
                entry.state = State::Waiting;
            }
        }
        self.cursor = 0;
        self.deferred = 0;
        self.attachment = Attachment::Detached;
        self.unreported = self.dropped.clone();
        in_flight
    }

    /// Sequences below `end` that are not archived yet and may still be.
    pub(crate) fn unarchived(&self, end: u64) -> SequenceRanges {
        let mut unarchived = SequenceRanges::from(0..end);
        for gone in [&self.archived, &self.given_up, &self.dropped] {
            unarchived.remove_all(gone);
        }
        unarchived
    }

    /// Sequences that were cut and are not here any more: settled, or lost with a damaged file.
    pub(crate) fn absent(&self) -> SequenceRanges {
        let mut absent = SequenceRanges::from(0..self.next_sequence);
        absent.remove_all(&self.dropped);
        for entry in self.iter() {
            absent.remove(entry.range());
        }
        absent
    }
}

/// Hands one batch out, if its payload is in memory.
fn send(entry: &mut Queued, alias: u32, now: Instant, out: &mut Vec<Outgoing>) -> bool {
    let Some(payload) = &entry.payload else { return false };
    let (schema, payload) = (Arc::clone(&entry.schema), payload.clone());
    out.push(Outgoing { alias, schema, payload, resent: entry.sent_before });
    entry.state = State::Sent(now);
    entry.sent_before = true;
    true
}

#[cfg(test)]
mod tests;
