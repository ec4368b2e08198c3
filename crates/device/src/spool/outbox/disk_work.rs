//! What is to be done with the files of a spool on disk, and what came of it.

use std::time::Instant;

use icecore_wire::Epoch;

use super::{Backing, CACHE_BYTES, Outbox};
use crate::error::SpoolError;
use crate::event::Event;
use crate::spool::class::Class;
use crate::spool::disk::{Done, Work};
use crate::spool::queue::EpochQueue;
use crate::watch::Report;

impl Outbox {
    /// Whether the disk has work to do that nobody does yet; if so, the caller does it from now on.
    pub(crate) fn disk_work_to_start(&mut self, now: Instant) -> bool {
        let Self { backing: Backing::Disk(index), queues, failure: None, .. } = self else { return false };
        index.start_work(queues, now)
    }

    /// When the disk has work to do, if that is not now.
    pub(crate) fn disk_work_due(&self, now: Instant) -> Option<Instant> {
        let Backing::Disk(index) = &self.backing else { return None };
        index.write_due(now).filter(|_| self.failure.is_none())
    }

    /// What waits for its fsync is not to wait any longer.
    pub(crate) fn sync_now(&mut self) {
        if let Backing::Disk(index) = &mut self.backing {
            index.sync_now();
        }
    }

    /// The next work for the disk, from whoever does it; `None` ends that.
    pub(crate) fn next_disk_work(&mut self, now: Instant) -> Option<Work> {
        let Backing::Disk(index) = &mut self.backing else { return None };
        index.next_work(&self.queues, now)
    }

    /// What came of work for the disk.
    pub(crate) fn disk_work_done(
        &mut self,
        work: &Work,
        done: Result<Done, SpoolError>,
        report: &mut Report,
    ) {
        let Backing::Disk(index) = &mut self.backing else { return };
        let done = match done {
            Ok(done) => done,
            Err(failure) => {
                self.failure.get_or_insert(failure);
                return;
            }
        };
        report.stats.spool_bytes_written += done.written;
        report.stats.spool_fsyncs += done.fsyncs;
        index.synced(work);
        if let Some((epoch, through)) = work.synced {
            self.synced(epoch, through);
        }
        if let Some(decided) = &work.clock {
            self.clock_kept(decided);
        }
        for (epoch, first, payload) in done.loaded {
            if let Some(queue) = self.queue(epoch) {
                queue.loaded(first, payload);
            }
        }
        for (epoch, first) in done.damaged {
            self.give_up_damaged(epoch, first, report);
        }
    }

    /// Everything of `epoch` before `through` is fsynced: it may be sent.
    fn synced(&mut self, epoch: Epoch, through: u64) {
        if let Some(queue) = self.queue(epoch) {
            queue.synced(through);
        }
        self.trim(epoch);
    }

    /// Lets go of what is beyond the cache.
    pub(super) fn trim(&mut self, epoch: Epoch) {
        let has_backlog = self.queues.iter().any(EpochQueue::has_backlog);
        let limit = if has_backlog { CACHE_BYTES / 2 } else { CACHE_BYTES };
        if let Some(queue) = self.queue(epoch) {
            Class::ALL.into_iter().for_each(|class| queue.trim(class, limit));
        }
    }

    /// A batch on disk cannot be read any more.
    fn give_up_damaged(&mut self, epoch: Epoch, first: u64, report: &mut Report) {
        let device = self.device.clone();
        let Some(queue) = self.queue(epoch) else { return };
        let Some(batch) = queue.iter().find(|batch| batch.first == first) else { return };
        let (range, place) = (batch.range(), batch.place.segment);
        queue.give_up(&range, |_| {});
        report.stats.events_dropped += range.end - range.start;
        tracing::error!(%device, %epoch, ?range, file = place, "a batch in the spool is damaged and given up");
        report.event(|| Event::Dropped { device, epoch, range });
        if let Backing::Disk(index) = &mut self.backing {
            index.settled(&[place]);
            index.note_drops();
        }
    }

    /// Whether everything on disk is fsynced and nothing more is to be done there.
    pub(crate) fn is_disk_idle(&self) -> bool {
        match &self.backing {
            Backing::Memory { .. } => true,
            Backing::Disk(index) => index.is_idle(),
        }
    }
}
