//! `wake`: what a sleepy device spends from waking to its durable ack.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use icecore_device::{BatchPolicy, Config, Device, Disconnect, Event, Identity, Level, Recorder, Spool};
use icecore_load::network::{Conditions, Network, Path, Volume};
use icecore_load::promises::Acked;
use icecore_load::server::TestServer;
use serde::Serialize;

use super::{Output, quiet};
use crate::options::{duration, positive};
use crate::spread::Spread;
use crate::workload::{self, Machine, Readings};

/// How long an ack may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the device's spool: some batches.
const SPOOL_BYTES: usize = 1 << 20;
/// Unread events: those of one waking.
const EVENT_BUFFER: usize = 1_000;

/// Wakes a device that connects on demand again and again, sends a batch each time, and counts datagrams, bytes and round
/// trips until the durable ack: with 0-RTT, and with a full handshake.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often the device wakes, either way.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = positive)]
    wakings: usize,

    /// Events in a batch.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    batch: usize,

    /// How long a datagram is under way, one way.
    #[arg(long, value_name = "DURATION", default_value = "50ms", value_parser = duration)]
    delay: Duration,

    /// How long the device stays connected after its ack.
    #[arg(long, value_name = "DURATION", default_value = "1ms", value_parser = duration)]
    linger: Duration,

    #[command(flatten)]
    pub(super) output: Output,
}

/// What was measured, per waking.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    batch: usize,
    round_trip_ms: f64,
    full: Waking,
    early: Waking,
    /// Round trips with 0-RTT over those with a full handshake.
    round_trips_ratio: f64,
    /// The same of bytes, headers included.
    bytes_ratio: f64,
}

/// The mean of some wakings, from the first datagram until nothing more was said.
#[derive(Debug, Serialize)]
struct Waking {
    /// From recording the batch to its durable ack.
    to_ack: Spread,
    round_trips: f64,
    up_datagrams: f64,
    down_datagrams: f64,
    up_payload_bytes: f64,
    down_payload_bytes: f64,
    /// With IP and UDP headers.
    up_bytes: f64,
    down_bytes: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "a waking               {} events in a batch, round trip {:.0} ms",
            self.batch, self.round_trip_ms
        )?;
        writeln!(f, "full handshake         {}", self.full)?;
        writeln!(f, "0-RTT                  {}", self.early)?;
        writeln!(
            f,
            "0-RTT over full        round trips {:.2}, bytes {:.2}",
            self.round_trips_ratio, self.bytes_ratio
        )
    }
}

impl fmt::Display for Waking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} round trips ({}); up {:.1} datagrams, {:.0} bytes, {:.0} with headers; down {:.1}, {:.0}, {:.0}",
            self.round_trips,
            self.to_ack,
            self.up_datagrams,
            self.up_payload_bytes,
            self.up_bytes,
            self.down_datagrams,
            self.down_payload_bytes,
            self.down_bytes,
        )
    }
}

pub(crate) async fn run(options: &Options) -> Result<Figures> {
    let mut server = TestServer::start(options.output.dir())?;
    let identity = Identity::load(server.enroll_device("sleepy")?)?;
    let network = Network::start(1)?;
    let path = network.path(server.address())?;
    path.set(Conditions { delay: options.delay, ..Conditions::default() });
    let cut = BatchPolicy { max_rows: options.batch, max_age: None, ..BatchPolicy::default() };
    let config = Config::new(path.address().to_string(), identity).batch(cut).digests(true);
    let mut sleeper = Sleeper {
        config: config.on_demand(options.linger),
        path,
        machine: Machine::new(0, workload::now()),
        rows: options.batch,
        acked: Acked::default(),
    };
    let full = sleeper.wake_as_new(options.wakings).await?;
    let early = sleeper.wake_again(options.wakings).await?;
    let kinds = server.metrics()?;
    server.stop()?;
    let stored = sleeper.acked.check(&server.path("data"))?;
    ensure!(stored.events == sleeper.acked.events(), "{stored:?} is stored, which was not all acked");
    println!("verified: a replay of the log has exactly the {} acked events, byte for byte", stored.events);
    for line in kinds.lines().filter(|line| line.starts_with("icecore_handshakes_total")) {
        println!("{line}");
    }

    let round_trip = options.delay * 2;
    let [full, early] = [full, early].map(|wakings| Waking::of(&wakings, round_trip));
    Ok(Figures {
        batch: options.batch,
        round_trip_ms: round_trip.as_secs_f64() * 1_000.0,
        round_trips_ratio: early.round_trips / full.round_trips,
        bytes_ratio: (early.up_bytes + early.down_bytes) / (full.up_bytes + full.down_bytes),
        full,
        early,
    })
}

/// What one waking took: the time to the ack, and what went up and down.
type Taken = (Duration, [Volume; 2]);

/// A device that sleeps most of the time.
struct Sleeper {
    config: Config,
    path: Path,
    machine: Machine,
    rows: usize,
    acked: Acked,
}

impl Sleeper {
    /// Wakes a device that has never met the server, `times` times.
    async fn wake_as_new(&mut self, times: usize) -> Result<Vec<Taken>> {
        let mut taken = Vec::new();
        for _ in 0..times {
            let device = self.device()?;
            let mut recorder = device.recorder(workload::schema());
            taken.push(self.wake(&device, &mut recorder).await?);
            device.close(PATIENCE).await?;
        }
        Ok(taken)
    }

    /// Wakes one device again and again; the first time, when it meets the server, does not count.
    async fn wake_again(&mut self, times: usize) -> Result<Vec<Taken>> {
        let device = self.device()?;
        let mut recorder = device.recorder(workload::schema());
        self.wake(&device, &mut recorder).await?;
        let mut taken = Vec::new();
        for _ in 0..times {
            taken.push(self.wake(&device, &mut recorder).await?);
        }
        let accepted = device.stats().zero_rtt_accepted;
        device.close(PATIENCE).await?;
        ensure!(accepted >= times as u64, "the server took only {accepted} of {times} first flights");
        Ok(taken)
    }

    fn device(&self) -> Result<Device> {
        Ok(Device::connect(self.config.clone(), Spool::Memory { max_bytes: SPOOL_BYTES })?)
    }

    /// Records a batch, waits for its ack, and until the device sleeps again.
    async fn wake(&mut self, device: &Device, recorder: &mut Recorder) -> Result<Taken> {
        let mut events = device.events(EVENT_BUFFER);
        let mut readings = Readings::default();
        self.machine.read(self.rows, &mut readings);
        let before = quiet(&self.path).await;
        let begin = Instant::now();
        recorder.columns(&readings.times, &readings.columns()).await?;
        device.flush(Level::Durable, PATIENCE).await?;
        let to_ack = begin.elapsed();
        while let Some(event) = events.next().await {
            self.acked.note(&event);
            if matches!(event, Event::Disconnected { reason: Disconnect::Idle, .. }) {
                break;
            }
        }
        let after = quiet(&self.path).await;
        Ok((to_ack, [0, 1].map(|way| after[way].since(&before[way]))))
    }
}

impl Waking {
    fn of(wakings: &[Taken], round_trip: Duration) -> Self {
        let mean =
            |value: &dyn Fn(&Taken) -> f64| wakings.iter().map(value).sum::<f64>() / wakings.len() as f64;
        let way = |way: usize, value: fn(&Volume) -> u64| mean(&|(_, volumes)| value(&volumes[way]) as f64);
        Self {
            to_ack: Spread::of(wakings.iter().map(|(to_ack, _)| *to_ack)),
            round_trips: mean(&|(to_ack, _)| to_ack.as_secs_f64() / round_trip.as_secs_f64()),
            up_datagrams: way(0, |volume| volume.datagrams),
            down_datagrams: way(1, |volume| volume.datagrams),
            up_payload_bytes: way(0, |volume| volume.payload_bytes),
            down_payload_bytes: way(1, |volume| volume.payload_bytes),
            up_bytes: way(0, Volume::bytes),
            down_bytes: way(1, Volume::bytes),
        }
    }
}
