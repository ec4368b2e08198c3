//! What a full spool lets go of.

use std::collections::HashSet;

use super::{Admission, Backing, CACHE_BYTES, Outbox};
use crate::config::WhenFull;
use crate::error::RecordError;
use crate::event::Event;
use crate::spool::queue::{EpochQueue, Place, Queued, State};
use crate::watch::Report;

impl Outbox {
    /// Whether a batch may be pushed; makes room where that costs nothing, or where the policy says so.
    ///
    /// The bound is soft by one batch, whose size nobody knows before it is encoded.
    pub(crate) fn admit(
        &mut self,
        when_full: WhenFull,
        report: &mut Report,
    ) -> Result<Admission, RecordError> {
        if self.closed {
            return Err(RecordError::Closed);
        }
        if let Some(failure) = &self.failure {
            return Err(failure.clone().into());
        }
        while self.is_full() {
            if !self.let_go_of_kept() && (when_full == WhenFull::Wait || !self.drop_oldest(report)) {
                return Ok(Admission::Full);
            }
        }
        match &self.backing {
            // A disk that cannot keep up is waited for under either policy: memory is bounded too.
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
        if let Backing::Disk(index) = &self.backing {
            needed.extend(self.queues.iter().flat_map(EpochQueue::iter).map(|batch| batch.place.segment));
            // It cannot be freed.
            needed.extend(index.newest_file());
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

    /// Drops the oldest batch; on disk all that shares its file, which only then can be freed.
    fn drop_oldest(&mut self, report: &mut Report) -> bool {
        let Self { device, queues, backing, in_flight, .. } = self;
        let Some(queue) = queues.iter_mut().find(|queue| queue.unsettled() > 0) else { return false };
        let Some(oldest) = queue.oldest_to_drop() else { return false };
        let Place { segment: file, .. } = oldest.place;
        let ranges = match backing {
            Backing::Memory { .. } => vec![oldest.range()],
            Backing::Disk(_) => {
                queue.iter().filter(|batch| batch.place.segment == file).map(Queued::range).collect()
            }
        };
        let (epoch, mut places) = (queue.epoch, Vec::new());
        for range in ranges {
            in_flight.subtract(queue.give_up(&range, |batch| places.push(batch.place.segment)));
            report.stats.events_dropped += range.end - range.start;
            report.event(|| Event::Dropped { device: device.clone(), epoch, range });
        }
        if let Backing::Disk(index) = backing {
            index.settled(&places);
            index.note_drops();
            self.forget_kept(|batch| batch.place.segment == file);
        }
        true
    }
}
