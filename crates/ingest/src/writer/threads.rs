//! Who waits for what: the writer thread for work, the encoders for blocks, the committer for the disk.
//!
//! ```text
//! sessions ─▶ inbox ─▶ writer ──raw block──▶ encoder ×K ──encoded──▶ committer ─▶ disk
//!                        ▲  └──────────── order of blocks ─────────────▲   │
//!                        │└─────────────────── committed ─────────────────┘
//!                        └─what is durable─▶ fold ─▶ answers
//!                                             └─devices that changed─▶ snapshot
//! ```
//!
//! Only compression overlaps: block N+1 is written after the fsync of block N. A block is cut as soon as nothing is
//! on its way to the disk, or when it is full, so that blocks grow with the load and nobody waits for a timer.
//!
//! What is on its way is ahead of everybody who comes now, so it is kept small: a block is filled when there is a place
//! for it and not before, and it is no larger than it takes for the whole to keep up.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use icecore_log::{
    CommitError, Committed, Committer, Disk, EncodedBlock, Encoder, FinishedDirectory, LogPoint, RawBlock,
};
use tokio::sync::watch;

use super::clock::ReceivedClock;
use super::content::BlockContent;
use super::inbox::{Commit, Inbox, Wanted};
use super::live::{Durable, Folding, Writing};
use super::submission::{Body, Decision, Submission};
use super::{Core, Health, WriterOptions};
use crate::metrics::{DiskMetrics, WriterMetrics};
use crate::quarantine::Quarantine;

/// Most encoders worth having: at zstd 1 four of them outrun the fsyncs of any disk we know.
const MAX_ENCODERS: usize = 4;

/// How long after the last block an empty one is written, which proves that the last data reached the disk whole.
const IDLE_BLOCK_AFTER: Duration = Duration::from_secs(1);

/// How often a full disk is tried again. Short enough that devices hardly notice that space has returned.
const FULL_RETRY: Duration = Duration::from_millis(250);

/// Levels to step down to under backlog, each some 20 to 40 % faster and a few per cent larger than the one before.
const FASTER_LEVELS: [i32; 3] = [-1, -3, -5];

/// Waiting blocks that make one step down the levels. One or two are the rhythm of group commit; more are a backlog.
const BLOCKS_PER_STEP: usize = 2;

/// Bytes that a block holds at least, under load, before it counts as full. At this size a good disk still syncs faster than
/// blocks are compressed.
const LEAST_FULL: usize = 256 << 10;

/// Blocks as large as this part of the live data that waits: one greedy stream makes small ones, dozens make large ones,
/// which cost the least for each event.
const PART_OF_WAITING: usize = 8;

/// Commits that may wait to be folded. Folding takes a fraction of what compressing takes, so more than one is rare.
const COMMITS_WAITING: usize = 8;

/// Everything the threads are made of.
pub(super) struct Parts {
    pub(super) core: Core,
    pub(super) committer: Committer,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) data: PathBuf,
    pub(super) clock: ReceivedClock,
    pub(super) inbox: Arc<Inbox>,
    pub(super) folding: Folding,
    pub(super) snapshots: Writing,
    pub(super) health: watch::Sender<Health>,
    pub(super) durable_position: Arc<AtomicU64>,
    pub(super) written_bytes: Arc<AtomicU64>,
    pub(super) quarantine: Quarantine,
    pub(super) quarantine_thread: JoinHandle<()>,
    pub(super) options: WriterOptions,
}

/// The running threads.
#[derive(Debug)]
pub(super) struct Threads(Vec<JoinHandle<()>>);

/// A block on its way to an encoder, and where its result goes.
struct EncodeJob {
    block: RawBlock,
    level: i32,
    done: SyncSender<EncodedBlock>,
}

/// The writer thread's state.
struct WriterThread {
    core: Core,
    clock: ReceivedClock,
    inbox: Arc<Inbox>,
    durable: SyncSender<Durable>,
    durable_position: Arc<AtomicU64>,
    quarantine: Quarantine,
    encode: Sender<EncodeJob>,
    commit: Sender<Receiver<EncodedBlock>>,
    metrics: WriterMetrics,
    levels: Vec<i32>,
    block_bytes: usize,
    /// Bytes that a block needs for the disk to keep up: twice as many after each block that had to wait for the disk, half
    /// as many after each that the disk had to wait for.
    disk_wants: usize,
    /// Bytes of live data that wait in the queue.
    live_waiting: usize,
    /// Blocks that may be on their way at once: one at each encoder, one at the disk, one between them.
    max_in_flight: usize,
    /// Whether the last block holds something, so that an empty one should follow it when nothing else does.
    unproven: bool,
}

/// The committer thread's state.
struct CommitThread {
    committer: Committer,
    disk: Arc<dyn Disk>,
    data: PathBuf,
    reserve_bytes: u64,
    written_bytes: Arc<AtomicU64>,
    inbox: Arc<Inbox>,
    health: watch::Sender<Health>,
    metrics: DiskMetrics,
}

/// Why the committer thread gives up.
enum GivenUp {
    /// Stopped while the disk was full. The health says so already.
    Full,
    /// The log failed.
    Failed(String),
}

impl Threads {
    pub(super) fn start(parts: Parts) -> std::io::Result<Self> {
        let encoders =
            thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, MAX_ENCODERS));
        let (encode, jobs) = channel();
        let (commit, blocks) = channel();
        let (health, inbox) = (parts.health.clone(), Arc::clone(&parts.inbox));
        let spawn = |name: String, run: Box<dyn FnOnce() + Send>| {
            let (health, inbox, named) = (health.clone(), Arc::clone(&inbox), name.clone());
            thread::Builder::new().name(name).spawn(move || guard(&named, &health, &inbox, run))
        };
        let (durable, to_fold) = sync_channel(COMMITS_WAITING);
        // One waits, one is written: the committer waits before there is a third in memory.
        let (hand_over, directories) = sync_channel(1);
        let mut committer = parts.committer;
        committer.hand_over_directories(hand_over);
        let committing = CommitThread {
            committer,
            disk: parts.disk,
            data: parts.data,
            reserve_bytes: parts.options.reserve_bytes,
            written_bytes: parts.written_bytes,
            inbox: Arc::clone(&parts.inbox),
            health: parts.health,
            metrics: DiskMetrics::new(),
        };
        let slower = |level: &i32| *level < parts.options.zstd_level;
        let writing = WriterThread {
            core: parts.core,
            clock: parts.clock,
            inbox: parts.inbox,
            durable,
            durable_position: parts.durable_position,
            quarantine: parts.quarantine,
            encode,
            commit,
            metrics: WriterMetrics::new(),
            levels: std::iter::once(parts.options.zstd_level)
                .chain(FASTER_LEVELS.into_iter().filter(slower))
                .collect(),
            block_bytes: parts.options.log.block_bytes,
            disk_wants: LEAST_FULL,
            live_waiting: 0,
            max_in_flight: encoders + 2,
            unproven: false,
        };
        let mut threads = vec![parts.quarantine_thread];
        let jobs = Arc::new(Mutex::new(jobs));
        for n in 0..encoders {
            let jobs = Arc::clone(&jobs);
            threads.push(spawn(format!("icecore-encode-{n}"), Box::new(move || encode_all(&jobs)))?);
        }
        threads.push(spawn(
            "icecore-directory".to_owned(),
            Box::new(move || directories.into_iter().for_each(FinishedDirectory::write)),
        )?);
        let Parts { folding, snapshots, .. } = parts;
        threads.push(spawn("icecore-snapshot".to_owned(), Box::new(move || snapshots.run()))?);
        threads.push(spawn("icecore-fold".to_owned(), Box::new(move || folding.run(&to_fold)))?);
        threads.push(spawn("icecore-commit".to_owned(), Box::new(move || committing.run(&blocks)))?);
        threads.push(spawn("icecore-write".to_owned(), Box::new(move || writing.run()))?);
        Ok(Self(threads))
    }

    /// Waits for all of them. What went wrong in one is in the health.
    pub(super) fn join(self) {
        for thread in self.0 {
            // A panic was reported by `guard`; the quarantine's thread is nothing to fail for.
            let _ = thread.join();
        }
    }
}

/// Runs a thread's work; a panic in it is a failure of the log, not a silent stop.
fn guard(name: &str, health: &watch::Sender<Health>, inbox: &Inbox, run: Box<dyn FnOnce() + Send>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        let message = format!("thread {name} panicked: {}", panic_message(&*panic));
        tracing::error!("{message}");
        health.send_replace(Health::Failed { message });
        inbox.fail();
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown reason")
}

fn encode_all(jobs: &Mutex<Receiver<EncodeJob>>) {
    let mut encoder = Encoder::new();
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(EncodeJob { block, level, done }) = job else { return };
        // Nobody waits any more when the log has failed.
        let _ = done.send(encoder.encode(block, level));
    }
}

impl WriterThread {
    fn run(mut self) {
        loop {
            let timeout = (self.unproven && self.core.is_empty()).then_some(IDLE_BLOCK_AFTER);
            let work = self.inbox.wait(self.wanted(), timeout);
            if work.failed {
                return;
            }
            let idle = work.submissions.is_empty() && work.commits.is_empty() && !work.drained;
            let mut blocks = Vec::with_capacity(work.commits.len());
            for commit in &work.commits {
                blocks.push((self.core.committed(&commit.block), commit.block.end));
                let wants = if commit.disk_is_behind { self.disk_wants * 2 } else { self.disk_wants / 2 };
                self.disk_wants = wants.clamp(LEAST_FULL, LEAST_FULL.max(self.block_bytes));
            }
            self.live_waiting = work.live_waiting;
            self.durable_position.store(self.core.durable_position(), Ordering::Release);
            for submission in work.submissions {
                self.offer(submission);
            }
            self.send_durable(blocks);
            self.metrics.live_queue_bytes.set(work.live_waiting as f64);
            self.metrics.backlog_queue_bytes.set(work.backlog_waiting as f64);
            self.metrics.durable_position.set(self.core.durable_position() as f64);
            let at_rest = self.core.is_empty() && self.core.blocks_in_flight() == 0;
            if self.should_cut() {
                self.unproven = true;
                self.cut(work.live_waiting + work.backlog_waiting);
            } else if at_rest && self.unproven && (idle || work.drained) {
                self.unproven = false;
                self.cut(0);
            } else if at_rest && work.drained {
                return;
            }
        }
    }

    /// Bytes at which a block is full at present.
    fn full_at(&self) -> usize {
        self.disk_wants.max(self.live_waiting / PART_OF_WAITING).min(self.block_bytes)
    }

    /// What the writer could use now: submissions up to a full block, unless that block has nowhere to go.
    fn wanted(&self) -> Wanted {
        if self.core.blocks_in_flight() >= self.max_in_flight {
            Wanted::CommitsOnly
        } else {
            Wanted::Bytes(self.full_at().saturating_sub(self.core.bytes()).max(1))
        }
    }

    fn should_cut(&self) -> bool {
        let in_flight = self.core.blocks_in_flight();
        let is_full = self.core.bytes() >= self.full_at();
        !self.core.is_empty() && (in_flight == 0 || (is_full && in_flight < self.max_in_flight))
    }

    fn offer(&mut self, submission: Submission) {
        let (events, bytes) = match &submission.body {
            Body::Batch(batch) => (batch.count(), batch.payload().len()),
            Body::Attach | Body::Invalid(_) | Body::Dropped(_) => (0, 0),
        };
        let decision = self.core.offer(submission);
        self.metrics.count(&decision, events, bytes);
        if let Decision::Refused(refusal) = decision {
            self.quarantine.keep(refusal);
        }
    }

    /// Has what is durable folded, and then what may be answered answered.
    fn send_durable(&mut self, blocks: Vec<(BlockContent, LogPoint)>) {
        let answers = self.core.take_answers();
        if !blocks.is_empty() || !answers.is_empty() {
            // The receiver is gone only when its thread has panicked, which the next `wait` says.
            let _ = self.durable.send(Durable { blocks, answers });
        }
    }

    fn cut(&mut self, bytes_waiting: usize) {
        let waiting = self.core.blocks_in_flight() + bytes_waiting / self.block_bytes;
        let level = self.levels[(waiting / BLOCKS_PER_STEP).min(self.levels.len() - 1)];
        let block = self.core.take_block(self.clock.now());
        let (done, encoded) = sync_channel(1);
        // The receivers are gone only when the log has failed, which the next `wait` says.
        let _ = self.commit.send(encoded);
        let _ = self.encode.send(EncodeJob { block, level, done });
        #[cfg(feature = "mutants")]
        self.send_durable(Vec::new());
    }
}

impl CommitThread {
    fn run(mut self, blocks: &Receiver<Receiver<EncodedBlock>>) {
        for block in blocks {
            let ready = block.try_recv();
            let disk_is_behind = ready.is_ok();
            let Ok(mut block) = ready.or_else(|_| block.recv()) else {
                // Its encoder panicked, which was reported there.
                return;
            };
            match self.commit(&mut block) {
                Ok(block) => self.inbox.committed(Commit { block, disk_is_behind }),
                Err(given_up) => {
                    if let GivenUp::Failed(message) = given_up {
                        tracing::error!(reason = message, "the log failed: nothing is acked any more");
                        self.health.send_replace(Health::Failed { message });
                    }
                    self.inbox.fail();
                    return;
                }
            }
        }
        let health = match self.committer.close() {
            Ok(()) => Health::Stopped,
            Err(e) => Health::Failed { message: e.to_string() },
        };
        self.health.send_if_modified(|now| {
            // A panic elsewhere ended this loop: what it reported stays.
            let stopped = *now == Health::Running;
            if stopped {
                *now = health;
            }
            stopped
        });
    }

    /// Commits a block, waiting for space as long as it takes.
    fn commit(&mut self, block: &mut EncodedBlock) -> Result<Committed, GivenUp> {
        let mut full = false;
        loop {
            let message = match self.try_commit(block) {
                Ok(committed) => {
                    if full {
                        tracing::info!("there is space again: ingestion goes on");
                        self.health.send_replace(Health::Running);
                    }
                    return Ok(committed);
                }
                Err(CommitError::Full { file, source }) => {
                    format!(
                        "no space for {}: {source}; free some, ingestion goes on by itself",
                        file.display()
                    )
                }
                Err(e) => return Err(GivenUp::Failed(e.to_string())),
            };
            if !full {
                tracing::warn!(reason = message, "ingestion waits for disk space");
                full = true;
            }
            self.health.send_replace(Health::DiskFull { message });
            if self.inbox.is_stopping() {
                return Err(GivenUp::Full);
            }
            thread::sleep(FULL_RETRY);
        }
    }

    fn try_commit(&mut self, block: &mut EncodedBlock) -> Result<Committed, CommitError> {
        self.check_reserve(block)?;
        let started = Instant::now();
        let committed = self.committer.commit(block)?;
        self.metrics.commit_seconds.record(started.elapsed());
        self.metrics.block_bytes.record(block.raw_bytes() as f64);
        self.metrics.raw_bytes.increment(block.raw_bytes() as u64);
        self.metrics.stored_bytes.increment(committed.bytes);
        self.written_bytes.fetch_add(committed.bytes, Ordering::Relaxed);
        Ok(committed)
    }

    /// Refuses a block that would eat into the reserve.
    fn check_reserve(&self, block: &EncodedBlock) -> Result<(), CommitError> {
        let full = |source| CommitError::Full { file: self.data.clone(), source };
        let free = self.disk.free_space(&self.data).map_err(full)?;
        if free >= self.reserve_bytes.saturating_add(block.stored_bytes() as u64) {
            return Ok(());
        }
        let reason = format!("{free} bytes are free and {} are held in reserve", self.reserve_bytes);
        Err(full(std::io::Error::new(std::io::ErrorKind::StorageFull, reason)))
    }
}
