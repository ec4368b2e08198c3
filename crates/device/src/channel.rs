//! One device on a link: where recorders, the link and the disk meet.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use icecore_wire::{BatchError, BatchHeader, DeviceName, Epoch, Level, Payload, Schema};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::WhenFull;
use crate::error::{ConnectError, RecordError, SpoolError};
use crate::event::Pending;
use crate::link::Link;
use crate::spool::Spool;
use crate::spool::class::Class;
use crate::spool::disk::SpoolFiles;
use crate::spool::outbox::{Admission, Outbox};
use crate::spool::queue::{EpochQueue, Mark};
use crate::spool::rebase::Rebases;
use crate::watch::Report;

/// One device's state. Locks are taken in the order `next_sequence`, `outbox`; neither is held across an await.
pub(crate) struct Channel {
    pub(crate) name: DeviceName,
    pub(crate) epoch: Epoch,
    pub(crate) link: Arc<Link>,
    /// Held while a batch is encoded, so that batches enter the outbox in order without keeping the link out of it.
    next_sequence: Mutex<u64>,
    outbox: Mutex<Outbox>,
    files: Option<Arc<Mutex<SpoolFiles>>>,
    /// Whether the link has been told that there is something to ask or to send live, or backlog to send.
    signalled: [AtomicBool; 2],
    /// Whether a task waits until the disk may be written to.
    write_timer: AtomicBool,
    /// Whether the device was closed and the link is only to let go of it.
    removed: AtomicBool,
    /// How many wait for what only a connection tells.
    asking: AtomicUsize,
    /// Batches were settled or synced: there may be room, and a flush may be over.
    pub(crate) progress: Notify,
}

impl Channel {
    /// Opens the spool. Blocks on the disk if it is there.
    pub(crate) fn open(name: DeviceName, spool: Spool, link: &Arc<Link>) -> Result<Arc<Self>, ConnectError> {
        let in_flight = link.in_flight();
        match spool {
            Spool::Memory { max_bytes } => {
                let outbox = Outbox::in_memory(name.clone(), Epoch::random(), max_bytes, in_flight);
                Ok(Self::new(name, outbox, None, Rebases::default(), link))
            }
            Spool::Disk { dir, max_bytes } => {
                let (files, queues, index) =
                    SpoolFiles::open(&dir, max_bytes, link.config.sync_every, link.clock.boot())?;
                let outbox = Outbox::on_disk(name.clone(), queues, index, in_flight);
                let rebases = files.rebases()?;
                Ok(Self::new(name, outbox, Some(files), rebases, link))
            }
        }
    }

    /// With a spool in memory, for an epoch that the server may know already.
    pub(crate) fn repeating(name: DeviceName, epoch: Epoch, max_bytes: usize, link: &Arc<Link>) -> Arc<Self> {
        let outbox = Outbox::in_memory(name.clone(), epoch, max_bytes, link.in_flight()).repeating();
        Self::new(name, outbox, None, Rebases::default(), link)
    }

    fn new(
        name: DeviceName,
        outbox: Outbox,
        files: Option<SpoolFiles>,
        rebases: Rebases,
        link: &Arc<Link>,
    ) -> Arc<Self> {
        let clock = &link.clock;
        let of_present = rebases.boots.get(&clock.boot()).filter(|rebase| !rebase.uncertain);
        clock.recall(of_present.map(|rebase| rebase.offset), rebases.server_time);
        let mut outbox = outbox.with_clock(clock.boot(), rebases);
        outbox.clock_known(clock);
        let newest = outbox.queues().last().map(|queue| (queue.epoch, queue.next_sequence));
        let (epoch, next_sequence) = newest.expect("a spool has an epoch for new batches");
        let keep = link.config.keep_until == Level::Archived;
        Arc::new(Self {
            name,
            epoch,
            link: Arc::clone(link),
            next_sequence: Mutex::new(next_sequence),
            outbox: Mutex::new(outbox.with_digests(link.config.digests).with_keep(keep)),
            files: files.map(|files| Arc::new(Mutex::new(files))),
            signalled: Default::default(),
            write_timer: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            asking: AtomicUsize::new(0),
            progress: Notify::new(),
        })
    }

    pub(crate) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().expect("an outbox is never left half changed")
    }

    /// Changes the outbox, then publishes what happened and sets everybody concerned in motion.
    pub(crate) fn update<T>(self: &Arc<Self>, change: impl FnOnce(&mut Outbox, &mut Report) -> T) -> T {
        let mut report = self.link.watchers.report();
        let result = change(&mut self.outbox(), &mut report);
        self.link.watchers.publish(&report);
        self.progress.notify_waiters();
        self.work_on_disk();
        result
    }

    /// Cuts a batch of `count` events, encoded by `encode` with its first sequence, unless the spool is full, or drops it.
    pub(crate) fn cut(
        self: &Arc<Self>,
        schema: &Arc<Schema>,
        mark: Mark,
        count: u32,
        encode: impl FnOnce(u64) -> Result<Payload, BatchError>,
    ) -> Result<Admission, RecordError> {
        let mut next = self.next_sequence.lock().expect("a sequence is never left half changed");
        let mut report = self.link.watchers.report();
        let when_full = self.link.config.when_full;
        let mut admission = self.outbox().admit(when_full, mark.priority, count, &mut report);
        match admission {
            Ok(Admission::Room) => match encode(*next) {
                Ok(payload) => {
                    let range = *next..*next + u64::from(count);
                    *next = range.end;
                    self.outbox().push(Arc::clone(schema), range, payload, mark, &mut report);
                }
                Err(error) => admission = Err(error.into()),
            },
            Ok(Admission::Dropped) => *next += u64::from(count),
            Ok(Admission::Full) | Err(_) => {}
        }
        drop(next);
        self.cut_done(&admission, &report);
        admission
    }

    /// Takes a batch that was cut before, with the sequences it has, unless the spool is full. Those in between are no matter of
    /// this side.
    pub(crate) fn hand_in(
        self: &Arc<Self>,
        schema: &Arc<Schema>,
        payload: &Payload,
    ) -> Result<Admission, RecordError> {
        let range = BatchHeader::peek(payload)?.range();
        let mut next = self.next_sequence.lock().expect("a sequence is never left half changed");
        if range.start < *next {
            return Err(RecordError::OutOfOrder { first: range.start, next: *next });
        }
        let mut report = self.link.watchers.report();
        let (mark, count) = (Mark::default(), (range.end - range.start) as u32);
        let admission = self.outbox().admit(WhenFull::Wait, mark.priority, count, &mut report);
        if let Ok(Admission::Room) = admission {
            *next = range.end;
            self.outbox().push(Arc::clone(schema), range, payload.clone(), mark, &mut report);
        }
        drop(next);
        self.cut_done(&admission, &report);
        admission
    }

    /// Tells everybody concerned what became of a batch.
    fn cut_done(self: &Arc<Self>, admission: &Result<Admission, RecordError>, report: &Report) {
        if !report.is_empty() {
            self.link.watchers.publish(report);
        }
        // The link hears of a batch when it is fsynced.
        if self.files.is_some() {
            self.work_on_disk();
        }
        if self.files.is_none() || matches!(admission, Ok(Admission::Dropped)) {
            self.signal();
        }
    }

    /// Tells the link that there is something to ask or to send.
    pub(crate) fn signal(self: &Arc<Self>) {
        self.signal_class(Class::Live);
    }

    /// Tells the link that there is something of `class` to send. What else there is comes up with what is live.
    pub(crate) fn signal_class(self: &Arc<Self>, class: Class) {
        if !self.signalled[class as usize].swap(true, Ordering::AcqRel) {
            self.link.signal(class, Arc::clone(self));
        }
    }

    /// The link is about to look: whatever comes after this signals anew.
    pub(crate) fn begin_service(&self, class: Class) {
        self.signalled[class as usize].store(false, Ordering::Release);
    }

    /// The device was closed.
    pub(crate) fn remove(self: &Arc<Self>) {
        self.removed.store(true, Ordering::Relaxed);
        self.signal();
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// Wants a connection, and the device attached on it, until the result is dropped.
    pub(crate) fn ask(self: &Arc<Self>) -> Asking {
        self.asking.fetch_add(1, Ordering::AcqRel);
        self.signal();
        Asking(Arc::clone(self))
    }

    pub(crate) fn is_asking(&self) -> bool {
        self.asking.load(Ordering::Acquire) > 0
    }

    /// When the device needs a connection, if it needs one.
    pub(crate) fn demand(&self, now: std::time::Instant) -> Option<std::time::Instant> {
        if self.is_asking() { Some(now) } else { self.outbox().demand(now) }
    }

    /// Has the disk's work carried out on a blocking thread, if there is any and nobody does already.
    pub(crate) fn work_on_disk(self: &Arc<Self>) {
        let Some(files) = &self.files else { return };
        let now = std::time::Instant::now();
        let mut outbox = self.outbox();
        if outbox.disk_work_to_start(now) {
            let (channel, files) = (Arc::clone(self), Arc::clone(files));
            tokio::task::spawn_blocking(move || channel.carry_out(&files));
        } else if let Some(due) = outbox.disk_work_due(now)
            && !self.write_timer.swap(true, Ordering::AcqRel)
        {
            tokio::spawn(work_at(Arc::downgrade(self), due.into()));
        }
    }

    /// Has what waits for its fsync written, however long ago the last one was.
    pub(crate) fn sync_now(self: &Arc<Self>) {
        self.outbox().sync_now();
        self.work_on_disk();
    }

    fn carry_out(self: &Arc<Self>, files: &Mutex<SpoolFiles>) {
        let mut files = lock_files(files);
        loop {
            let Some(work) = self.outbox().next_disk_work(std::time::Instant::now()) else { break };
            let done = files.perform(&work);
            if let Err(failure) = &done {
                tracing::error!(device = %self.name, %failure, "the spool's disk failed; nothing more is recorded");
                self.link.set_error(failure.to_string());
            }
            let failed = done.is_err();
            let mut report = self.link.watchers.report();
            self.outbox().disk_work_done(&work, done, &mut report);
            self.link.watchers.publish(&report);
            self.progress.notify_waiters();
            self.signal();
            if failed {
                return;
            }
        }
        // For those who wait until nothing is left to do.
        self.progress.notify_waiters();
        self.work_on_disk();
    }

    /// What has not reached `level` of what was cut before `mark`, if anything.
    pub(crate) fn pending(&self, level: Level, mark: &[(Epoch, u64)]) -> Option<Pending> {
        let (batches, events) = self.outbox().pending(level, mark);
        (events > 0).then(|| Pending { batches, events, last_error: self.link.last_error() })
    }

    /// Records nothing more; a spool on disk whose content is all fsynced is closed so that its epoch can go on.
    pub(crate) async fn close(self: &Arc<Self>) -> Result<(), SpoolError> {
        self.outbox().close();
        self.sync_now();
        let Some(files) = self.files.clone() else { return Ok(()) };
        loop {
            let progress = self.progress.notified();
            {
                let outbox = self.outbox();
                if let Some(failure) = outbox.failure() {
                    return Err(failure.clone());
                }
                if outbox.is_disk_idle() {
                    break;
                }
            }
            progress.await;
        }
        let end = self.outbox().queues().last().map(|queue: &EpochQueue| (queue.epoch, queue.next_sequence));
        let Some((epoch, next_sequence)) = end else { return Ok(()) };
        let closing = tokio::task::spawn_blocking(move || lock_files(&files).close(epoch, next_sequence));
        closing.await.expect("closing a spool does not panic")
    }

    /// Waits until `done` holds of this channel's progress, or until the deadline.
    pub(crate) async fn wait_until(&self, deadline: Instant, mut done: impl FnMut() -> bool) -> bool {
        loop {
            let progress = self.progress.notified();
            if done() {
                return true;
            }
            if tokio::time::timeout_at(deadline, progress).await.is_err() {
                return done();
            }
        }
    }
}

/// Has the disk's work carried out at `due`.
async fn work_at(channel: Weak<Channel>, due: Instant) {
    tokio::time::sleep_until(due).await;
    if let Some(channel) = channel.upgrade() {
        channel.write_timer.store(false, Ordering::Release);
        channel.work_on_disk();
    }
}

/// Somebody waits for what only a connection tells.
pub(crate) struct Asking(Arc<Channel>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.asking.fetch_sub(1, Ordering::AcqRel);
        self.0.signal();
    }
}

fn lock_files(files: &Mutex<SpoolFiles>) -> MutexGuard<'_, SpoolFiles> {
    files.lock().expect("spool files are used by one thread at a time")
}

#[cfg(test)]
mod tests;
