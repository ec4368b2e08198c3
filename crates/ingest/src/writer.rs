//! The writer: the one owner of the hot log, and the threads around it.
//!
//! - [`core`]: every decision, synchronous and deterministic
//! - [`emitter`]: what the server itself writes
//! - [`submission`]: what goes in and comes out
//! - [`inbox`], [`queue`]: the bounded, fair way in
//! - [`content`], [`live`]: what blocks hold, and the state that is folded from it
//! - [`threads`]: who waits for what

mod clock;
mod content;
mod core;
mod emitter;
mod inbox;
mod live;
mod queue;
mod schemas;
mod submission;
mod threads;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use icecore_log::{ActiveDirectory, Disk, LogError, RealDisk, Recovery, Sealer};
use icecore_schema::{Declared, Misfit};
use icecore_state::snapshot::{Snapshot, SnapshotError};
use tokio::sync::{mpsc, watch};

pub use self::core::Core;
use clock::ReceivedClock;
pub(crate) use clock::wall_time;
pub use content::BlockContent;
pub use emitter::{Derived, EmitError, Emitter};
pub(crate) use inbox::{Closed, Inbox, Lane, MAX_GROUP_BYTES, Reservation};
use live::{Folding, Opened, SnapshotWriter};
pub use live::{LiveDevice, LiveState, SnapshotOptions};
pub(crate) use queue::Class;
pub use submission::{Answer, Attachment, Body, Decision, InvalidBatch, Refusal, Reply, Submission};
use threads::Threads;

use crate::quarantine::{ConflictReports, Quarantine};

/// How the writer works. The defaults suit the reference machine.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// How the log is laid out, and which damage was accepted.
    pub log: icecore_log::Options,
    /// Most bytes of batches that may wait for the writer (8 MiB at least); a quarter is for backlogs. When they
    /// are reached, streams are no longer read.
    pub queue_bytes: usize,
    /// zstd level of a block when there is no backlog; under backlog the writer steps down from it.
    pub zstd_level: i32,
    /// Ingestion stops while the data directory's file system has less free space than this, in bytes.
    pub reserve_bytes: u64,
    /// When snapshots of the state are written.
    pub snapshots: SnapshotOptions,
    /// Bounds the refused batches kept in `quarantine/`, in bytes.
    pub quarantine_bytes: u64,
    /// The schemas that files declare.
    pub declared: Declared,
    /// Whether batches of any other schema are refused.
    pub only_declared: bool,
    /// Where the state at the start is read from, as far as that is in sealed segments that have no local file.
    pub elsewhere: Option<ReadElsewhere>,
}

/// Where that is which a start needs and this disk does not have.
#[derive(Clone)]
pub struct ReadElsewhere {
    /// Says where to read a sealed segment that has no local file.
    pub segments: Arc<icecore_log::Elsewhere>,
    /// Snapshots that are kept elsewhere: asked for where those on this disk are damaged, or there are none.
    pub snapshots: Arc<dyn Fn() -> Vec<Snapshot> + Send + Sync>,
}

impl std::fmt::Debug for ReadElsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadElsewhere")
    }
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            log: icecore_log::Options::default(),
            queue_bytes: 32 << 20,
            zstd_level: 1,
            reserve_bytes: 256 << 20,
            snapshots: SnapshotOptions::default(),
            quarantine_bytes: 64 << 20,
            declared: Declared::default(),
            only_declared: false,
            elsewhere: None,
        }
    }
}

/// How the writer is doing; `/readyz` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Batches are being made durable.
    Running,
    /// The disk is full up to the reserve: nothing is acked until space returns, and then work goes on by itself. New
    /// batches are sent back until then.
    DiskFull {
        /// What was found, for the operator.
        message: String,
    },
    /// A write or fsync failed. Nothing is acked from here on; the process has to end with an error.
    Failed {
        /// What failed, for the operator.
        message: String,
    },
    /// Stopped in good order.
    Stopped,
}

/// Why the writer could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log could not be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log holds a schema that a file declares as something else.
    #[error(
        "the log holds other definitions than are declared: {0}; give the changed definition a new version"
    )]
    Schemas(#[from] Misfit),
    /// The snapshots could not be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The quarantine could not be opened.
    #[error("cannot keep refused batches in {path}: {source}")]
    Quarantine {
        /// Its directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start the writer's threads: {0}")]
    Thread(#[source] std::io::Error),
}

/// Why the writer did not stop in good order. Whatever was acked is durable all the same.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// A write or fsync failed.
    #[error("the log failed, and what was not acked is not stored; devices will send it again: {0}")]
    Failed(String),
    /// The disk was full to the end.
    #[error(
        "the disk is full, and batches that were received are not stored; devices will send them again: {0}"
    )]
    DiskFull(String),
}

/// The running writer: owns the log until it is stopped.
#[derive(Debug)]
pub struct Writer {
    inbox: Arc<Inbox>,
    health: watch::Receiver<Health>,
    durable_position: Arc<AtomicU64>,
    written_bytes: Arc<AtomicU64>,
    recovery: Recovery,
    sealer: Sealer,
    active: ActiveDirectory,
    live: LiveState,
    threads: Threads,
}

/// The way into the writer and the answers out of it: [`Ingest::start`](crate::Ingest::start) takes it.
#[derive(Debug)]
pub struct WriterHandle {
    pub(crate) inbox: Arc<Inbox>,
    /// Answers in log order, one message for each commit. Bounded by what is in the queue and in flight.
    pub(crate) answers: mpsc::UnboundedReceiver<Vec<Answer>>,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) conflicts: ConflictReports,
}

impl Writer {
    /// Opens the log in `data` on the real disk (recovering it), and starts the threads.
    ///
    /// # Errors
    /// When the log cannot be opened: locked by another process, damaged, or unreadable.
    pub fn start(data: &Path, options: WriterOptions) -> Result<(Self, WriterHandle), StartError> {
        Self::start_on(Arc::new(RealDisk), data, options)
    }

    /// As [`Writer::start`], with the log on any [`Disk`].
    ///
    /// # Errors
    /// As [`Writer::start`].
    pub fn start_on(
        disk: Arc<dyn Disk>,
        data: &Path,
        mut options: WriterOptions,
    ) -> Result<(Self, WriterHandle), StartError> {
        let now = wall_time();
        let elsewhere = options.elsewhere.take();
        let Opened { mut core, committer, recovery, fleet, snapshots, base, unsaved, is_whole } =
            live::open(&disk, data, options.log.clone(), elsewhere, now)?;
        core.declare(options.declared.clone(), options.only_declared)?;
        let path = data.join("quarantine");
        let (quarantine, quarantine_thread) = Quarantine::start(path.clone(), options.quarantine_bytes)
            .map_err(|source| StartError::Quarantine { path, source })?;
        let inbox = Arc::new(Inbox::new(options.queue_bytes));
        let durable_position = Arc::new(AtomicU64::new(core.durable_position()));
        let written_bytes = Arc::new(AtomicU64::new(0));
        let (answers_out, answers) = mpsc::unbounded_channel();
        let (health_out, health) = watch::channel(Health::Running);
        let conflicts = quarantine.reports();
        let (sealer, active) = (committer.sealer(), core.active());
        let (to_write, writing) = SnapshotWriter::new(snapshots, committer.log(), recovery.term, base);
        let start = (committer.end(), recovery.received, unsaved);
        // What is not whole is not saved, so that the next start goes on from before.
        let to_write = is_whole.then_some(to_write);
        let folding = Folding::new(fleet, to_write, answers_out, health.clone(), options.snapshots, start);
        let live = folding.live();
        let parts = threads::Parts {
            core,
            committer,
            disk,
            data: data.to_owned(),
            clock: ReceivedClock::start(recovery.received),
            inbox: Arc::clone(&inbox),
            folding,
            snapshots: writing,
            health: health_out,
            durable_position: Arc::clone(&durable_position),
            written_bytes: Arc::clone(&written_bytes),
            quarantine,
            quarantine_thread,
            options,
        };
        let threads = Threads::start(parts).map_err(StartError::Thread)?;
        let handle = WriterHandle { inbox: Arc::clone(&inbox), answers, health: health.clone(), conflicts };
        let writer =
            Self { inbox, health, durable_position, written_bytes, recovery, sealer, active, live, threads };
        Ok((writer, handle))
    }

    /// How the writer is doing. Changes are worth waking up for: [`Health::Failed`] wants the process to end.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// The first position that is not durable yet.
    #[must_use]
    pub fn durable_position(&self) -> u64 {
        self.durable_position.load(Ordering::Acquire)
    }

    /// Tells how many bytes of blocks were written since the start, also after the writer is gone.
    pub fn written_bytes(&self) -> impl Fn() -> u64 + Send + use<> {
        let written = Arc::clone(&self.written_bytes);
        move || written.load(Ordering::Relaxed)
    }

    /// What was found when the log was opened.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// What writes the batches that the server itself derives, on a thread of the caller's.
    ///
    /// # Errors
    /// When the system has no room for what it takes to wait.
    pub fn emitter(&self) -> std::io::Result<Emitter> {
        Emitter::new(Arc::clone(&self.inbox), self.live.clone(), Arc::clone(&self.durable_position))
    }

    /// What every device looks like now.
    #[must_use]
    pub fn live(&self) -> LiveState {
        self.live.clone()
    }

    /// What seals the finished segments of the log, on a thread of the caller's. It holds the log's lock.
    #[must_use]
    pub fn sealer(&self) -> Sealer {
        self.sealer.clone()
    }

    /// What is known of the segment that is being written, for readers of the log in this process.
    #[must_use]
    pub fn active(&self) -> ActiveDirectory {
        self.active.clone()
    }

    /// Takes no more submissions, commits what was submitted, closes the log and joins the threads; returns the
    /// first position that is not durable. Blocks the calling thread; most callers want
    /// [`Ingest::shutdown`](crate::Ingest::shutdown), which does this at the right moment.
    ///
    /// # Errors
    /// When something that was submitted could not be made durable.
    pub fn stop(self) -> Result<u64, StopError> {
        self.inbox.stop();
        self.threads.join();
        let health = self.health.borrow().clone();
        match health {
            Health::Running | Health::Stopped => Ok(self.durable_position.load(Ordering::Acquire)),
            Health::DiskFull { message } => Err(StopError::DiskFull(message)),
            Health::Failed { message } => Err(StopError::Failed(message)),
        }
    }
}
