//! The fleet: thousands of devices, each on a connection of its own, each cutting a batch at its own pace.
//!
//! All devices connect under one gateway identity. To the server a connection costs the same under any certificate, and
//! enrolling ten thousand of them would measure key generation. They share a few UDP sockets, because a socket's receive
//! buffers cost the client more than a device does.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use icecore_device::transport::{self, Family};
use icecore_load::server::TestServer;
use quinn::Endpoint;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::{Connection, Latencies, Target};
use crate::figures::Figures;
use crate::meter::Meter;
use crate::workload::{self, Machine, Readings};

/// UDP sockets that the connections share. A socket's receive loop takes a few datagrams per turn, and its turn comes
/// after every connection's that has something to do: with too few sockets the buffers overflow.
const SOCKETS: usize = 64;
/// New connections per second: a handshake costs both sides about a millisecond of signatures.
const CONNECTS_PER_SECOND: usize = 400;

/// Events in a batch that is cut every `batch_every` by a device that makes `rate` events per second.
///
/// # Errors
/// When that is not a whole number.
pub(crate) fn events_per_batch(rate: usize, batch_every: Duration) -> Result<usize> {
    let thousandths = rate * usize::try_from(batch_every.as_millis()).context("batches are too rare")?;
    ensure!(
        thousandths > 0 && thousandths.is_multiple_of(1_000),
        "--rate {rate} and --batch-every {batch_every:?} do not make whole events a batch"
    );
    Ok(thousandths / 1_000)
}

/// Connects `devices` devices one after the other, lets them send for `duration`, then waits for the last acks.
///
/// # Errors
/// When a connection fails or something is not acked.
pub(crate) async fn run(
    target: &Target,
    devices: usize,
    batch_every: Duration,
    duration: Duration,
    server: Option<&TestServer>,
) -> Result<Figures> {
    let memory_before = server.map(TestServer::resident_bytes).transpose()?;
    let latencies = Latencies::new();
    let ready = connect(target, devices, &latencies).await?;
    println!("{devices} devices are connected");

    let meter = Meter::start(server)?;
    let begin = Instant::now();
    let mut senders = JoinSet::new();
    for (number, connection) in ready.into_iter().enumerate() {
        let pace = Pace::of(number, devices, begin, batch_every, duration);
        senders.spawn(send(connection, number as u64, target.batch, pace));
    }
    let mut finished = Vec::with_capacity(devices);
    while let Some(sender) = senders.join_next().await {
        finished.push(sender.context("a sender panicked")??);
    }
    let memory_after = server.map(TestServer::resident_bytes).transpose()?;
    let mut figures = meter.finish(finished, &latencies).await?;
    figures.memory_per_connection_bytes = match (memory_before, memory_after) {
        (Some(before), Some(after)) => Some(after.saturating_sub(before) / devices as u64),
        _ => None,
    };
    Ok(figures)
}

/// When a device cuts its batches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) begin: Instant,
    pub(crate) every: Duration,
    pub(crate) end: Instant,
}

impl Pace {
    /// A batch every `every` from `begin` on for `duration`, for device `number` of `devices`: they do not agree on when
    /// a second begins.
    pub(crate) fn of(
        number: usize,
        devices: usize,
        begin: Instant,
        every: Duration,
        duration: Duration,
    ) -> Self {
        let phase = every.mul_f64(number as f64 / devices as f64);
        Self { begin: begin + phase, every, end: begin + duration }
    }
}

async fn send(connection: Connection, number: u64, batch: usize, pace: Pace) -> Result<Connection> {
    let mut machine = Machine::new(number, workload::now());
    let mut readings = Readings::default();
    let mut recorder = connection.device.recorder(workload::schema());
    let mut due = pace.begin;
    while due < pace.end {
        sleep_until(due).await;
        machine.read(batch, &mut readings);
        recorder.columns(&readings.times, &readings.columns()).await?;
        due += pace.every;
    }
    connection.drain().await?;
    Ok(connection)
}

/// Connects the fleet over [`SOCKETS`] sockets at [`CONNECTS_PER_SECOND`].
async fn connect(target: &Target, devices: usize, latencies: &Latencies) -> Result<Vec<Connection>> {
    let sockets = sockets(&target.server, devices).await?;
    let mut attempts = JoinSet::new();
    for number in 0..devices {
        let (target, latencies) = (target.clone(), latencies.clone());
        let socket = sockets[number % sockets.len()].clone();
        attempts.spawn(async move {
            sleep(turn(number)).await;
            target.connect(number, Some(socket), latencies).await
        });
    }
    let mut connections = Vec::with_capacity(devices);
    while let Some(attempt) = attempts.join_next().await {
        connections.push(attempt.context("a connection attempt panicked")??);
    }
    Ok(connections)
}

/// Sockets for `devices` connections to `server` to share.
///
/// # Errors
/// When the server has no address, or the system gives no socket.
pub(crate) async fn sockets(server: &str, devices: usize) -> Result<Vec<Endpoint>> {
    raise_open_files_limit()?;
    let address = tokio::net::lookup_host(server).await?.next().context("the server has no address")?;
    (0..SOCKETS.min(devices))
        .map(|_| transport::endpoint(Family::of(&address)))
        .collect::<Result<Vec<Endpoint>, _>>()
        .context("cannot open a UDP socket")
}

/// How long connection `number` waits for its turn to be made.
pub(crate) fn turn(number: usize) -> Duration {
    Duration::from_secs(1).mul_f64(number as f64 / CONNECTS_PER_SECOND as f64)
}

/// Lets this process, and the sockets it opens, use as many file descriptors as the system allows it.
pub(crate) fn raise_open_files_limit() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_holds_what_its_interval_makes() {
        assert_eq!(events_per_batch(100, Duration::from_secs(1)).unwrap(), 100);
        assert_eq!(events_per_batch(100, Duration::from_millis(250)).unwrap(), 25);
        assert!(events_per_batch(1, Duration::from_millis(250)).is_err());
    }
}
