//! Pumps behind a gateway that stream from a thread of their own, whatever happens to the server and the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use icecore_device::{
    Backoff, BatchPolicy, ColumnData, ColumnType, Compression, Config, Device, Event, Events, Field, Gateway,
    Identity, Schema, Spool,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::promises::Acked;

/// More than the server takes to come back and to store what has piled up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Room for events that nobody has read yet: more than a test makes.
const UNREAD: usize = 1 << 20;
/// Events in a batch.
const ROWS: usize = 50;
/// How often a pump cuts a batch.
const BATCH_EVERY: Duration = Duration::from_millis(4);

/// Running pumps.
#[derive(Debug)]
pub struct Pumps {
    thread: JoinHandle<Result<()>>,
    shared: Arc<Shared>,
    acked: Acked,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    crash: Notify,
    recorded: AtomicU64,
}

impl Pumps {
    /// Starts one pump per spool, called `pump/0`, `pump/1` and so on, behind the gateway of `config`; acks are noted
    /// in `acked`.
    ///
    /// # Errors
    /// When the system gives no thread or no event queue.
    pub fn start(config: Config, spools: Vec<Spool>, acked: &Acked) -> Result<Self> {
        let (shared, acked) = (Arc::<Shared>::default(), acked.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (on_thread, noted) = (Arc::clone(&shared), acked.clone());
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    streamed = stream(config, spools, Arc::clone(&on_thread), noted) => {
                        // Said at once: who waits for acks meanwhile only sees that there are none.
                        streamed.inspect_err(|error| eprintln!("pumps: {error:#}"))
                    }
                    () = on_thread.crash.notified() => Ok(()),
                }
            })
        };
        let thread = thread::Builder::new().name("pumps".to_owned()).spawn(run)?;
        Ok(Self { thread, shared, acked })
    }

    /// Events recorded so far; a spool on disk may not have the last ones yet.
    #[must_use]
    pub fn recorded(&self) -> u64 {
        self.shared.recorded.load(Ordering::Relaxed)
    }

    /// Waits until `more` batches were acked from now on.
    ///
    /// # Errors
    /// When that takes too long, or the pumps have failed.
    pub fn wait_for_acks(&self, more: usize) -> Result<()> {
        let (start, least) = (Instant::now(), self.acked.count() + more);
        while self.acked.count() < least {
            ensure!(start.elapsed() < PATIENCE, "no {more} acks within {PATIENCE:?}");
            ensure!(!self.thread.is_finished(), "the pumps ended by themselves");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Lets go of everything as a crash of the device's process does: nothing is flushed, closed or said. Returns how
    /// many events were recorded.
    ///
    /// # Errors
    /// When something had failed before.
    pub fn crash(self) -> Result<u64> {
        self.shared.crash.notify_one();
        self.join()
    }

    /// Stops recording and waits until everything is acked. Returns how many events were recorded.
    ///
    /// # Errors
    /// When something was refused, or is not acked in time.
    pub fn finish(self) -> Result<u64> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.join()
    }

    fn join(self) -> Result<u64> {
        self.thread.join().map_err(|_| anyhow!("the pumps panicked"))??;
        Ok(self.shared.recorded.load(Ordering::Relaxed))
    }
}

/// For devices that find a restarted server at once, and whose acks can be compared with the log.
#[must_use]
pub fn config(server: impl Into<String>, identity: Identity) -> Config {
    let batch = BatchPolicy { max_rows: ROWS, ..BatchPolicy::default() };
    let backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(200) };
    Config::new(server, identity).batch(batch).compression(Compression::Off).backoff(backoff).digests(true)
}

async fn stream(config: Config, spools: Vec<Spool>, shared: Arc<Shared>, acked: Acked) -> Result<()> {
    let gateway = Gateway::connect(config)?;
    let listener = tokio::spawn(listen(gateway.events(UNREAD), acked));
    let mut recording = JoinSet::new();
    for (number, spool) in spools.into_iter().enumerate() {
        let device = gateway.device(format!("pump/{number}").parse()?, spool)?;
        let shared = Arc::clone(&shared);
        recording.spawn(async move { record(device, &shared.stopping, &shared.recorded).await });
    }
    while let Some(recorded) = recording.join_next().await {
        recorded.context("a recorder panicked")??;
    }
    gateway.close(PATIENCE).await?;
    listener.await.context("the listener panicked")?
}

async fn listen(mut events: Events, acked: Acked) -> Result<()> {
    let mut rejected = None;
    while let Some(event) = events.next().await {
        acked.note(&event);
        match event {
            Event::Missed { events } => bail!("{events} events were missed"),
            Event::Rejected { range, message, .. } => rejected = Some((range, message)),
            _ => {}
        }
    }
    rejected.map_or(Ok(()), |(range, message)| Err(anyhow!("{range:?} was rejected: {message}")))
}

/// Records batches of random numbers, some ten thousand events a second, until `stopping`, and counts their events in
/// `recorded`.
///
/// # Errors
/// When the spool fails or is closed.
pub async fn record(device: Device, stopping: &AtomicBool, recorded: &AtomicU64) -> Result<()> {
    let fields = vec![Field::new("level", ColumnType::F64), Field::new("turns", ColumnType::I64)];
    let mut recorder = device.recorder(Arc::new(Schema::new("pump", 1, fields)?));
    let mut random = fastrand::Rng::new();
    while !stopping.load(Ordering::Relaxed) {
        let times: [i64; ROWS] = std::array::from_fn(|_| random.i64(..));
        let levels: [f64; ROWS] = std::array::from_fn(|_| random.f64());
        let columns = [ColumnData::F64(&levels).into(), ColumnData::I64(&times).into()];
        recorder.columns(&times, &columns).await?;
        recorded.fetch_add(ROWS as u64, Ordering::Relaxed);
        tokio::time::sleep(BATCH_EVERY).await;
    }
    Ok(())
}
