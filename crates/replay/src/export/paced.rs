//! Events at the speed at which they happened, or a multiple of it.

use std::thread;
use std::time::{Duration, Instant};

use super::Sink;
use crate::{Event, ReplayError};

/// Waits shorter than this are left out; events then go through in small bursts.
const RESOLUTION: Duration = Duration::from_millis(2);

/// Which times of events a [`Paced`] sink follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacedBy {
    /// When they happened.
    EventTime,
    /// When they were received.
    ReceivedTime,
}

/// Hands events on by a virtual clock, which runs from the first event's time on, so many times as fast as ours.
#[derive(Debug)]
pub struct Paced<S> {
    sink: S,
    by: PacedBy,
    speed: f64,
    /// When the first event was handed on, and the virtual time then.
    began: Option<(Instant, i64)>,
}

impl<S: Sink> Paced<S> {
    /// Hands events to `sink`, at `speed` times (above 0) the speed at which they happened or were received.
    pub fn new(sink: S, by: PacedBy, speed: f64) -> Self {
        Self { sink, by, speed, began: None }
    }

    /// How long to wait for an event of this (virtual) time; what is earlier than the events before it is due at once.
    fn wait(&mut self, time: i64, now: Instant) -> Duration {
        let (began, first) = *self.began.get_or_insert((now, time));
        let passed = time.saturating_sub(first).max(0) as f64 / 1e9 / self.speed;
        let due = Duration::try_from_secs_f64(passed).unwrap_or(Duration::MAX);
        due.saturating_sub(now.duration_since(began))
    }
}

impl<S: Sink> Sink for Paced<S> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), ReplayError> {
        let time = match self.by {
            PacedBy::EventTime => event.event_time,
            PacedBy::ReceivedTime => event.received_time,
        };
        let wait = self.wait(time, Instant::now());
        if wait > RESOLUTION {
            self.sink.flush()?;
            thread::sleep(wait);
        }
        self.sink.event(event)
    }

    fn flush(&mut self) -> Result<(), ReplayError> {
        self.sink.flush()
    }

    fn finish(&mut self) -> Result<(), ReplayError> {
        self.sink.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ndjson;

    #[test]
    fn the_virtual_clock_runs_as_fast_as_it_is_told() {
        let mut paced = Paced::new(Ndjson::new(std::io::sink()), PacedBy::EventTime, 10.0);
        let now = Instant::now();
        let second = 1_000_000_000;
        assert_eq!(paced.wait(5 * second, now), Duration::ZERO);
        assert_eq!(paced.wait(25 * second, now), Duration::from_secs(2));
        assert_eq!(paced.wait(25 * second, now + Duration::from_secs(1)), Duration::from_secs(1));
        assert_eq!(paced.wait(4 * second, now), Duration::ZERO, "what is late waits for nothing");
        assert_eq!(paced.wait(i64::MAX, now + Duration::from_secs(9)).as_secs() / 1_000_000, 922);
    }
}
