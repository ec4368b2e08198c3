//! One simulated device on a connection of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use icecore_device::{
    BatchPolicy, Compression, Config, Device, DeviceName, Event, Events, Gateway, Identity, Level, Spool,
    Stats,
};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::disconnects::Disconnects;

/// How long a connection may take until the server is ready for batches.
const ATTACH_LIMIT: Duration = Duration::from_secs(60);
/// How long the last acks may take.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// Unread events a connection keeps for us.
const EVENT_BUFFER: usize = 1 << 14;
/// Payload bytes a device holds until they are acked: the window's worth in flight and as much ready to follow.
const SPOOL_BYTES: usize = 2 * Config::DEFAULT_WINDOW;
/// The longest latency told apart from longer ones: an hour, in microseconds.
const LONGEST_LATENCY: u64 = 3_600_000_000;

/// Ack latencies of all connections, in microseconds.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Arc<Mutex<Histogram<u64>>>);

impl Latencies {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_max(LONGEST_LATENCY, 3).expect("the bounds are in order");
        Self(Arc::new(Mutex::new(histogram)))
    }

    fn record(&self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(microseconds);
    }

    /// The latency that `quantile` (0 to 1) of all acks did not exceed, in milliseconds.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        let histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

/// A connected device, ready to record.
pub(crate) struct Connection {
    gateway: Gateway,
    pub(crate) device: Device,
    listener: JoinHandle<Result<()>>,
}

/// Where and as whom the fleet connects.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) server: String,
    pub(crate) identity: Identity,
    /// Events in a batch.
    pub(crate) batch: usize,
    pub(crate) disconnects: Disconnects,
}

impl Target {
    /// Connects device number `number` and waits until the server is ready for its batches; `endpoint` is shared
    /// between connections, and without one the connection has a socket of its own.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub(crate) async fn connect(
        &self,
        number: usize,
        endpoint: Option<quinn::Endpoint>,
        latencies: Latencies,
    ) -> Result<Connection> {
        let cut = BatchPolicy { max_rows: self.batch, max_age: None, ..BatchPolicy::default() };
        let mut config =
            Config::new(&self.server, self.identity.clone()).batch(cut).compression(Compression::Off);
        if let Some(endpoint) = endpoint {
            config = config.endpoint(endpoint);
        }
        let gateway = Gateway::connect(config)?;
        let mut events = gateway.events(EVENT_BUFFER);
        let name = DeviceName::try_from(format!("load/{number:05}").as_str())?;
        let device = gateway.device(name, Spool::Memory { max_bytes: SPOOL_BYTES })?;
        timeout(ATTACH_LIMIT, attached(&mut events, &self.disconnects))
            .await
            .with_context(|| format!("device {number} was not attached within {ATTACH_LIMIT:?}"))??;
        let listener = tokio::spawn(listen(events, latencies, self.disconnects.clone()));
        Ok(Connection { gateway, device, listener })
    }
}

impl Connection {
    /// Counters of the connection so far.
    pub(crate) fn stats(&self) -> Stats {
        self.gateway.stats()
    }

    /// Waits for the last acks and returns the connection's counters as they then were.
    ///
    /// # Errors
    /// When something was not acked in time, or was refused.
    pub(crate) async fn drain(&self) -> Result<Stats> {
        self.gateway.flush(Level::Durable, DRAIN_LIMIT).await?;
        Ok(self.gateway.stats())
    }

    /// Closes the connection.
    ///
    /// # Errors
    /// When something went wrong on it that a load test must not have.
    pub(crate) async fn close(self) -> Result<()> {
        self.gateway.close(DRAIN_LIMIT).await?;
        self.listener.await.context("a listener panicked")?
    }
}

async fn attached(events: &mut Events, disconnects: &Disconnects) -> Result<()> {
    loop {
        let event = events.next().await.context("the connection was closed")?;
        disconnects.note(&event);
        match event {
            Event::Attached { .. } => return Ok(()),
            Event::Refused { message, .. } => bail!("the server refused: {message}"),
            _ => {}
        }
    }
}

/// Records latencies until the connection is closed; whatever a healthy run does not have is an error.
async fn listen(mut events: Events, latencies: Latencies, disconnects: Disconnects) -> Result<()> {
    let mut outcome = Ok(());
    while let Some(event) = events.next().await {
        disconnects.note(&event);
        match event {
            Event::Acked { latency: Some(latency), .. } => latencies.record(latency),
            Event::Rejected { device, range, message, .. } => {
                outcome = Err(anyhow::anyhow!("{device} {range:?} was rejected: {message}"));
            }
            _ => {}
        }
    }
    outcome
}
