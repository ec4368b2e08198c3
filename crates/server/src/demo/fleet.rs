//! The fleet: a weather gateway, turbines with certificates of their own, and a plant that sends as fast as it can.

use std::time::Duration;

use anyhow::{Context, Result};
use icecore_device::{BatchPolicy, Compression, Config, Device, DeviceName, Gateway, Spool};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::machine::{self, Machine};
use super::stage::Stage;
use super::tally::Tally;
use super::weather::{self, Reading};

/// Presses behind the plant's gateway.
const PRESSES: u32 = 16;
/// Events in a press's batch.
const PRESS_BATCH: usize = 1_000;
/// A press has this much in memory that is not acked: enough to keep the server busy, little enough to wait for.
const PRESS_SPOOL_BYTES: usize = 1 << 20;
/// Turbines: plain devices.
const TURBINES: u32 = 4;
/// A turbine reports this often…
const TURBINE_INTERVAL: Duration = Duration::from_millis(100);
/// … this many events.
const TURBINE_BATCH: usize = 100;
/// How often the weather goes on.
const WEATHER_INTERVAL: Duration = Duration::from_millis(50);
/// Bytes that a spool on disk may take.
const SPOOL_BYTES: u64 = 64 << 20;
/// Unread events that a client keeps for its listener; a second's worth of acks.
const EVENT_BUFFER: usize = 1 << 17;
/// How long the last acks may take once the fleet has stopped recording.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// The fleet in one line.
pub(super) const DESCRIPTION: &str = "a weather gateway for 3 airports, a plant gateway for 16 presses, 4 turbines with certificates of their own";

/// Running clients.
pub(super) struct Fleet {
    gateways: Vec<Gateway>,
    turbines: Vec<Device>,
    senders: JoinSet<Result<()>>,
    listeners: JoinSet<Result<()>>,
}

impl Fleet {
    /// Enrols and starts all clients; they record until `end`.
    pub(super) fn start(stage: &Stage, tally: &Tally, end: Instant) -> Result<Self> {
        let mut fleet = Self {
            gateways: Vec::new(),
            turbines: Vec::new(),
            senders: JoinSet::new(),
            listeners: JoinSet::new(),
        };
        fleet.start_weather(stage, tally, end)?;
        fleet.start_plant(stage, tally, end)?;
        for number in 1..=TURBINES {
            fleet.start_turbine(stage, tally, end, number)?;
        }
        Ok(fleet)
    }

    /// Fails when something in the fleet has gone wrong.
    pub(super) fn check(&mut self) -> Result<()> {
        for tasks in [&mut self.senders, &mut self.listeners] {
            while let Some(ended) = tasks.try_join_next() {
                ended.context("a task of the fleet panicked")??;
            }
        }
        Ok(())
    }

    /// Waits until the clients have stopped recording and everything they recorded is acked, then closes them.
    pub(super) async fn finish(mut self) -> Result<()> {
        while let Some(sender) = self.senders.join_next().await {
            sender.context("a sender panicked")??;
        }
        for turbine in self.turbines {
            turbine.close(DRAIN_LIMIT).await?;
        }
        for gateway in self.gateways {
            gateway.close(DRAIN_LIMIT).await?;
        }
        while let Some(listener) = self.listeners.join_next().await {
            listener.context("a listener panicked")??;
        }
        Ok(())
    }

    fn start_weather(&mut self, stage: &Stage, tally: &Tally, end: Instant) -> Result<()> {
        let identity = stage.enroll("weather-gateway", Some("weather/*"))?;
        let cut = BatchPolicy { max_age: Some(Duration::from_millis(200)), ..BatchPolicy::default() };
        let gateway = self.gateway(config(stage, identity).batch(cut), tally)?;
        let readings = weather::readings()?;
        let pace = Pace { begin: Instant::now(), end, total: readings.len() };
        let mut airports: Vec<(String, Vec<Reading>)> = Vec::new();
        for reading in readings {
            match airports.iter_mut().find(|(airport, _)| *airport == reading.airport) {
                Some((_, readings)) => readings.push(reading),
                None => airports.push((reading.airport.clone(), vec![reading])),
            }
        }
        for (airport, readings) in airports {
            let spool = disk_spool(stage, &format!("weather-{airport}"));
            let device =
                gateway.device(DeviceName::try_from(format!("weather/{airport}").as_str())?, spool)?;
            let pace = Pace { total: readings.len(), ..pace };
            self.senders.spawn(send_weather(device, readings, pace, tally.clone()));
        }
        Ok(())
    }

    fn start_plant(&mut self, stage: &Stage, tally: &Tally, end: Instant) -> Result<()> {
        let identity = stage.enroll("plant-gateway", Some("plant/*"))?;
        let cut = BatchPolicy { max_rows: PRESS_BATCH, max_age: None, ..BatchPolicy::default() };
        let gateway = self.gateway(config(stage, identity).batch(cut), tally)?;
        for number in 1..=PRESSES {
            let name = DeviceName::try_from(format!("plant/press-{number}").as_str())?;
            let device = gateway.device(name, Spool::Memory { max_bytes: PRESS_SPOOL_BYTES })?;
            self.senders.spawn(send_at_speed(device, number, end));
        }
        Ok(())
    }

    fn start_turbine(&mut self, stage: &Stage, tally: &Tally, end: Instant, number: u32) -> Result<()> {
        let name = format!("turbine-{number}");
        let identity = stage.enroll(&name, None)?;
        let cut = BatchPolicy { max_rows: TURBINE_BATCH, max_age: None, ..BatchPolicy::default() };
        let device = Device::connect(config(stage, identity).batch(cut), disk_spool(stage, &name))?;
        self.listeners.spawn(tally.clone().follow(device.events(EVENT_BUFFER)));
        self.senders.spawn(send_steadily(device.clone(), number, end));
        self.turbines.push(device);
        Ok(())
    }

    fn gateway(&mut self, config: Config, tally: &Tally) -> Result<Gateway> {
        let gateway = Gateway::connect(config)?;
        self.listeners.spawn(tally.clone().follow(gateway.events(EVENT_BUFFER)));
        self.gateways.push(gateway.clone());
        Ok(gateway)
    }
}

/// When a series of `total` readings is to be recorded.
#[derive(Debug, Clone, Copy)]
struct Pace {
    begin: Instant,
    end: Instant,
    total: usize,
}

impl Pace {
    /// How many readings are due at `now`.
    fn due(&self, now: Instant) -> usize {
        let share = (now - self.begin).as_secs_f64() / (self.end - self.begin).as_secs_f64();
        ((self.total as f64 * share) as usize).min(self.total)
    }
}

async fn send_weather(device: Device, readings: Vec<Reading>, pace: Pace, tally: Tally) -> Result<()> {
    let mut recorder = device.recorder(weather::schema());
    let mut ticks = interval(WEATHER_INTERVAL);
    let mut sent = 0;
    while sent < readings.len() {
        ticks.tick().await;
        let due = pace.due(Instant::now());
        for reading in &readings[sent..due] {
            recorder.row(reading.time, &reading.values()).await?;
        }
        if due > sent {
            let mut counts = tally.counts();
            counts.readings += due - sent;
            counts.weather_time = readings[due - 1].time;
        }
        sent = due;
    }
    Ok(())
}

async fn send_at_speed(device: Device, number: u32, end: Instant) -> Result<()> {
    let mut recorder = device.recorder(machine::schema());
    let mut machine = Machine::new(number);
    while Instant::now() < end {
        let (times, columns) = machine.read(PRESS_BATCH);
        recorder.columns(times, &columns).await?;
    }
    Ok(())
}

async fn send_steadily(device: Device, number: u32, end: Instant) -> Result<()> {
    let mut recorder = device.recorder(machine::schema());
    let mut machine = Machine::new(1_000 + number);
    let mut ticks = interval(TURBINE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while Instant::now() < end {
        ticks.tick().await;
        let (times, columns) = machine.read(TURBINE_BATCH);
        recorder.columns(times, &columns).await?;
    }
    Ok(())
}

fn config(stage: &Stage, identity: icecore_device::Identity) -> Config {
    // The machine is busy with both ends of the fleet, and its network is memory.
    Config::new(stage.address().to_string(), identity).compression(Compression::Off).digests(true)
}

fn disk_spool(stage: &Stage, name: &str) -> Spool {
    Spool::Disk { dir: stage.directory().join("spools").join(name), max_bytes: SPOOL_BYTES }
}
