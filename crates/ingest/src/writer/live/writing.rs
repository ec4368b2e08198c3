//! The thread that writes snapshots.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use icecore_log::LogPoint;
use icecore_state::Captured;
use icecore_state::snapshot::{Kind, Snapshot, SnapshotError, SnapshotHead, Snapshots};

use crate::writer::clock::wall_time;

/// A snapshot to be written.
#[derive(Debug)]
pub(super) struct ToWrite {
    /// Whether all devices are in it, or those that changed since the last one.
    pub(super) all: bool,
    pub(super) point: LogPoint,
    pub(super) received: i64,
    pub(super) devices: Vec<Captured>,
}

/// The way to the thread that writes snapshots, and what it tells.
#[derive(Debug)]
pub(in crate::writer) struct SnapshotWriter {
    to_write: SyncSender<ToWrite>,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// A snapshot is being written.
    busy: AtomicBool,
    /// There is no good one to build on.
    needs_all: AtomicBool,
}

/// The thread's state.
#[derive(Debug)]
pub(in crate::writer) struct Writing {
    snapshots: Snapshots,
    log: [u8; 16],
    term: u64,
    /// The block up to which the last good snapshot goes.
    base: Option<u64>,
    work: Receiver<ToWrite>,
    progress: Arc<Progress>,
}

impl SnapshotWriter {
    /// The way to a thread, and what it is to run. `base` is the block up to which a good snapshot goes.
    pub(in crate::writer) fn new(
        snapshots: Snapshots,
        log: [u8; 16],
        term: u64,
        base: Option<u64>,
    ) -> (Self, Writing) {
        let (to_write, work) = sync_channel(1);
        let progress = Arc::new(Progress::default());
        progress.needs_all.store(base.is_none(), Ordering::Release);
        let writing = Writing { snapshots, log, term, base, work, progress: Arc::clone(&progress) };
        (Self { to_write, progress }, writing)
    }

    pub(super) fn is_free(&self) -> bool {
        !self.progress.busy.load(Ordering::Acquire)
    }

    pub(super) fn needs_all(&self) -> bool {
        self.progress.needs_all.load(Ordering::Acquire)
    }

    pub(super) fn write(&self, snapshot: ToWrite) {
        self.progress.busy.store(true, Ordering::Release);
        // The thread is gone only when it panicked, which was told.
        let _ = self.to_write.send(snapshot);
    }
}

impl Writing {
    /// Writes what comes until nobody is left to send more. A snapshot that fails costs time at the next start and nothing else:
    /// it is told, and the next one holds all devices.
    pub(in crate::writer) fn run(mut self) {
        while let Ok(snapshot) = self.work.recv() {
            if self.base.is_none() && !snapshot.all {
                // It was captured before it was known that there is nothing to build on.
                continue;
            }
            let (started, block) = (Instant::now(), snapshot.point.block);
            match self.write(snapshot) {
                Ok(written) => {
                    self.base = Some(block);
                    tracing::info!(
                        block,
                        kind = ?written.head().kind,
                        devices = written.head().devices,
                        bytes = written.bytes(),
                        milliseconds = started.elapsed().as_millis() as u64,
                        "wrote a snapshot"
                    );
                }
                Err(error) => {
                    self.base = None;
                    tracing::error!(%error, block, "cannot write a snapshot; the log has everything, and the next one will hold all devices");
                }
            }
            self.progress.needs_all.store(self.base.is_none(), Ordering::Release);
            if let Err(error) = self.snapshots.tidy(wall_time()) {
                tracing::warn!(%error, "cannot tidy up the snapshots");
            }
            self.progress.busy.store(false, Ordering::Release);
        }
    }

    fn write(&self, snapshot: ToWrite) -> Result<Snapshot, SnapshotError> {
        let ToWrite { all, point, received, mut devices } = snapshot;
        let kind = self.base.filter(|_| !all).map_or(Kind::Full, |base| Kind::Delta { base });
        devices.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let head = SnapshotHead {
            log: self.log,
            kind,
            point,
            term: self.term,
            received,
            created: wall_time(),
            devices: devices.len() as u64,
        };
        self.snapshots.write(head, devices.into_iter().map(Ok))
    }
}
