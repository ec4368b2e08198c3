//! The closed loop: every connection sends as fast as acks come back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use icecore_load::server::TestServer;
use tokio::task::JoinSet;

use crate::connection::{Connection, Latencies, Target};
use crate::figures::Figures;
use crate::meter::Meter;
use crate::workload::{self, Machine, Readings};

/// Sends over `connections` connections for `duration`, then waits for the last acks.
///
/// # Errors
/// When a connection fails or something is not acked.
pub(crate) async fn run(
    target: &Target,
    connections: usize,
    duration: Duration,
    server: Option<&TestServer>,
) -> Result<Figures> {
    let latencies = Latencies::new();
    let mut ready = Vec::with_capacity(connections);
    for number in 0..connections {
        ready.push(target.connect(number, None, latencies.clone()).await?);
    }

    let meter = Meter::start(server)?;
    let mut senders = JoinSet::new();
    for (number, connection) in ready.into_iter().enumerate() {
        senders.spawn(send(connection, number as u64, target.batch, duration));
    }
    let mut finished = Vec::with_capacity(connections);
    while let Some(sender) = senders.join_next().await {
        finished.push(sender.context("a sender panicked")??);
    }
    meter.finish(finished, &latencies).await
}

/// Records batches until `duration` is over; recording waits while the window and the spool are full.
async fn send(connection: Connection, number: u64, batch: usize, duration: Duration) -> Result<Connection> {
    let begin = Instant::now();
    let mut machine = Machine::new(number, workload::now());
    let mut readings = Readings::default();
    let mut recorder = connection.device.recorder(workload::schema());
    while begin.elapsed() < duration {
        machine.read(batch, &mut readings);
        recorder.columns(&readings.times, &readings.columns()).await?;
    }
    connection.drain().await?;
    Ok(connection)
}
