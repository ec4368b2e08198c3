//! A device's unsettled batches, over all its epochs, and the bounds on them.
//!
//! - [`room`]: what a full spool lets go of
//! - [`disk_work`]: what is to be done with files, and what came of it

mod disk_work;
mod room;

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use icecore_wire::{Attached, Code, DeviceName, Digest, Epoch, Level, Payload, Schema, SequenceRanges};

use super::class::{Class, InFlight};
use super::disk::DiskIndex;
use super::queue::{Attachment, EpochQueue, Mark, Outgoing, Place, Queued, State};
use super::rebase::Rebases;
use crate::clock::{Boot, DeviceClock};
use crate::error::SpoolError;
use crate::event::Event;
use crate::watch::Report;

/// Payload bytes that a spool on disk keeps in memory: what waits for its fsync, and what is next or on its way. While
/// there is a backlog, half of them are for it and half for what is live.
pub(crate) const CACHE_BYTES: usize = 2 * icecore_wire::limits::MAX_BATCH_BYTES;

/// A device's unsettled batches.
pub(crate) struct Outbox {
    device: DeviceName,
    /// Oldest epoch first; the last one is where new batches go.
    queues: Vec<EpochQueue>,
    backing: Backing,
    /// Shared with the connection and its other devices.
    in_flight: Arc<InFlight>,
    /// Whether to compute each batch's digest.
    digests: bool,
    /// What is decided of clocks, and on disk fsynced.
    rebases: Rebases,
    /// Whether batches stay after they are durable, until they are archived.
    keep: bool,
    closed: bool,
    failure: Option<SpoolError>,
}

enum Backing {
    Memory { max_bytes: usize },
    Disk(Box<DiskIndex>),
}

/// Whether a batch may be recorded now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Room,
    /// Not now.
    Full,
    /// Never: it is less important than all that is held. It got its sequences and was dropped.
    Dropped,
}

impl Outbox {
    pub(crate) fn in_memory(
        device: DeviceName,
        epoch: Epoch,
        max_bytes: usize,
        in_flight: Arc<InFlight>,
    ) -> Self {
        Self::new(device, vec![EpochQueue::new(epoch, 0)], Backing::Memory { max_bytes }, in_flight)
    }

    /// Over what was found in files: `queues` ends with the epoch that new batches go to.
    pub(crate) fn on_disk(
        device: DeviceName,
        queues: Vec<EpochQueue>,
        index: DiskIndex,
        in_flight: Arc<InFlight>,
    ) -> Self {
        Self::new(device, queues, Backing::Disk(Box::new(index)), in_flight)
    }

    fn new(device: DeviceName, queues: Vec<EpochQueue>, backing: Backing, in_flight: Arc<InFlight>) -> Self {
        Self {
            device,
            queues,
            backing,
            in_flight,
            digests: false,
            rebases: Rebases::default(),
            keep: false,
            closed: false,
            failure: None,
        }
    }

    /// The server may have what is still to be cut.
    pub(crate) fn repeating(mut self) -> Self {
        self.current().repeats = true;
        self
    }

    /// Computes the digest of every batch from here on.
    pub(crate) fn with_digests(self, digests: bool) -> Self {
        Self { digests, ..self }
    }

    /// In this boot, with what the spool keeps of clocks.
    pub(crate) fn with_clock(mut self, boot: Boot, rebases: Rebases) -> Self {
        self.current().boot = Some(boot);
        rebases.apply(&mut self.queues);
        Self { rebases, ..self }
    }

    /// The server's clock is known, or it is later by it: decides the times of what waits for that.
    pub(crate) fn clock_known(&mut self, clock: &DeviceClock) {
        let Some(decided) = self.rebases.decide(&self.queues, clock) else { return };
        match &mut self.backing {
            Backing::Memory { .. } => self.clock_kept(&decided),
            Backing::Disk(index) => index.keep_clock(decided),
        }
    }

    fn clock_kept(&mut self, decided: &Rebases) {
        self.rebases = decided.clone();
        self.rebases.apply(&mut self.queues);
    }

    /// Keeps durable batches until they are archived.
    pub(crate) fn with_keep(self, keep: bool) -> Self {
        Self { keep, ..self }
    }

    pub(crate) fn queues(&self) -> &[EpochQueue] {
        &self.queues
    }

    pub(crate) fn queues_mut(&mut self) -> &mut [EpochQueue] {
        &mut self.queues
    }

    pub(crate) fn queue(&mut self, epoch: Epoch) -> Option<&mut EpochQueue> {
        self.queues.iter_mut().rev().find(|queue| queue.epoch == epoch)
    }

    fn current(&mut self) -> &mut EpochQueue {
        self.queues.last_mut().expect("an outbox has an epoch for new batches")
    }

    /// Appends a batch that was admitted, of the sequences `range`.
    pub(crate) fn push(
        &mut self,
        schema: Arc<Schema>,
        range: Range<u64>,
        payload: Payload,
        mark: Mark,
        report: &mut Report,
    ) {
        let (epoch, length, first) = (self.current().epoch, payload.len(), range.start);
        let count = u32::try_from(range.end - first).expect("a batch has at most MAX_ROWS rows");
        let (place, state) = match &mut self.backing {
            Backing::Memory { .. } => (Place::default(), State::Waiting),
            Backing::Disk(index) => (index.append(&schema, &payload, mark, &range), State::Unsynced),
        };
        let length = u32::try_from(length).expect("a payload is at most MAX_BATCH_BYTES");
        let payload = Some(payload);
        let batch = Queued { first, count, length, schema, payload, place, mark, state, sent_before: false };
        self.current().push(batch);
        if let Some(level) = self.current().known_ahead(&range) {
            self.reached(epoch, level, &range.into(), Instant::now(), report);
        }
    }

    /// Moves up to about `budget` bytes of batches of `class` to `out`, older epochs first. Returns the bytes taken.
    pub(crate) fn take(
        &mut self,
        class: Class,
        now: Instant,
        budget: usize,
        out: &mut Vec<Outgoing>,
    ) -> usize {
        let mut taken = 0;
        for queue in &mut self.queues {
            if taken < budget {
                taken += queue.take(class, now, budget - taken, out);
            }
        }
        self.in_flight.add(class, taken);
        taken
    }

    /// Whether [`Outbox::take`] would find something now.
    pub(crate) fn is_sendable(&self, class: Class, now: Instant) -> bool {
        self.queues.iter().any(|queue| queue.is_sendable(class, now))
    }

    /// The server attached an epoch, and says what it has of it.
    pub(crate) fn attached(&mut self, epoch: Epoch, attached: &Attached, now: Instant, report: &mut Report) {
        let Some(queue) = self.queue(epoch) else { return };
        let early = matches!(queue.attachment, Attachment::Early(_));
        queue.attached(attached.alias, &attached.stored, &attached.settled);
        let have = [&attached.stored, &attached.settled, &attached.archived];
        let lost = queue.want_again(|range| have.iter().any(|ranges| ranges.covers(range)));
        if lost > 0 {
            tracing::warn!(device = %self.device, %epoch, batches = lost, "the server lost what it had stored; sent again");
        }
        let device = self.device.clone();
        report.event(|| {
            let (epoch_number, stored) = (attached.epoch_number, attached.stored.count());
            Event::Attached { device, epoch, epoch_number, stored }
        });
        self.reached(epoch, Level::Durable, &attached.stored, now, report);
        self.reached(epoch, Level::Settled, &attached.settled, now, report);
        self.reached(epoch, Level::Archived, &attached.archived, now, report);
        self.report_lost(epoch, attached, report);
        if !early {
            self.set_backlog_apart(epoch);
        }
    }

    /// What is left of an older epoch, or has piled up in the present one, goes behind what is cut from here on.
    fn set_backlog_apart(&mut self, epoch: Epoch) {
        let (current, on_disk) = (self.current().epoch, matches!(self.backing, Backing::Disk(_)));
        let Some(queue) = self.queue(epoch).filter(|queue| queue.epoch != current || queue.is_piled_up())
        else {
            return;
        };
        queue.set_backlog();
        if on_disk {
            self.trim(epoch);
        }
    }

    /// The server has these sequences at this level.
    pub(crate) fn reached(
        &mut self,
        epoch: Epoch,
        level: Level,
        ranges: &SequenceRanges,
        now: Instant,
        report: &mut Report,
    ) {
        let digests = self.digests;
        let keeps = self.keep && level == Level::Durable;
        let Self { device, queues, backing, in_flight, .. } = self;
        let Some(queue) = queues.iter_mut().rev().find(|queue| queue.epoch == epoch) else { return };
        let rebase = queue.rebase;
        match level {
            Level::Archived => queue.archived.insert_all(ranges),
            Level::Settled => queue.given_up.insert_all(ranges),
            Level::Durable => {}
        }
        queue.dropped.remove_all(ranges);
        queue.unreported.remove_all(ranges);
        let mut places = Vec::new();
        for range in ranges {
            let on_disk = matches!(backing, Backing::Disk(_));
            let done = |batch: &Queued| {
                if on_disk && !keeps {
                    places.push(batch.place.segment);
                }
                let latency = match batch.state {
                    State::Sent(at) => Some(now.saturating_duration_since(at)),
                    _ => None,
                };
                count_settled(batch, level, report);
                report.event(|| {
                    let digest =
                        batch.sent_form(rebase).filter(|_| digests).map(|payload| Digest::of(&payload));
                    Event::Acked {
                        device: device.clone(),
                        epoch,
                        range: batch.range(),
                        level,
                        digest,
                        latency,
                    }
                });
            };
            in_flight.subtract(if keeps {
                queue.keep(&range, !on_disk, done)
            } else {
                queue.settle(&range, done)
            });
        }
        if let Backing::Disk(index) = backing {
            index.settled(&places);
        }
    }

    /// The server refused these sequences for good.
    pub(crate) fn rejected(
        &mut self,
        epoch: Epoch,
        range: &Range<u64>,
        code: Code,
        message: &str,
        report: &mut Report,
    ) {
        let Self { device, queues, backing, in_flight, .. } = self;
        let Some(queue) = queues.iter_mut().rev().find(|queue| queue.epoch == epoch) else { return };
        queue.given_up.insert(range.clone());
        let mut places = Vec::new();
        let freed = queue.settle(range, |batch| {
            places.push(batch.place.segment);
            if let (Backing::Disk(index), Some(payload)) = (&mut *backing, &batch.payload) {
                index.keep_rejected(epoch, batch.first, code, payload.clone());
            }
            report.stats.batches_rejected += 1;
            report.stats.events_rejected += u64::from(batch.count);
            let (range, message) = (batch.range(), message.to_owned());
            report.event(|| Event::Rejected { device: device.clone(), epoch, range, code, message });
        });
        in_flight.subtract(freed);
        if let Backing::Disk(index) = backing {
            index.settled(&places);
        }
    }

    /// The server wants these sequences again at `until`.
    pub(crate) fn deferred(&mut self, epoch: Epoch, range: &Range<u64>, until: Instant) {
        let freed = self.queue(epoch).map(|queue| queue.defer(range, until)).unwrap_or_default();
        self.in_flight.subtract(freed);
    }

    /// Sequences that neither this side nor the server has were lost with a damaged spool file. They are reported as
    /// dropped, so that the gap is settled.
    fn report_lost(&mut self, epoch: Epoch, attached: &Attached, report: &mut Report) {
        let device = self.device.clone();
        let Some(queue) = self.queue(epoch) else { return };
        let lost = queue.lost(attached);
        queue.dropped.insert_all(&lost);
        queue.unreported.insert_all(&lost);
        report.stats.events_dropped += lost.count();
        for range in &lost {
            tracing::warn!(%device, %epoch, ?range, "sequences are neither in the spool nor at the server");
            report.event(|| Event::Dropped { device: device.clone(), epoch, range });
        }
    }

    /// The connection is gone; everything unsettled is to be sent again.
    pub(crate) fn rewind(&mut self) {
        for queue in &mut self.queues {
            self.in_flight.subtract(queue.rewind());
        }
    }

    /// The server took nothing of the first flight; it counts as never sent.
    pub(crate) fn take_back(&mut self) {
        for queue in &mut self.queues {
            self.in_flight.subtract(queue.take_back());
        }
    }

    /// When the server is to hear of this device, if it has anything to say.
    pub(crate) fn demand(&self, now: Instant) -> Option<Instant> {
        self.queues.iter().filter_map(|queue| queue.demand(now)).min()
    }

    /// The server refused the epoch for now: asks again at `until`, and gives up what was in memory for it.
    pub(crate) fn refused(&mut self, epoch: Epoch, until: Instant) {
        let on_disk = matches!(self.backing, Backing::Disk(_));
        let Some(queue) = self.queue(epoch) else { return };
        let freed = queue.rewind();
        queue.attachment = Attachment::Refused(until);
        if on_disk {
            queue.unload_all();
        }
        self.in_flight.subtract(freed);
    }

    /// Forgets old epochs that have nothing left to say.
    pub(crate) fn retire(&mut self, epoch: Epoch) {
        let current = self.current().epoch;
        self.queues.retain(|queue| queue.epoch == current || queue.epoch != epoch || !queue.is_done());
    }

    /// How many batches and events have not reached `level`, of those before the [mark](Outbox::mark).
    pub(crate) fn pending(&self, level: Level, mark: &[(Epoch, u64)]) -> (u64, u64) {
        let (mut batches, mut events) = (0, 0);
        for (epoch, end) in mark {
            let Some(queue) = self.queues.iter().find(|queue| queue.epoch == *epoch) else { continue };
            let mut unsettled = 0;
            for batch in queue.present().take_while(|batch| batch.first < *end) {
                let counts = level == Level::Archived || batch.state != State::Kept;
                batches += u64::from(counts);
                unsettled += u64::from(batch.count) * u64::from(counts);
            }
            // Batches that are stored need not be here: what is not archived is known by its sequences alone.
            events += if level == Level::Archived { queue.unarchived(*end).count() } else { unsettled };
        }
        (batches, events)
    }

    /// Where each epoch ends now.
    pub(crate) fn mark(&self) -> Vec<(Epoch, u64)> {
        self.queues.iter().map(|queue| (queue.epoch, queue.next_sequence)).collect()
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn failure(&self) -> Option<&SpoolError> {
        self.failure.as_ref()
    }
}

fn count_settled(batch: &Queued, level: Level, report: &mut Report) {
    let events = u64::from(batch.count);
    match (level, batch.sent_before) {
        _ if batch.state == State::Kept => {}
        (Level::Settled, _) => {}
        (_, true) => {
            report.stats.batches_acked += 1;
            report.stats.events_acked += events;
        }
        (_, false) => {
            report.stats.batches_already_stored += 1;
            report.stats.events_already_stored += events;
        }
    }
}
