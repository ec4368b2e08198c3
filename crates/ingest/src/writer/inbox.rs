//! The bounded way into the writer thread: submissions from the sessions, commits from the disk's thread.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use icecore_log::Committed;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::queue::FairQueue;
use super::submission::Submission;

/// A group of submissions that [`Inbox::reserve`] makes room for may not be larger than this, in bytes: it must
/// always fit an empty queue.
pub(crate) const MAX_GROUP_BYTES: usize = 4 << 20;

/// The writer takes nothing more: it was stopped, or the log failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the writer takes no more submissions")]
pub(crate) struct Closed;

/// Where submissions wait for the writer thread, bounded in bytes, and where it hears of commits.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    /// Wakes the writer thread; nobody else waits on it.
    work: Condvar,
    /// One permit per byte of the queue that is free.
    room: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    queue: FairQueue,
    commits: Vec<Committed>,
    stopping: bool,
    failed: bool,
    /// Whether the writer sleeps, and how many bytes in the queue it would wake up for (at least).
    asleep_for: Option<Wanted>,
}

/// Whether the writer has use for submissions at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Up to about this many bytes of them.
    Bytes(usize),
    /// None before a block was committed.
    CommitsOnly,
}

/// What [`Inbox::wait`] found.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) submissions: Vec<Submission>,
    pub(super) commits: Vec<Committed>,
    /// Bytes that wait behind the taken submissions.
    pub(super) backlog: usize,
    /// Nothing more will be submitted, and the queue is empty.
    pub(super) drained: bool,
    /// The log failed: what is in flight will never be durable.
    pub(super) failed: bool,
}

/// Room for some submissions, to be filled with [`Reservation::submit`].
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    inbox: &'a Inbox,
    permit: SemaphorePermit<'a>,
}

impl Inbox {
    /// An inbox for `bytes` of submissions, at least a few groups' worth.
    pub(super) fn new(bytes: usize) -> Self {
        let room = bytes.max(2 * MAX_GROUP_BYTES);
        Self { state: Mutex::default(), work: Condvar::new(), room: Semaphore::new(room) }
    }

    /// Waits until there is room for `bytes`, first come, first served. `bytes` is at most [`MAX_GROUP_BYTES`].
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Reservation<'_>, Closed> {
        debug_assert!(bytes <= MAX_GROUP_BYTES, "a group of {bytes} bytes");
        let permit = self.room.acquire_many(bytes as u32).await.map_err(|_| Closed)?;
        Ok(Reservation { inbox: self, permit })
    }

    /// Ends the intake; what is in the queue will still be written.
    pub(super) fn stop(&self) {
        self.room.close();
        self.state().stopping = true;
        self.work.notify_one();
    }

    /// Whether [`Inbox::stop`] was called.
    pub(super) fn is_stopping(&self) -> bool {
        self.state().stopping
    }

    /// Ends everything: the log failed.
    pub(super) fn fail(&self) {
        self.room.close();
        self.state().failed = true;
        self.work.notify_one();
    }

    /// Tells the writer thread that a block is durable.
    pub(super) fn committed(&self, committed: Committed) {
        self.state().commits.push(committed);
        self.work.notify_one();
    }

    /// Blocks the writer thread until there is something for it to do, at most for `timeout`.
    pub(super) fn wait(&self, wanted: Wanted, timeout: Option<Duration>) -> Work {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.state();
        loop {
            let queued = matches!(wanted, Wanted::Bytes(_)) && !state.queue.is_empty();
            let ended = state.failed || (state.stopping && state.queue.is_empty());
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if queued || ended || !state.commits.is_empty() || left == Some(Duration::ZERO) {
                break;
            }
            state.asleep_for = Some(wanted);
            let left = left.unwrap_or(Duration::MAX);
            (state, _) = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state.asleep_for = None;
        }
        let mut work = Work { commits: std::mem::take(&mut state.commits), ..Work::default() };
        if let Wanted::Bytes(bytes) = wanted {
            let freed = state.queue.take(bytes, &mut work.submissions);
            self.room.add_permits(freed);
        }
        work.backlog = state.queue.bytes();
        work.failed = state.failed;
        work.drained = state.stopping && state.queue.is_empty();
        work
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under this lock is a panic of the writer or of a session; the queue itself stays whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation<'_> {
    /// Queues `submissions`, which together have the reserved number of bytes.
    pub(crate) fn submit(self, submissions: impl IntoIterator<Item = Submission>) {
        // The writer gives the permits back when it takes the submissions out.
        self.permit.forget();
        let mut state = self.inbox.state();
        for submission in submissions {
            state.queue.push(submission);
        }
        let wake = matches!(state.asleep_for, Some(Wanted::Bytes(_)));
        drop(state);
        if wake {
            self.inbox.work.notify_one();
        }
    }
}
