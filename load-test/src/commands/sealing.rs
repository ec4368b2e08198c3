//! `sealing`: what sealing beside ingestion does to the acks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use icecore_device::Identity;
use icecore_load::server::TestServer;
use icecore_log::{LogReader, RealDisk};
use serde::Serialize;

use super::Output;
use crate::closed_loop;
use crate::connection::Target;
use crate::disconnects::Disconnects;
use crate::fleet;
use crate::options::{duration, positive};

/// In both cases, so that nothing but sealing differs.
const SEGMENT: (&str, &str) = ("LOG__SEGMENT", "8MiB");
/// Segment files stay what they are.
const NEVER: [(&str, &str); 3] = [SEGMENT, ("SEAL__AFTER", "1000h"), ("SEAL__BACKLOG", "1TiB")];
/// Segment files are sealed as soon as they are finished.
const ALWAYS: [(&str, &str); 3] = [SEGMENT, ("SEAL__AFTER", "1s"), ("SEAL__BACKLOG", "1MiB")];

/// Finds the greatest rate of ingestion by a closed loop, and compares the acks at half of it with and without sealing.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Connections.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    connections: usize,

    /// Events in a batch.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    batch: usize,

    /// How long the closed loop and each phase are.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    phase: Duration,

    /// How often each of the two phases is measured, in turns.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = positive)]
    rounds: usize,

    #[command(flatten)]
    pub(super) output: Output,
}

/// The acks of all rounds, and their median.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    connections: usize,
    /// By a closed loop, without sealing.
    greatest_events_per_s: f64,
    /// What was to be sent after that.
    offered_events_per_s: f64,
    without_sealing: Vec<Phase>,
    with_sealing: Vec<Phase>,
    /// Of the medians.
    p50_ratio: f64,
    p99_ratio: f64,
}

/// A server of its own, that takes what is offered.
#[derive(Debug, Clone, Copy, Serialize)]
struct Phase {
    events_per_s: f64,
    ack_p50_ms: f64,
    ack_p99_ms: f64,
    /// Of its events, how many were sealed when it was over.
    sealed: f64,
    server_cores: f64,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:.1} ms, p99 {:.1} ms at {:.0} events/s; {:.0} % sealed, {:.2} cores",
            self.ack_p50_ms,
            self.ack_p99_ms,
            self.events_per_s,
            self.sealed * 100.0,
            self.server_cores
        )
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "closed loop            {:.0} events/s", self.greatest_events_per_s)?;
        writeln!(f, "offered                {:.0} events/s", self.offered_events_per_s)?;
        for (without, with) in self.without_sealing.iter().zip(&self.with_sealing) {
            writeln!(f, "acks without sealing   {without}")?;
            writeln!(f, "acks with sealing      {with}")?;
        }
        writeln!(f, "ratio of the medians   p50 {:.2}, p99 {:.2}", self.p50_ratio, self.p99_ratio)
    }
}

pub(crate) async fn run(options: &Options) -> Result<Figures> {
    let greatest = greatest(options).await?;
    let offered = greatest / 2.0;
    let (mut without_sealing, mut with_sealing) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        without_sealing.push(phase(options, offered, &NEVER).await?);
        with_sealing.push(phase(options, offered, &ALWAYS).await?);
    }
    ensure!(with_sealing.iter().all(|phase| phase.sealed > 0.0), "nothing was sealed");
    let ratio = |of: fn(&Phase) -> f64| median(&with_sealing, of) / median(&without_sealing, of);
    let (p50_ratio, p99_ratio) = (ratio(|phase| phase.ack_p50_ms), ratio(|phase| phase.ack_p99_ms));
    Ok(Figures {
        connections: options.connections,
        greatest_events_per_s: greatest,
        offered_events_per_s: offered,
        without_sealing,
        with_sealing,
        p50_ratio,
        p99_ratio,
    })
}

/// Events a second that a server takes when every connection sends as fast as acks come back.
async fn greatest(options: &Options) -> Result<f64> {
    let mut server = TestServer::start_with(options.output.dir(), &NEVER)?;
    let target = target(options, &server)?;
    let figures = closed_loop::run(&target, options.connections, options.phase, Some(&server)).await?;
    server.stop()?;
    Ok(figures.events_per_s)
}

async fn phase(options: &Options, offered: f64, settings: &[(&str, &str)]) -> Result<Phase> {
    let mut server = TestServer::start_with(options.output.dir(), settings)?;
    let target = target(options, &server)?;
    let every = Duration::from_secs_f64((options.connections * options.batch) as f64 / offered);
    let figures = fleet::run(&target, options.connections, every, options.phase, Some(&server)).await?;
    // What is sealed now was sealed while it was measured.
    let sealed = sealed_events(&server)?;
    server.stop()?;
    crate::verify(&server, figures.events)?;
    print!("{}", target.disconnects);
    Ok(Phase {
        events_per_s: figures.events_per_s,
        ack_p50_ms: figures.ack_p50_ms,
        ack_p99_ms: figures.ack_p99_ms,
        sealed: sealed as f64 / figures.events as f64,
        server_cores: figures.server_cpu_s.unwrap_or_default() / figures.seconds,
    })
}

fn target(options: &Options, server: &TestServer) -> Result<Target> {
    let (identity, disconnects) = (Identity::load(server.identity())?, Disconnects::default());
    Ok(Target { server: server.address().to_string(), identity, batch: options.batch, disconnects })
}

fn sealed_events(server: &TestServer) -> Result<u64> {
    let log = LogReader::open(Arc::new(RealDisk), &server.path("data"))?;
    Ok(log.sealed().map(|(_, child)| child.rows).sum())
}

fn median(phases: &[Phase], of: fn(&Phase) -> f64) -> f64 {
    let mut figures: Vec<f64> = phases.iter().map(of).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
