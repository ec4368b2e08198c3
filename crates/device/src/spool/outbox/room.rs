//! What a full spool lets go of.

use std::collections::HashSet;
use std::ops::Range;
use std::slice;

use super::{Admission, Backing, CACHE_BYTES, Outbox};
use crate::config::WhenFull;
use crate::error::RecordError;
use crate::event::Event;
use crate::spool::priority::Priority;
use crate::spool::queue::{EpochQueue, Queued, State};
use crate::watch::Report;

impl Outbox {
    /// Whether a batch of `count` events may be pushed; makes room where that costs nothing, or where the policy says so.
    ///
    /// The bound is soft by one batch, whose size nobody knows before it is encoded.
    pub(crate) fn admit(
        &mut self,
        when_full: WhenFull,
        priority: Priority,
        count: u32,
        report: &mut Report,
    ) -> Result<Admission, RecordError> {
        if self.closed {
            return Err(RecordError::Closed);
        }
        if let Some(failure) = &self.failure {
            return Err(failure.clone().into());
        }
        while self.is_full() {
            if self.free_idle() || self.let_go_of_kept() {
                continue;
            }
            let dropped = match when_full {
                WhenFull::Wait => false,
                WhenFull::DropOldest => self.drop_oldest(report),
                WhenFull::DropLeastImportant => {
                    let least = self.queues.iter().filter_map(EpochQueue::least_important).min();
                    if least.is_some_and(|least| priority < least) && self.drop_newcomer(count, report) {
                        return Ok(Admission::Dropped);
                    }
                    least.is_some_and(|least| self.drop_oldest_of(least, report)) || self.drop_oldest(report)
                }
            };
            if !dropped {
                return Ok(Admission::Full);
            }
        }
        match &self.backing {
            // A disk that cannot keep up is waited for under any policy: memory is bounded too.
            Backing::Disk(index) if index.unsynced_bytes() >= CACHE_BYTES => Ok(Admission::Full),
            Backing::Memory { .. } | Backing::Disk(_) => Ok(Admission::Room),
        }
    }

    /// Payload bytes in memory.
    fn held(&self) -> usize {
        self.queues.iter().map(|queue| queue.held().total()).sum()
    }

    fn is_full(&self) -> bool {
        match &self.backing {
            Backing::Memory { max_bytes } => self.held() >= *max_bytes,
            Backing::Disk(index) => index.is_full(),
        }
    }

    /// Lets go of the oldest batch that is only kept until it is archived; on disk, of the oldest file that holds no
    /// others. The server has them, so nobody is told.
    fn let_go_of_kept(&mut self) -> bool {
        let on_disk = matches!(self.backing, Backing::Disk(_));
        let mut needed: HashSet<u64> = HashSet::new();
        if on_disk {
            needed.extend(self.queues.iter().flat_map(EpochQueue::iter).map(|batch| batch.place.segment));
        }
        let free = |batch: &&Queued| {
            batch.state == State::Kept && !(on_disk && needed.contains(&batch.place.segment))
        };
        let Some(batch) = self.queues.iter().find_map(|queue| queue.present().find(free)) else {
            return false;
        };
        let (place, first) = (batch.place, batch.first);
        self.forget_kept(
            |batch| if on_disk { batch.place.segment == place.segment } else { batch.first == first },
        );
        true
    }

    /// Settles kept batches without a word.
    fn forget_kept(&mut self, which: impl Fn(&Queued) -> bool) {
        let mut places = Vec::new();
        for queue in &mut self.queues {
            let kept = queue.present().filter(|batch| batch.state == State::Kept && which(batch));
            for range in kept.map(Queued::range).collect::<Vec<_>>() {
                queue.settle(&range, |batch| places.push(batch.place.segment));
            }
        }
        if let Backing::Disk(index) = &mut self.backing {
            index.settled(&places);
        }
    }

    /// Frees files that hold nothing any more but are still appended to.
    fn free_idle(&mut self) -> bool {
        match &mut self.backing {
            Backing::Memory { .. } => false,
            Backing::Disk(index) => index.free_idle(),
        }
    }

    /// Drops the oldest batch that is not on its way. On disk, where only a whole file can be freed, all up to the end of
    /// the file that ends first: what is dropped has no holes, whatever lies in files of other priorities.
    ///
    /// A link that is too slow leaves a hole behind every batch that it sends. When an epoch has as many as it may have, what
    /// lies beside one goes, the oldest first; or else the newest, to make one that lasts until the link has come to it.
    fn drop_oldest(&mut self, report: &mut Report) -> bool {
        let victims = |queue| Self::oldest_to_drop(&self.backing, queue);
        let mut found = self.queues.iter().map(victims).enumerate();
        let Some((at, victims)) = found.find_map(|(at, victims)| Some((at, victims?))) else { return false };
        self.drop_batches(at, &victims, report);
        true
    }

    /// What [`Outbox::drop_oldest`] drops of an epoch, if anything.
    fn oldest_to_drop(backing: &Backing, queue: &EpochQueue) -> Option<Vec<Range<u64>>> {
        let candidates: Box<dyn Iterator<Item = Vec<Range<u64>>>> = match backing {
            Backing::Memory { .. } => Box::new(queue.to_drop().map(|batch| vec![batch.range()])),
            Backing::Disk(index) => {
                let files = index.by_end(queue.to_drop().map(|batch| batch.place.segment));
                Box::new(files.into_iter().enumerate().map(|(at, (end, file))| {
                    let is_in = |batch: &&Queued| batch.place.segment == file;
                    let start =
                        if at == 0 { 0 } else { queue.iter().find(is_in).map_or(0, |batch| batch.first) };
                    let lies_between = |batch: &&Queued| batch.first >= start && batch.range().end <= end;
                    let goes = |batch: &&Queued| is_in(batch) || lies_between(batch) && !batch.is_sent();
                    queue.iter().filter(goes).map(Queued::range).collect()
                }))
            }
        };
        let mut newest = None;
        for victims in candidates {
            if queue.has_room_for_holes(&victims) {
                return Some(victims);
            }
            newest = Some(victims);
        }
        newest.filter(|_| queue.has_room_for_a_last_hole())
    }

    /// Drops the oldest batch of a priority, on disk with all that shares its file; not if that made more holes in its epoch
    /// than there may be.
    fn drop_oldest_of(&mut self, priority: Priority, report: &mut Report) -> bool {
        let on_disk = matches!(self.backing, Backing::Disk(_));
        let of = |queue: &EpochQueue| queue.least_important() == Some(priority);
        let Some(at) = self.queues.iter().position(of) else { return false };
        let queue = &mut self.queues[at];
        let Some(oldest) = queue.oldest_of(priority) else { return false };
        let (range, file) = (oldest.range(), oldest.place.segment);
        let victims: Vec<_> = if on_disk {
            queue.iter().filter(|batch| batch.place.segment == file).map(Queued::range).collect()
        } else {
            vec![range]
        };
        let has_room = queue.has_room_for_holes(&victims);
        if has_room {
            self.drop_batches(at, &victims, report);
        }
        has_room
    }

    /// Gives the next sequences to events that are dropped at once; not if that made one hole too many in the epoch.
    fn drop_newcomer(&mut self, count: u32, report: &mut Report) -> bool {
        let device = self.device.clone();
        let queue = self.current();
        let epoch = queue.epoch;
        let range = queue.next_sequence..queue.next_sequence + u64::from(count);
        if !queue.has_room_for_holes(slice::from_ref(&range)) {
            return false;
        }
        queue.skip(&range);
        report.stats.events_dropped += u64::from(count);
        report.event(|| Event::Dropped { device, epoch, range });
        if let Backing::Disk(index) = &mut self.backing {
            // Not at once: that would write to a full disk, for each of them, what is of little worth.
            index.note_drops_later();
        }
        true
    }

    /// Gives up batches of one epoch, and what is only kept in the files that this frees.
    fn drop_batches(&mut self, at: usize, victims: &[Range<u64>], report: &mut Report) {
        let Self { device, queues, backing, in_flight, .. } = self;
        let queue = &mut queues[at];
        let (epoch, mut files) = (queue.epoch, Vec::new());
        for range in victims {
            in_flight.subtract(queue.give_up(range, |batch| files.push(batch.place.segment)));
            report.stats.events_dropped += range.end - range.start;
            let range = range.clone();
            report.event(|| Event::Dropped { device: device.clone(), epoch, range });
        }
        if let Backing::Disk(index) = backing {
            index.settled(&files);
            index.note_drops();
        }
    }
}

#[cfg(test)]
mod tests;
