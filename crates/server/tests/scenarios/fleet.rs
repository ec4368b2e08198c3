//! A fleet behind a gateway that streams from a thread of its own, whatever happens to the server.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use icecore_device::{
    Backoff, BatchPolicy, ColumnData, ColumnType, Config, Device, Event, Events, Field, Gateway, Identity,
    Level, Schema, Spool,
};
use tokio::task::JoinSet;

use crate::promises::Acked;

/// More than the server takes to come back and to store what has piled up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Room for events that the fleet's listener has not read: more than a test makes.
const UNREAD: usize = 1 << 20;

/// Events in a batch.
const ROWS: usize = 50;

/// A running fleet.
pub(crate) struct Fleet {
    thread: JoinHandle<()>,
    stopping: Arc<AtomicBool>,
    acked: Arc<Mutex<Acked>>,
}

impl Fleet {
    /// Starts one device per spool behind the gateway `identity`.
    pub(crate) fn start(server: SocketAddr, identity: Identity, spools: Vec<Spool>) -> Self {
        let (stopping, acked) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let config = config(server, identity);
        let stream = stream(config, spools, Arc::clone(&stopping), Arc::clone(&acked));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { thread: thread::spawn(move || runtime.block_on(stream)), stopping, acked }
    }

    /// Batches acked so far.
    pub(crate) fn acked(&self) -> usize {
        self.acked.lock().unwrap().count()
    }

    /// Waits until this many batches are acked.
    pub(crate) fn wait_for_acks(&self, least: usize) {
        let start = Instant::now();
        while self.acked() < least {
            assert!(start.elapsed() < PATIENCE, "no ack within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops recording and waits until everything is acked.
    pub(crate) fn finish(self) -> Acked {
        self.stopping.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        std::mem::take(&mut self.acked.lock().unwrap())
    }
}

/// For devices that find a restarted server at once.
pub(crate) fn config(server: SocketAddr, identity: Identity) -> Config {
    let batch = BatchPolicy { max_rows: ROWS, ..BatchPolicy::default() };
    let backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(200) };
    Config::new(server.to_string(), identity).batch(batch).backoff(backoff).digests(true)
}

async fn stream(config: Config, spools: Vec<Spool>, stopping: Arc<AtomicBool>, acked: Arc<Mutex<Acked>>) {
    let gateway = Gateway::connect(config).unwrap();
    let listener = tokio::spawn(listen(gateway.events(UNREAD), acked));
    let mut recording = JoinSet::new();
    for (number, spool) in spools.into_iter().enumerate() {
        let name = format!("crash/pump {number}").parse().unwrap();
        recording.spawn(record(gateway.device(name, spool).unwrap(), Arc::clone(&stopping)));
    }
    recording.join_all().await;
    gateway.close(PATIENCE).await.unwrap();
    listener.await.unwrap();
}

async fn listen(mut events: Events, acked: Arc<Mutex<Acked>>) {
    while let Some(event) = events.next().await {
        match event {
            Event::Acked { device, epoch, range, level, digest, .. } if level >= Level::Durable => {
                acked.lock().unwrap().insert(device, epoch, range, digest);
            }
            Event::Missed { events } => panic!("{events} events were missed"),
            Event::Rejected { range, message, .. } => panic!("{range:?} was rejected: {message}"),
            _ => {}
        }
    }
}

/// Records batches of random numbers, some ten thousand events a second, until `stopping`.
pub(crate) async fn record(device: Device, stopping: Arc<AtomicBool>) {
    let fields = vec![Field::new("level", ColumnType::F64), Field::new("turns", ColumnType::I64)];
    let mut recorder = device.recorder(Arc::new(Schema::new("pump", 1, fields).unwrap()));
    while !stopping.load(Ordering::Relaxed) {
        let times: [i64; ROWS] = std::array::from_fn(|_| fastrand::i64(..));
        let levels: [f64; ROWS] = std::array::from_fn(|_| fastrand::f64());
        let columns = [ColumnData::F64(&levels).into(), ColumnData::I64(&times).into()];
        recorder.columns(&times, &columns).await.unwrap();
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}
