//! From the first batch to the last ack: time, processor time, memory and counters.

use std::time::Instant;

use anyhow::{Context, Result};
use icecore_device::Stats;
use icecore_load::process;
use icecore_load::server::TestServer;
use tokio::task::JoinSet;

use crate::connection::{Connection, Latencies};
use crate::figures::Figures;

/// What stood on the clocks when sending began.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    server: Option<&'a TestServer>,
    begin: Instant,
    server_cpu: Option<f64>,
    client_cpu: f64,
}

impl<'a> Meter<'a> {
    /// Starts the clocks.
    pub(crate) fn start(server: Option<&'a TestServer>) -> Result<Self> {
        Ok(Self {
            server,
            begin: Instant::now(),
            server_cpu: server.map(TestServer::cpu_seconds).transpose()?,
            client_cpu: process::cpu_seconds(std::process::id())?,
        })
    }

    /// Stops the clocks; all batches of `connections` must have been acked. Then closes the connections.
    ///
    /// # Errors
    /// When a connection does not end in good order.
    pub(crate) async fn finish(self, connections: Vec<Connection>, latencies: &Latencies) -> Result<Figures> {
        let seconds = self.begin.elapsed().as_secs_f64();
        let client_cpu_s = process::cpu_seconds(std::process::id())? - self.client_cpu;
        let server_cpu_s = match (self.server, self.server_cpu) {
            (Some(server), Some(before)) => Some(server.cpu_seconds()? - before),
            _ => None,
        };
        let totals = connections.iter().map(Connection::stats).fold(Totals::default(), Totals::add);
        let figures = Figures {
            connections: connections.len(),
            seconds,
            events: totals.events,
            events_per_s: totals.events as f64 / seconds,
            ack_p50_ms: latencies.quantile_ms(0.50),
            ack_p99_ms: latencies.quantile_ms(0.99),
            wire_bytes_per_event: totals.wire_bytes as f64 / totals.events as f64,
            server_cpu_s,
            client_cpu_s,
            ..Figures::default()
        };
        let mut closing: JoinSet<_> = connections.into_iter().map(Connection::close).collect();
        while let Some(closed) = closing.join_next().await {
            closed.context("closing a connection panicked")??;
        }
        Ok(figures)
    }
}

/// Counters over all connections.
#[derive(Debug, Default)]
struct Totals {
    events: u64,
    wire_bytes: u64,
}

impl Totals {
    fn add(self, stats: Stats) -> Self {
        Self { events: self.events + stats.events_acked, wire_bytes: self.wire_bytes + stats.wire_bytes_sent }
    }
}
