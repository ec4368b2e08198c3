//! `recovery`: the server is killed with many events that no snapshot has, and started again. When is it ready?

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use icecore_device::Identity;
use icecore_load::server::TestServer;
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::Output;
use crate::closed_loop;
use crate::connection::Target;
use crate::disconnects::Disconnects;
use crate::options::positive;
use crate::verify;

/// Sends events as fast as they are acked, kills the server with SIGKILL, and takes the time from its start until it listens, which it
/// does when its state is whole.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Events behind the last snapshot, at least.
    #[arg(long, value_name = "N", default_value_t = 20_000_000, value_parser = positive)]
    events: usize,

    /// Connections that send them.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    connections: usize,

    /// Events in a batch.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    batch: usize,

    /// How often the server is killed and started.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = positive)]
    rounds: usize,

    #[command(flatten)]
    pub(super) output: Output,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Events behind the last snapshot, each of them found in the log afterwards.
    events: u64,
    /// From the start of the process until it listened, in each round.
    ready_ms: Vec<f64>,
    /// The median of them, for a million events.
    ms_per_million: f64,
    /// The same of a server whose last snapshot has everything.
    ready_without_a_tail_ms: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds: Vec<String> = self.ready_ms.iter().map(|ms| format!("{ms:.0}")).collect();
        writeln!(f, "events behind the last snapshot  {}", self.events)?;
        writeln!(f, "ready after SIGKILL              {} ms", rounds.join(", "))?;
        writeln!(f, "for a million events             {:.0} ms", self.ms_per_million)?;
        writeln!(f, "ready without a tail             {:.0} ms", self.ready_without_a_tail_ms)
    }
}

pub(crate) async fn run(options: &Options) -> Result<Figures> {
    // No snapshot comes between, and nothing is sealed.
    let never =
        [("SNAPSHOT__EVERY_EVENTS", "1000000000000"), ("SNAPSHOT__EVERY", "30d"), ("SEAL__AFTER", "30d")];
    let mut server = TestServer::start_with(options.output.dir(), &never)?;
    let (mut events, mut ready) = (0, Vec::new());
    while events < options.events as u64 {
        let target = Target {
            server: server.address().to_string(),
            identity: Identity::load(server.identity())?,
            batch: options.batch,
            disconnects: Disconnects::default(),
        };
        let sent =
            closed_loop::run(&target, options.connections, Duration::from_secs(2), Some(&server)).await?;
        events += sent.events;
        println!("{events} events are acked");
    }
    for _ in 0..options.rounds {
        server.kill()?;
        let took;
        (server, took) = start(server).await?;
        ready.push(took);
    }
    server.stop()?;
    verify(&server, events)?;
    let without;
    (server, without) = start(server).await?;
    server.stop()?;
    let ms = |time: &Duration| time.as_secs_f64() * 1_000.0;
    let ready_ms: Vec<f64> = ready.iter().map(ms).collect();
    ready.sort_unstable();
    Ok(Figures {
        events,
        ready_ms,
        ms_per_million: ms(&ready[ready.len() / 2]) * 1e6 / events as f64,
        ready_without_a_tail_ms: ms(&without),
    })
}

/// Starts the server again; returns how long it took until it listened.
async fn start(mut server: TestServer) -> Result<(TestServer, Duration)> {
    spawn_blocking(move || {
        let starting = Instant::now();
        server.restart()?;
        Ok((server, starting.elapsed()))
    })
    .await?
}
