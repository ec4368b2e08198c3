//! The bounded way into the writer thread: submissions from the sessions, commits from the disk's thread.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use icecore_log::Committed;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::queue::{Class, FairQueue, Waiting};
use super::submission::Submission;

/// A group of submissions that room is reserved for may not be larger than this, in bytes: it must always fit an empty
/// lane.
pub(crate) const MAX_GROUP_BYTES: usize = 2 << 20;

/// Bytes of one stream that may wait for the writer: about what it takes until the writer comes back for more. More
/// would not make the stream faster, and would take the others' room.
const LANE_BYTES: usize = MAX_GROUP_BYTES;

/// The part of the inbox that is the backlogs'; the rest is live data's. Neither has to wait for the other's.
const BACKLOG_PART: usize = 4;

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
    /// One permit per free byte of each class's part.
    live_room: Arc<Semaphore>,
    backlog_room: Arc<Semaphore>,
}

/// The way in of one stream.
#[derive(Debug)]
pub(crate) struct Lane {
    class: Class,
    /// One permit per byte that may still wait.
    room: Arc<Semaphore>,
}

/// Room that a group of submissions takes. It is free again when the writer has taken the last of them out.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "permits are kept to be dropped")]
pub(super) struct Room {
    lane: Option<OwnedSemaphorePermit>,
    class: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Default)]
struct State {
    queue: FairQueue,
    commits: Vec<Commit>,
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

/// A block that is durable.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) block: Committed,
    /// Whether it was compressed before the disk was free for it.
    pub(super) disk_is_behind: bool,
}

/// What [`Inbox::wait`] found.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) submissions: Vec<Submission>,
    pub(super) commits: Vec<Commit>,
    /// Bytes that wait behind the taken submissions, of each class.
    pub(super) live_waiting: usize,
    pub(super) backlog_waiting: usize,
    /// Nothing more will be submitted, and the queue is empty.
    pub(super) drained: bool,
    /// The log failed: what is in flight will never be durable.
    pub(super) failed: bool,
}

/// Room for some submissions, to be filled with [`Reservation::submit`].
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    inbox: &'a Inbox,
    class: Class,
    room: Room,
}

impl Lane {
    pub(crate) fn new(class: Class) -> Self {
        Self { class, room: Arc::new(Semaphore::new(LANE_BYTES)) }
    }

    pub(crate) fn class(&self) -> Class {
        self.class
    }
}

impl Inbox {
    /// An inbox for `bytes` of submissions, at least so many that backlogs' part holds a group.
    pub(super) fn new(bytes: usize) -> Self {
        let bytes = bytes.max(BACKLOG_PART * MAX_GROUP_BYTES);
        let backlog = bytes / BACKLOG_PART;
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            live_room: Arc::new(Semaphore::new(bytes - backlog)),
            backlog_room: Arc::new(Semaphore::new(backlog)),
        }
    }

    /// Waits until there is room for `bytes` of live submissions that belong to no stream, first come, first served.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Reservation<'_>, Closed> {
        let class = Some(take(&self.live_room, bytes).await?);
        Ok(Reservation { inbox: self, class: Class::Live, room: Room { lane: None, class } })
    }

    /// Waits until there is room for `bytes` of a stream's submissions, first in its lane, then in its class, so that it
    /// keeps nobody from room that it cannot use yet. `bytes` is at most [`MAX_GROUP_BYTES`].
    pub(crate) async fn reserve_in(&self, lane: &Lane, bytes: usize) -> Result<Reservation<'_>, Closed> {
        debug_assert!(bytes <= MAX_GROUP_BYTES, "a group of {bytes} bytes");
        let class_room = match lane.class {
            Class::Live => &self.live_room,
            Class::Backlog => &self.backlog_room,
        };
        let own = Some(take(&lane.room, bytes).await?);
        let class = Some(take(class_room, bytes).await?);
        Ok(Reservation { inbox: self, class: lane.class, room: Room { lane: own, class } })
    }

    /// Whether nothing more is taken.
    pub(crate) fn is_closed(&self) -> bool {
        self.live_room.is_closed()
    }

    /// Ends the intake; what is in the queue will still be written.
    pub(super) fn stop(&self) {
        self.close();
        self.state().stopping = true;
        self.work.notify_one();
    }

    /// Whether [`Inbox::stop`] was called.
    pub(super) fn is_stopping(&self) -> bool {
        self.state().stopping
    }

    /// Ends everything: the log failed.
    pub(super) fn fail(&self) {
        self.close();
        self.state().failed = true;
        self.work.notify_one();
    }

    /// Tells the writer thread that a block is durable.
    pub(super) fn committed(&self, commit: Commit) {
        self.state().commits.push(commit);
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
        let mut taken = Vec::new();
        if let Wanted::Bytes(bytes) = wanted {
            state.queue.take(bytes, &mut taken);
        }
        let mut work = Work {
            submissions: Vec::with_capacity(taken.len()),
            commits: std::mem::take(&mut state.commits),
            live_waiting: state.queue.bytes(Class::Live),
            backlog_waiting: state.queue.bytes(Class::Backlog),
            drained: state.stopping && state.queue.is_empty(),
            failed: state.failed,
        };
        // Room is given back, and who waits for it woken, when nobody has to wait for the queue itself.
        drop(state);
        work.submissions.extend(taken.into_iter().map(|waiting| waiting.submission));
        work
    }

    fn close(&self) {
        self.live_room.close();
        self.backlog_room.close();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under this lock is a panic of the writer or of a session; the queue itself stays whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation<'_> {
    /// Queues `submissions`, which together have the reserved number of bytes.
    pub(crate) fn submit(self, submissions: impl IntoIterator<Item = Submission>) {
        let room = Arc::new(self.room);
        let mut state = self.inbox.state();
        for submission in submissions {
            state.queue.push(self.class, Waiting { submission, room: Arc::clone(&room) });
        }
        let wake = matches!(state.asleep_for, Some(Wanted::Bytes(_)));
        drop(state);
        if wake {
            self.inbox.work.notify_one();
        }
    }
}

async fn take(room: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Closed> {
    let closed = |_: AcquireError| Closed;
    Arc::clone(room).acquire_many_owned(bytes as u32).await.map_err(closed)
}
