//! What the fleet has experienced so far, gathered from its clients' events.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use icecore_device::{Event, Events, Level};
use tokio::time::Instant;

use super::acked::{Acked, AckedBatch};

/// The longest latency told apart from longer ones: an hour, in microseconds.
const LONGEST_LATENCY: u64 = 3_600_000_000;

/// Shared between the clients' listeners and the screen.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally(Arc<Mutex<Counts>>);

/// The counts behind a [`Tally`].
#[derive(Debug)]
pub(super) struct Counts {
    /// Every acked batch.
    pub(super) acked: Acked,
    /// When the server was killed.
    pub(super) killed: Option<Instant>,
    /// From then to the first ack of a batch sent over a new connection.
    pub(super) outage: Option<Duration>,
    /// Ack latencies in microseconds since they were last taken.
    latencies: Histogram<u64>,
    /// Readings of the weather that were recorded.
    pub(super) readings: usize,
    /// The time of the latest, in nanoseconds since the Unix epoch.
    pub(super) weather_time: i64,
}

impl Default for Counts {
    fn default() -> Self {
        let latencies = Histogram::new_with_max(LONGEST_LATENCY, 3).expect("the bounds are in order");
        Self { acked: Acked::default(), killed: None, outage: None, latencies, readings: 0, weather_time: 0 }
    }
}

impl Counts {
    /// Enters that a batch sent over a connection made at `connected` was acked after `latency`.
    fn record_latency(&mut self, latency: Duration, connected: Option<Instant>) {
        self.latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        if let (Some(killed), Some(connected), None) = (self.killed, connected, self.outage)
            && connected > killed
        {
            self.outage = Some(killed.elapsed());
        }
    }

    /// Median and 99th percentile of the latencies since the last call; `None` without acks.
    pub(super) fn take_latencies(&mut self) -> Option<(Duration, Duration)> {
        let at = |quantile| Duration::from_micros(self.latencies.value_at_quantile(quantile));
        let taken = (!self.latencies.is_empty()).then(|| (at(0.50), at(0.99)));
        self.latencies.reset();
        taken
    }
}

impl Tally {
    /// The counts, to be let go of before the next await.
    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters `events` until their client is closed.
    ///
    /// # Errors
    /// What must not happen in a demo whose server accepts every client and takes every batch.
    pub(super) async fn follow(self, mut events: Events) -> Result<()> {
        let mut connected = None;
        while let Some(event) = events.next().await {
            match event {
                Event::Connected { .. } => connected = Some(Instant::now()),
                Event::Acked { device, epoch, range, level: Level::Durable, digest, latency } => {
                    let Some(digest) = digest else { bail!("an ack for {device} came without a digest") };
                    let mut counts = self.counts();
                    counts.acked.record(device, epoch, AckedBatch { sequences: range, digest });
                    if let Some(latency) = latency {
                        counts.record_latency(latency, connected);
                    }
                }
                Event::Rejected { device, range, message, .. } => {
                    bail!("{device} {range:?} was rejected: {message}")
                }
                Event::Refused { message, .. } => bail!("the server refused: {message}"),
                Event::Missed { events } => bail!("{events} events of a client were not recorded"),
                _ => {}
            }
        }
        Ok(())
    }
}
