//! What lies in which spool file, and what has to be done with the files next.
//!
//! A full spool drops whole files, because bytes come free with a file only. So that it can drop by priority, batches of
//! different priorities do not share a file: one is open, that is, appended to, for each.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use icecore_wire::{Code, Epoch, Payload, Schema, SchemaId};

use super::format::{FRAME_HEADER, FileId, Kind, dropped_payload, frame_bytes, start_payload};
use crate::clock::Boot;
use crate::spool::class::Class;
use crate::spool::outbox::CACHE_BYTES;
use crate::spool::priority::{ByPriority, Priority};
use crate::spool::queue::{Attachment, EpochQueue, MAX_HOLES, Mark, Place};
use crate::spool::rebase::Rebases;

/// A file is at most this fraction of the spool: what is freed at once, and what a full spool drops at once.
const FILES_PER_SPOOL: u64 = 16;
const MIN_FILE_BYTES: u64 = 64 << 10;
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Disjoint ranges of sequences in a file, where batches of other priorities lie between: as many holes as dropping it may
/// make. A quarter of what an epoch may have, so that some files can be dropped.
const MAX_FILE_RUNS: usize = MAX_HOLES / 4;

/// The files of a spool as they will be when all work is done.
#[derive(Debug)]
pub(crate) struct DiskIndex {
    /// Where new batches go.
    epoch: Epoch,
    /// In order of number. The last one is never freed: no number is used twice.
    files: VecDeque<FileIndex>,
    /// The numbers of those that are appended to.
    open: ByPriority<Option<u64>>,
    next_number: u64,
    used: u64,
    max_bytes: u64,
    unsynced: usize,
    /// How often files are written to at most, unless somebody waits for it.
    sync_every: Duration,
    /// When they may be written to again.
    next_sync: Option<Instant>,
    /// The present one.
    boot: Boot,
    /// Whether somebody waits for what is not fsynced.
    urgent: bool,
    work: Work,
    /// Whether someone is carrying out work; only then are there two of them.
    busy: bool,
    /// Drops are to be written again: new ones, or those in a file that is about to go.
    drops: bool,
    /// Drops are to be written again when somebody waits for the disk.
    drops_later: bool,
}

#[derive(Debug)]
pub(super) struct FileIndex {
    pub(super) id: FileId,
    pub(super) boot: Option<Boot>,
    pub(super) bytes: u64,
    /// Batches in it that are not settled.
    pub(super) live: usize,
    pub(super) schemas: Vec<SchemaId>,
    /// Of its batches.
    pub(super) priority: Priority,
    /// Disjoint ranges of sequences that were appended.
    pub(super) runs: usize,
    /// The sequence after its last batch.
    pub(super) end: u64,
    /// It ends in a whole frame: what is appended to it can be read again.
    pub(super) whole: bool,
}

impl FileIndex {
    pub(super) fn new(id: FileId, boot: Option<Boot>) -> Self {
        let (priority, schemas) = (Priority::default(), Vec::new());
        Self { id, boot, bytes: 0, live: 0, schemas, priority, runs: 0, end: 0, whole: true }
    }

    /// A batch with these sequences was appended.
    pub(super) fn appended(&mut self, range: &Range<u64>) {
        self.runs += usize::from(self.runs == 0 || range.start != self.end);
        self.end = range.end;
    }
}

/// What is to be done with files, in this order.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(super) appends: Vec<Append>,
    /// Up to which sequence an epoch is fsynced once the appends are.
    pub(crate) synced: Option<(Epoch, u64)>,
    pub(super) appended: usize,
    /// What is to be kept of clocks.
    pub(crate) clock: Option<Rebases>,
    pub(super) frees: Vec<FileId>,
    pub(super) rejected: Vec<Rejected>,
    pub(super) loads: Vec<Load>,
}

/// A frame to be appended.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) file: FileId,
    pub(super) offset: u64,
    pub(super) kind: Kind,
    pub(super) mark: Mark,
    pub(super) content: Content,
}

/// What a frame holds: a batch is shared with memory, the rest made for the file.
#[derive(Debug)]
pub(super) enum Content {
    Shared(Payload),
    Owned(Vec<u8>),
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(payload) => payload,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A payload to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) epoch: Epoch,
    pub(super) first: u64,
    pub(super) place: Place,
    pub(super) length: u32,
}

/// A batch that the server refused for good, to be kept for people to look at.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) epoch: Epoch,
    pub(super) first: u64,
    pub(super) code: Code,
    pub(super) payload: Payload,
}

impl DiskIndex {
    /// The index over files found, in order of number; new batches are `epoch`'s.
    pub(super) fn new(
        files: VecDeque<FileIndex>,
        epoch: Epoch,
        max_bytes: u64,
        sync_every: Duration,
        boot: Boot,
    ) -> Self {
        let used = files.iter().map(|file| file.bytes).sum();
        let next_number = files.back().map_or(0, |file| file.id.number + 1);
        let mut open = ByPriority::default();
        for file in files.iter().filter(|file| file.id.epoch == epoch) {
            open[file.priority] = file.whole.then_some(file.id.number);
        }
        let work = Work::default();
        Self {
            epoch,
            files,
            open,
            next_number,
            used,
            max_bytes,
            unsynced: 0,
            sync_every,
            boot,
            next_sync: None,
            urgent: false,
            work,
            busy: false,
            drops: false,
            drops_later: false,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.used >= self.max_bytes
    }

    /// Bytes of all files.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Payload bytes appended and not fsynced yet.
    pub(crate) fn unsynced_bytes(&self) -> usize {
        self.unsynced
    }

    /// Appends a batch with the sequences `range`; returns where its payload will lie.
    pub(crate) fn append(
        &mut self,
        schema: &Arc<Schema>,
        payload: &Payload,
        mark: Mark,
        range: &Range<u64>,
    ) -> Place {
        let room_for = frame_bytes(payload.len()) + frame_bytes(schema.canonical().len());
        let index = self.file_for(mark.priority, room_for);
        if !self.files[index].schemas.contains(&schema.id()) {
            self.files[index].schemas.push(schema.id());
            self.write(index, Kind::Schema, Mark::default(), Content::Owned(schema.canonical().to_vec()));
        }
        let frame = self.write(index, Kind::Batch, mark, Content::Shared(payload.clone()));
        let file = &mut self.files[index];
        file.live += 1;
        file.appended(range);
        self.unsynced += payload.len();
        self.work.appended += payload.len();
        self.work.synced = Some((self.epoch, range.end));
        Place { segment: file.id.number, offset: frame + FRAME_HEADER as u64 }
    }

    /// Which file takes another `bytes` of a priority.
    fn file_for(&mut self, priority: Priority, bytes: usize) -> usize {
        let limit = (self.max_bytes / FILES_PER_SPOOL).clamp(MIN_FILE_BYTES, MAX_FILE_BYTES);
        let fits = |file: &FileIndex| file.bytes + bytes as u64 <= limit && file.runs < MAX_FILE_RUNS;
        match self.open[priority].and_then(|number| self.find(number)) {
            Some(index) if fits(&self.files[index]) => index,
            _ => {
                self.begin_file(priority);
                // What it follows may go now, which moves it.
                self.free_settled();
                self.files.len() - 1
            }
        }
    }

    fn begin_file(&mut self, priority: Priority) {
        let id = FileId { epoch: self.epoch, number: self.next_number };
        self.next_number += 1;
        self.open[priority] = Some(id.number);
        self.files.push_back(FileIndex { priority, ..FileIndex::new(id, Some(self.boot)) });
        let start = start_payload(id, self.boot);
        self.write(self.files.len() - 1, Kind::Start, Mark::default(), Content::Owned(start));
    }

    fn find(&self, number: u64) -> Option<usize> {
        self.files.binary_search_by_key(&number, |file| file.id.number).ok()
    }

    /// Plans a frame at the end of a file; returns its offset.
    fn write(&mut self, index: usize, kind: Kind, mark: Mark, content: Content) -> u64 {
        let bytes = frame_bytes(content.bytes().len()) as u64;
        let file = &mut self.files[index];
        let (id, offset) = (file.id, file.bytes);
        file.bytes += bytes;
        self.used += bytes;
        self.work.appends.push(Append { file: id, offset, kind, mark, content });
        offset
    }

    /// Batches in these files were settled; frees files without any left.
    pub(crate) fn settled(&mut self, places: &[u64]) {
        for number in places {
            let index = self.find(*number).expect("a file with unsettled batches is not freed");
            self.files[index].live -= 1;
        }
        if !places.is_empty() {
            self.free_settled();
        }
    }

    /// Frees every file that holds no unsettled batch and is not appended to.
    pub(super) fn free_settled(&mut self) {
        let Self { files, open, used, work, drops, .. } = self;
        let newest = files.back().map(|file| file.id);
        files.retain(|file| {
            let keep =
                file.live > 0 || Some(file.id) == newest || open[file.priority] == Some(file.id.number);
            if !keep {
                *used -= file.bytes;
                work.frees.push(file.id);
                *drops = true;
            }
            keep
        });
    }

    /// Frees the files that are appended to and hold no unsettled batch, to go on in new ones. Returns whether there are
    /// any.
    pub(crate) fn free_idle(&mut self) -> bool {
        let before = self.used;
        // There is always a newest file: one that never held a batch is as good as the next.
        if let Some(newest) = self.files.back().filter(|file| file.live == 0 && file.runs > 0) {
            self.begin_file(newest.priority);
        }
        let newest = self.files.back().map(|file| file.id.number);
        let live = |number: &u64| self.find(*number).is_some_and(|index| self.files[index].live > 0);
        let mut open = self.open;
        for file in open.iter_mut().filter(|file| **file != newest && !file.as_ref().is_some_and(live)) {
            *file = None;
        }
        self.open = open;
        self.free_settled();
        self.used < before
    }

    /// The sequences after the last of these files, in order, each with its file.
    pub(crate) fn by_end(&self, numbers: impl Iterator<Item = u64>) -> BTreeSet<(u64, u64)> {
        let files = numbers.filter_map(|number| self.find(number)).map(|index| &self.files[index]);
        files.map(|file| (file.end, file.id.number)).collect()
    }

    /// New drops are to be made durable.
    pub(crate) fn note_drops(&mut self) {
        self.drops = true;
    }

    /// New drops are to be made durable some time: until then they come up as [lost](EpochQueue::lost).
    pub(crate) fn note_drops_later(&mut self) {
        self.drops_later = true;
    }

    /// Keeps what is known of clocks; somebody waits for it.
    pub(crate) fn keep_clock(&mut self, rebases: Rebases) {
        self.work.clock = Some(rebases);
        self.urgent = true;
    }

    /// Keeps a refused batch for people to look at.
    pub(crate) fn keep_rejected(&mut self, epoch: Epoch, first: u64, code: Code, payload: Payload) {
        self.work.rejected.push(Rejected { epoch, first, code, payload });
    }

    /// What waits for its fsync is not to wait any longer.
    pub(crate) fn sync_now(&mut self) {
        self.drops |= self.drops_later;
        self.urgent = self.has_writes();
    }

    fn has_writes(&self) -> bool {
        let work = &self.work;
        self.drops || !work.appends.is_empty() || !work.frees.is_empty() || work.clock.is_some()
    }

    /// Whether files may be written to: it is time, somebody waits for it, or a quarter of what may wait does.
    fn may_write(&self, now: Instant) -> bool {
        let early = CACHE_BYTES.min(usize::try_from(self.max_bytes).unwrap_or(usize::MAX)) / 4;
        self.urgent || self.unsynced >= early || self.next_sync.is_none_or(|at| at <= now)
    }

    /// When files are to be written to, if that is not now.
    pub(crate) fn write_due(&self, now: Instant) -> Option<Instant> {
        self.next_sync.filter(|_| !self.busy && self.has_writes() && !self.may_write(now))
    }

    /// Whether there is work that nobody carries out yet; if so, the caller does from now on.
    pub(crate) fn start_work(&mut self, queues: &[EpochQueue], now: Instant) -> bool {
        let writes = self.has_writes() && self.may_write(now);
        if self.busy || !(writes || !self.work.rejected.is_empty() || !loads(queues).is_empty()) {
            return false;
        }
        self.busy = true;
        true
    }

    /// Whether all work is done.
    pub(crate) fn is_idle(&self) -> bool {
        !self.busy && !self.drops && self.work.is_empty()
    }

    /// What to do next; `None` when there is nothing, and then nobody carries out work any more.
    pub(crate) fn next_work(&mut self, queues: &[EpochQueue], now: Instant) -> Option<Work> {
        let mut work = if self.has_writes() && self.may_write(now) {
            if std::mem::take(&mut self.drops) {
                self.write_drops(queues);
            }
            self.urgent = false;
            self.next_sync = (!self.sync_every.is_zero()).then(|| now + self.sync_every);
            let mut work = std::mem::take(&mut self.work);
            // Each file is written and fsynced once.
            work.appends.sort_by_key(|append| append.file.number);
            work
        } else {
            Work { rejected: std::mem::take(&mut self.work.rejected), ..Work::default() }
        };
        work.loads = loads(queues);
        self.busy = !work.is_empty();
        self.busy.then_some(work)
    }

    /// Everything that the server has not yet settled as dropped, in one place: older frames may go with their files.
    fn write_drops(&mut self, queues: &[EpochQueue]) {
        self.drops_later = false;
        for queue in queues.iter().filter(|queue| !queue.dropped.is_empty()) {
            let payload = dropped_payload(queue.epoch, &queue.dropped);
            let newest = self.files.back().filter(|file| file.id.epoch == self.epoch);
            let priority = newest.map_or(Priority::default(), |file| file.priority);
            let index = self.file_for(priority, frame_bytes(payload.len()));
            self.write(index, Kind::Dropped, Mark::default(), Content::Owned(payload));
        }
    }

    /// The appends of this work are fsynced.
    pub(crate) fn synced(&mut self, work: &Work) {
        self.unsynced -= work.appended;
    }
}

impl Work {
    fn is_empty(&self) -> bool {
        self.clock.is_none()
            && self.appends.is_empty()
            && self.frees.is_empty()
            && self.rejected.is_empty()
            && self.loads.is_empty()
    }
}

/// What the link needs next and has not in memory, as much as the cache takes: of what is live, and of the oldest epoch
/// whose backlog waits for it.
fn loads(queues: &[EpochQueue]) -> Vec<Load> {
    let held = |class| queues.iter().map(|queue| queue.held()[class]).sum::<usize>();
    let has_backlog = queues.iter().any(EpochQueue::has_backlog);
    let mut loads = Vec::new();
    for class in Class::ALL {
        let limit = if has_backlog { CACHE_BYTES / 2 } else { CACHE_BYTES };
        let room = limit.saturating_sub(held(class));
        let attached = queues.iter().filter(|queue| matches!(queue.attachment, Attachment::Attached(_)));
        if let Some(queue) = attached.filter(|_| room > limit / 2).find(|queue| queue.is_behind(class)) {
            let wanted = queue.to_load(class, room).into_iter();
            let epoch = queue.epoch;
            loads.extend(wanted.map(|(first, place, length)| Load { epoch, first, place, length }));
        }
    }
    loads
}
