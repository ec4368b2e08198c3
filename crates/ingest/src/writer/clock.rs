//! Received time: the wall clock at the start, then the monotonic clock, so that it never steps backwards.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A step between log and wall clock that is worth a warning: NTP does not leave a machine this far off.
const LARGE_STEP: Duration = Duration::from_secs(60);

/// Nanoseconds since the Unix epoch by the wall clock; it may step.
pub(crate) fn wall_time() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => nanoseconds(since),
        Err(e) => -nanoseconds(e.duration()),
    }
}

/// Gives received times.
#[derive(Debug)]
pub(super) struct ReceivedClock {
    anchor: i64,
    started: Instant,
}

impl ReceivedClock {
    /// A clock that goes on from `newest`, the newest received time in the log, or from the wall clock where that
    /// is later.
    pub(super) fn start(newest: i64) -> Self {
        let wall = wall_time();
        if newest > wall.saturating_add(nanoseconds(LARGE_STEP)) {
            tracing::warn!(
                newest_received = newest,
                wall_clock = wall,
                "the system clock is behind the newest received time in the log; received times go on from the log's"
            );
        }
        Self { anchor: wall.max(newest), started: Instant::now() }
    }

    pub(super) fn now(&self) -> i64 {
        self.anchor.saturating_add(nanoseconds(self.started.elapsed()))
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
