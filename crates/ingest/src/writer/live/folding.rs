//! The thread that folds what is durable, and lets the answers go that waited for it.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use icecore_log::LogPoint;
use icecore_state::Fleet;
use tokio::sync::{mpsc, watch};

use super::writing::{SnapshotWriter, ToWrite};
use super::{LiveState, SnapshotOptions};
use crate::writer::Health;
use crate::writer::content::BlockContent;
use crate::writer::submission::Answer;

/// Devices that are captured for a snapshot after each block, and at once while nothing comes: a few tenths of a millisecond.
const CAPTURED_AT_ONCE: usize = 1_024;

/// How long it waits for more before it goes on with a snapshot by itself.
const PATIENCE: Duration = Duration::from_millis(1);

/// How often it looks whether a snapshot is due while nothing comes.
const LOOK: Duration = Duration::from_millis(500);

/// What a commit, or several, made durable, and the answers that may go out once it is folded.
pub(in crate::writer) struct Durable {
    pub(in crate::writer) blocks: Vec<(BlockContent, LogPoint)>,
    pub(in crate::writer) answers: Vec<Answer>,
}

/// The folding thread's state.
pub(in crate::writer) struct Folding {
    live: LiveState,
    answers: mpsc::UnboundedSender<Vec<Answer>>,
    /// `None` where nothing is to be saved.
    writer: Option<SnapshotWriter>,
    health: watch::Receiver<Health>,
    options: SnapshotOptions,
    /// Where the log goes on behind what is folded.
    point: LogPoint,
    /// The newest received time that is folded.
    received: i64,
    /// The position up to which the last cut went, and when it was made.
    cut: (u64, Instant),
    /// What the snapshot will be of whose devices are being captured.
    capturing: Option<ToWrite>,
}

impl Folding {
    /// Goes on from `start`: where the log goes on behind the fleet, its newest received time, and how many of its events no
    /// snapshot has.
    pub(in crate::writer) fn new(
        fleet: Fleet,
        writer: Option<SnapshotWriter>,
        answers: mpsc::UnboundedSender<Vec<Answer>>,
        health: watch::Receiver<Health>,
        options: SnapshotOptions,
        start: (LogPoint, i64, u64),
    ) -> Self {
        let (point, received, unsaved) = start;
        let live = LiveState::new(fleet, point.position);
        let cut = (point.position - unsaved, Instant::now());
        Self { live, answers, writer, health, options, point, received, cut, capturing: None }
    }

    pub(in crate::writer) fn live(&self) -> LiveState {
        self.live.clone()
    }

    /// Folds until the writer is gone. A last snapshot is for the next start, which then has nothing to read; where the log
    /// failed, the disk is left alone.
    pub(in crate::writer) fn run(mut self, work: &Receiver<Durable>) {
        loop {
            let patience = if self.capturing.is_some() { PATIENCE } else { LOOK };
            match work.recv_timeout(patience) {
                Ok(durable) => self.take(durable),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.go_on(CAPTURED_AT_ONCE);
        }
        if matches!(*self.health.borrow(), Health::Failed { .. }) {
            return;
        }
        self.go_on(usize::MAX);
        if self.is_behind() {
            self.cut();
            self.go_on(usize::MAX);
        }
    }

    fn take(&mut self, durable: Durable) {
        let Durable { blocks, answers } = durable;
        if let Some((content, point)) = blocks.last() {
            (self.point, self.received) = (*point, content.received());
        }
        self.live.fold(&blocks);
        let answers: Vec<Answer> = answers.into_iter().filter_map(Answer::for_session).collect();
        if !answers.is_empty() {
            // Without a receiver there are no sessions left to tell.
            let _ = self.answers.send(answers);
        }
    }

    /// Makes a cut where one is due, and captures up to so many devices of the one that is being made.
    fn go_on(&mut self, count: usize) {
        if self.capturing.is_none() && self.is_due() {
            self.cut();
        }
        let Some(capturing) = &mut self.capturing else { return };
        if let Some(devices) = self.live.with(|fleet| fleet.capture(count)) {
            capturing.devices = devices;
            let snapshot = self.capturing.take().expect("it was there");
            if let Some(writer) = &self.writer {
                writer.write(snapshot);
            }
        }
    }

    fn is_due(&self) -> bool {
        let (position, when) = self.cut;
        let is_due = self.point.position - position >= self.options.every_events
            || when.elapsed() >= self.options.every
            || self.live.is_wanted();
        is_due && self.writer.as_ref().is_some_and(SnapshotWriter::is_free) && self.is_behind()
    }

    /// Whether there is something that no snapshot has.
    fn is_behind(&self) -> bool {
        let Some(writer) = &self.writer else { return false };
        let all = writer.needs_all();
        self.live.with(|fleet| fleet.has_changed() || (all && !fleet.is_empty()))
    }

    fn cut(&mut self) {
        let all = self.writer.as_ref().is_some_and(SnapshotWriter::needs_all);
        self.live.with(|fleet| {
            if all {
                fleet.change_all();
            }
            fleet.cut();
        });
        self.live.have_begun();
        self.cut = (self.point.position, Instant::now());
        self.capturing =
            Some(ToWrite { all, point: self.point, received: self.received, devices: Vec::new() });
    }
}
