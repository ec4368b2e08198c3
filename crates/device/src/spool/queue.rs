//! The batches of one epoch that the server has not settled yet.
//!
//! - [`entry`]: one batch
//! - [`dropping`]: which of them a full spool lets go of
//! - [`ending`]: how they end: settled, or kept until they are archived

mod dropping;
mod ending;
mod entry;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use icecore_wire::{Attached, Epoch, Level, Payload, SequenceRanges};

use super::class::{ByClass, Class};
use super::priority::ByPriority;
use super::rebase::Rebase;
use crate::clock::Boot;

pub(crate) use dropping::MAX_HOLES;
#[cfg(test)]
pub(crate) use dropping::MAX_LAST_HOLES;
pub(crate) use entry::{Mark, Outgoing, Place, Queued, State};

/// What the connection knows about the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attachment {
    Detached,
    Asked,
    /// Asked, and batches go ahead of the answer.
    Early(u32),
    Attached(u32),
    /// The server refused; ask again at this time.
    Refused(Instant),
}

impl Attachment {
    /// The alias under which batches may be sent.
    pub(crate) fn alias(self) -> Option<u32> {
        match self {
            Self::Early(alias) | Self::Attached(alias) => Some(alias),
            Self::Detached | Self::Asked | Self::Refused(_) => None,
        }
    }
}

/// Unsettled batches that are little enough to be sent as live ones when an epoch is attached: more is backlog.
const LITTLE_BATCHES: usize = 8;
const LITTLE_BYTES: usize = 64 << 10;

/// One epoch's unsettled batches in order of sequence, and how far the link has got with them.
///
/// The older ones may be backlog and the rest live: two parts of one queue, each with a cursor of its own.
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
    /// Whether the server may have what is still to be cut: a source that is read again makes the same batches.
    pub(crate) repeats: bool,
    /// The boot in which the epoch began, and ended.
    pub(crate) boot: Option<Boot>,
    /// What the uptimes of its batches become, once that is decided; those wait for it.
    pub(crate) rebase: Option<Rebase>,
    /// What the server has of batches that are still to be cut.
    ahead: Vec<(Level, SequenceRanges)>,
    /// Cut before the present connection asked to attach, and not here by then: settled, or lost with a damaged file.
    absent: SequenceRanges,
    entries: VecDeque<Queued>,
    /// Entries before this index are backlog.
    live_from: usize,
    /// Of its class, entries before this index were sent on the present connection, or are deferred or settled.
    cursor: ByClass,
    /// Payload bytes in memory.
    held: ByClass,
    deferred: usize,
    unsettled: ByPriority<usize>,
    /// Before this sequence there are no unsettled batches of the priority: where to look for its oldest.
    oldest: ByPriority<u64>,
    /// Batches that are durable and not archived.
    kept: usize,
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
            repeats: false,
            boot: None,
            rebase: None,
            ahead: Vec::new(),
            absent: SequenceRanges::new(),
            entries: VecDeque::new(),
            live_from: 0,
            cursor: ByClass::default(),
            held: ByClass::default(),
            deferred: 0,
            unsettled: ByPriority::default(),
            oldest: ByPriority::default(),
            kept: 0,
        }
    }

    /// Appends a batch; batches come in order of sequence.
    pub(crate) fn push(&mut self, batch: Queued) {
        debug_assert!(batch.first >= self.next_sequence, "batches are cut in order");
        self.next_sequence = batch.end();
        self.unsettled[batch.mark.priority] += 1;
        self.held[Class::Live] += batch.held();
        self.entries.push_back(batch);
    }

    /// Payload bytes in memory.
    pub(crate) fn held(&self) -> ByClass {
        self.held
    }

    /// Whether what waits is more than a little, and not a source that is read again: nothing of that is more urgent.
    pub(crate) fn is_piled_up(&self) -> bool {
        if self.repeats {
            return false;
        }
        let bytes: usize = self.iter().take(LITTLE_BATCHES).map(|batch| batch.length as usize).sum();
        self.unsettled() > LITTLE_BATCHES || bytes > LITTLE_BYTES
    }

    /// Everything that waits becomes backlog; what is cut from here on is live. Nothing is on its way yet.
    pub(crate) fn set_backlog(&mut self) {
        self.live_from = self.entries.len();
        self.cursor = ByClass::new(self.live_from, 0);
        self.held = ByClass::new(0, self.held.total());
    }

    pub(crate) fn has_backlog(&self) -> bool {
        self.live_from > 0
    }

    /// Nothing is backlog any more, and nothing is on its way.
    fn set_live(&mut self) {
        self.live_from = 0;
        self.cursor = ByClass::default();
        self.held = ByClass::new(self.held.total(), 0);
    }

    fn class_of(&self, index: usize) -> Class {
        if index < self.live_from { Class::Backlog } else { Class::Live }
    }

    /// Where the batches of a class lie.
    fn extent(&self, class: Class) -> Range<usize> {
        match class {
            Class::Live => self.live_from..self.entries.len(),
            Class::Backlog => 0..self.live_from,
        }
    }

    /// Where the batches of a class lie that the cursor has not passed.
    fn ahead_of_cursor(&self, class: Class) -> Range<usize> {
        self.cursor[class]..self.extent(class).end
    }

    /// The link asked to attach. Batches may go ahead of the answer if all are new to the server, and few.
    pub(crate) fn asked(&mut self, alias: u32, is_current: bool) {
        self.absent = self.find_absent();
        let new = |batch: &Queued| !batch.sent_before && batch.payload.is_some();
        let early = is_current && !self.repeats && !self.is_piled_up() && self.iter().all(new);
        self.attachment = if early { Attachment::Early(alias) } else { Attachment::Asked };
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

    /// Whether any batch was stamped before there was a clock.
    pub(crate) fn has_uptimes(&self) -> bool {
        self.present().any(|batch| batch.mark.uptime)
    }

    /// Batches that are not settled.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled.iter().sum()
    }

    /// When the server is to hear of this epoch, if it has anything to say.
    pub(crate) fn demand(&self, now: Instant) -> Option<Instant> {
        // They are in order: what is behind one that was not fsynced was not either.
        let all_unsynced = self.iter().next().is_none_or(|entry| entry.state == State::Unsynced);
        match self.attachment {
            _ if all_unsynced && self.dropped.is_empty() => None,
            Attachment::Refused(until) => Some(until.max(now)),
            _ => Some(now),
        }
    }

    /// Whether there is nothing to tell the server now.
    pub(crate) fn is_quiet(&self) -> bool {
        self.unsettled() == 0 && self.dropped.is_empty()
    }

    /// Whether the server need not hear of this epoch any more, nor this side of it.
    pub(crate) fn is_done(&self) -> bool {
        self.is_quiet() && self.kept == 0
    }

    /// The batches that are not settled, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.present().filter(|entry| entry.state != State::Kept)
    }

    /// The batches that are here, settled or not, oldest first.
    pub(crate) fn present(&self) -> impl Iterator<Item = &Queued> {
        self.entries.iter().filter(|entry| entry.state != State::Settled)
    }

    /// Marks batches up to the sequence `through` as fsynced.
    pub(crate) fn synced(&mut self, through: u64) {
        let tail = self.entries.iter_mut().rev();
        let passed =
            |entry: &&mut Queued| matches!(entry.state, State::Unsynced | State::Kept | State::Settled);
        for entry in tail.take_while(passed) {
            if entry.state == State::Unsynced && entry.end() <= through {
                entry.state = State::Waiting;
            }
        }
    }

    /// Moves batches of `class` to `out` until `budget` bytes are spent; returns the bytes taken.
    pub(crate) fn take(
        &mut self,
        class: Class,
        now: Instant,
        budget: usize,
        out: &mut Vec<Outgoing>,
    ) -> usize {
        let Some(alias) = self.attachment.alias() else { return 0 };
        let Range { start, end } = self.extent(class);
        let mut cursor = self.cursor[class];
        let mut taken = 0;
        if self.deferred > 0 {
            for entry in self.entries.range_mut(start..cursor) {
                if entry.is_due(now) && taken < budget && entry.send(alias, self.rebase, now, out) {
                    self.deferred -= 1;
                    taken += entry.length as usize;
                }
            }
        }
        while taken < budget && cursor < end {
            let entry = &mut self.entries[cursor];
            match entry.state {
                State::Unsynced => break,
                State::Waiting => {
                    if !entry.send(alias, self.rebase, now, out) {
                        break;
                    }
                    taken += entry.length as usize;
                }
                State::Sent(_) | State::Deferred(_) | State::Kept | State::Settled => {}
            }
            cursor += 1;
        }
        self.cursor[class] = cursor;
        taken
    }

    /// Whether [`EpochQueue::take`] would find something.
    pub(crate) fn is_sendable(&self, class: Class, now: Instant) -> bool {
        if self.attachment.alias().is_none() {
            return false;
        }
        let ready = |entry: &Queued| entry.is_ready(self.rebase);
        let passed = self.extent(class).start..self.cursor[class];
        self.next_unsent(class).is_some_and(ready)
            || self.deferred > 0 && self.entries.range(passed).any(|entry| entry.is_due(now))
    }

    /// Whether the next batch of `class` to be sent has to be read from disk first.
    pub(crate) fn is_behind(&self, class: Class) -> bool {
        self.next_unsent(class).is_some_and(|entry| entry.state == State::Waiting && entry.payload.is_none())
    }

    fn next_unsent(&self, class: Class) -> Option<&Queued> {
        let unsent = |entry: &&Queued| matches!(entry.state, State::Unsynced | State::Waiting);
        self.entries.range(self.ahead_of_cursor(class)).find(unsent)
    }

    /// The next batches of `class` to be sent whose payload is only on disk, until `budget` bytes are reached. At
    /// least one.
    pub(crate) fn to_load(&self, class: Class, budget: usize) -> Vec<(u64, Place, u32)> {
        let waiting = self.entries.range(self.ahead_of_cursor(class));
        let mut bytes = 0;
        let unsettled = waiting.filter(|entry| !matches!(entry.state, State::Kept | State::Settled));
        let within = unsettled.take_while(|entry| {
            let fits = bytes == 0 || bytes + entry.length as usize <= budget;
            bytes += entry.length as usize;
            fits && entry.state == State::Waiting
        });
        let absent = within.filter(|entry| entry.payload.is_none());
        absent.map(|entry| (entry.first, entry.place, entry.length)).collect()
    }

    /// Puts a payload read from disk in its place, if it is still wanted.
    pub(crate) fn loaded(&mut self, first: u64, payload: Payload) {
        let Some(index) = self.find(first) else { return };
        let (class, entry) = (self.class_of(index), &mut self.entries[index]);
        if entry.state == State::Waiting && entry.payload.is_none() {
            self.held[class] += payload.len();
            entry.payload = Some(payload);
        }
    }

    /// Lets go of payloads of `class` that wait to be sent: of all newer than one that has to be read back first, or
    /// they would take the room that it needs; and of the newest, until `limit` bytes are held.
    pub(crate) fn trim(&mut self, class: Class, limit: usize) {
        let Range { start, end } = self.ahead_of_cursor(class);
        let absent = |entry: &Queued| entry.state == State::Waiting && entry.payload.is_none();
        let gap = self.entries.range(start..end).position(absent).map_or(end, |distance| start + distance);
        self.held[class] -= self.entries.range_mut(gap..end).map(Queued::unload).sum::<usize>();
        for entry in self.entries.range_mut(start..gap).rev() {
            if self.held[class] <= limit {
                break;
            }
            self.held[class] -= entry.unload();
        }
    }

    /// Lets go of the payloads of all batches that wait to be sent.
    pub(crate) fn unload_all(&mut self) {
        for class in Class::ALL {
            let range = self.extent(class);
            let freed: usize = self.entries.range_mut(range).map(Queued::unload).sum();
            self.held[class] -= freed;
        }
    }

    fn find(&self, first: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&first, |entry| entry.first).ok()
    }

    /// Holds the batches within `range` back until `until`; returns the bytes that were in flight.
    pub(crate) fn defer(&mut self, range: &Range<u64>, until: Instant) -> ByClass {
        let mut in_flight = ByClass::default();
        let start = self.entries.partition_point(|entry| entry.first < range.start);
        for index in start..self.entries.len() {
            let class = self.class_of(index);
            let entry = &mut self.entries[index];
            if entry.end() > range.end {
                break;
            }
            if matches!(entry.state, State::Sent(_)) {
                in_flight[class] += entry.in_flight();
                entry.state = State::Deferred(until);
                self.deferred += 1;
            }
        }
        in_flight
    }

    /// The connection is gone: everything unsettled is to be sent again. Returns the bytes that were in flight.
    pub(crate) fn rewind(&mut self) -> ByClass {
        let mut in_flight = ByClass::default();
        for class in Class::ALL {
            let passed = self.extent(class).start..self.cursor[class];
            for entry in self.entries.range_mut(passed) {
                in_flight[class] += entry.in_flight();
                if matches!(entry.state, State::Sent(_) | State::Deferred(_)) {
                    entry.state = State::Waiting;
                }
            }
        }
        self.set_live();
        self.deferred = 0;
        // A refusal outlasts the connection that brought it.
        if !matches!(self.attachment, Attachment::Refused(_)) {
            self.attachment = Attachment::Detached;
        }
        self.unreported = self.dropped.clone();
        in_flight
    }

    /// The server took nothing of what was sent: it counts as never sent. Returns the bytes that were in flight.
    pub(crate) fn take_back(&mut self) -> ByClass {
        for entry in self.entries.iter_mut().filter(|entry| matches!(entry.state, State::Sent(_))) {
            entry.sent_before = false;
        }
        self.rewind()
    }

    /// Sequences below `end` that are not archived yet and may still be.
    pub(crate) fn unarchived(&self, end: u64) -> SequenceRanges {
        let mut unarchived = SequenceRanges::from(0..end);
        for gone in [&self.archived, &self.given_up, &self.dropped] {
            unarchived.remove_all(gone);
        }
        unarchived
    }

    /// Sequences that neither this side nor the server has, by what the server knew when it attached the epoch.
    pub(crate) fn lost(&self, attached: &Attached) -> SequenceRanges {
        let mut lost = self.absent.clone();
        for known in [&attached.stored, &attached.settled, &attached.archived, &self.dropped] {
            lost.remove_all(known);
        }
        lost
    }

    /// Sequences that were cut and are not here any more. A source that is read again loses none, and may lack some.
    fn find_absent(&self) -> SequenceRanges {
        if self.repeats {
            return SequenceRanges::new();
        }
        let mut absent = SequenceRanges::from(0..self.next_sequence);
        absent.remove_all(&self.dropped);
        for entry in self.present() {
            absent.remove(entry.range());
        }
        absent
    }
}

#[cfg(test)]
mod tests;
