//! What the scans of a statement covered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use icecore_replay::{Coverage, Query, Replay};
use tokio::sync::Notify;

use crate::SqlError;

/// Tells what a statement covers of what it asks for.
#[derive(Debug, Clone)]
pub struct Covered(Arc<Tally>);

/// What the scans of a statement covered so far.
#[derive(Debug)]
pub(crate) struct Tally {
    replay: Arc<Replay>,
    scans: Mutex<Scans>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Scans {
    running: usize,
    covered: Vec<(Query, Coverage)>,
}

/// A scan that runs, until this is dropped.
#[derive(Debug)]
pub(crate) struct Running(Arc<Tally>);

impl Covered {
    pub(crate) fn new(tally: Arc<Tally>) -> Self {
        Self(tally)
    }

    /// Whether the statement read events, as far as its scans ended. Of one over tables about the log there is nothing to say.
    #[must_use]
    pub fn is_of_events(&self) -> bool {
        !self.0.scans().covered.is_empty()
    }

    /// What all scans of the statement covered, once its rows were taken or dropped: this waits for those that still end. What is missing for
    /// several of them is missing once. A scan that ended early, because of a limit, covers what was read up to there.
    ///
    /// # Errors
    /// When the log's facts cannot be read.
    pub async fn coverage(&self) -> Result<Coverage, SqlError> {
        loop {
            let ended = self.0.ended.notified();
            if self.0.scans().running == 0 {
                break;
            }
            ended.await;
        }
        let tally = Arc::clone(&self.0);
        let together = tokio::task::spawn_blocking(move || {
            let covered = tally.scans().covered.clone();
            tally.replay.together(&covered)
        });
        together.await.map_err(|error| SqlError::Execution(error.to_string()))?.map_err(SqlError::from)
    }
}

impl Tally {
    pub(crate) fn new(replay: Arc<Replay>) -> Self {
        Self { replay, scans: Mutex::default(), ended: Notify::new() }
    }

    /// Begins a scan.
    pub(crate) fn begin(self: &Arc<Self>) -> Running {
        self.scans().running += 1;
        Running(Arc::clone(self))
    }

    /// Notes what a scan covered of what it asked for.
    pub(crate) fn note(&self, query: Query, coverage: Coverage) {
        self.scans().covered.push((query, coverage));
    }

    fn scans(&self) -> MutexGuard<'_, Scans> {
        self.scans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.scans().running -= 1;
        self.0.ended.notify_waiters();
    }
}
