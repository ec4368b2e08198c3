//! `restart`: the server is killed under a fleet and started again. When do acks come back?

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use icecore_device::Identity;
use icecore_load::server::TestServer;
use serde::Serialize;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use super::Output;
use crate::crew::{self, Crew, Member};
use crate::fleet::{Pace, events_per_batch};
use crate::options::{duration, positive};
use crate::spread::Spread;

/// Kills the server with SIGKILL under a fleet of connections, starts it again, and takes the time from the moment it
/// listens until the first new ack, and until every device has had one.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Devices, each with a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = positive)]
    devices: usize,

    /// Events per second and device.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    rate: usize,

    /// How often a device cuts a batch.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    batch_every: Duration,

    /// How long the fleet sends before, and again after the server has come back.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    calm: Duration,

    /// How long the server is away.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    down: Duration,

    #[command(flatten)]
    pub(super) output: Output,
}

/// What was measured; times are in milliseconds from the moment the server listened again.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    devices: usize,
    down_s: f64,
    /// From the start of the process until it listened.
    start_ms: f64,
    first_new_ack_ms: f64,
    /// Each device's first new ack.
    new_acks: Spread,
    /// Acks of batches that were cut before the kill, and a while after the return.
    calm: Spread,
    after: Spread,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "connections            {}", self.devices)?;
        writeln!(f, "away                   {:.1} s, then {:.0} ms to start", self.down_s, self.start_ms)?;
        writeln!(f, "first new ack          {:.0} ms after the server listened", self.first_new_ack_ms)?;
        writeln!(f, "each device's          {}", self.new_acks)?;
        writeln!(f, "acks before            {}", self.calm)?;
        writeln!(f, "acks at the end        {}", self.after)?;
        writeln!(f, "p99 at the end/before  {:.2}", self.after.p99_over(&self.calm))
    }
}

pub(crate) async fn run(options: &Options) -> Result<Figures> {
    let mut server = TestServer::start(options.output.dir())?;
    let rows = events_per_batch(options.rate, options.batch_every)?;
    let address = server.address().to_string();
    let crew = Crew::new(&address, Identity::load(server.identity())?, rows);
    let members = crew.connect_all(0..options.devices, &address).await?;
    println!("{} devices are connected", members.len());

    let sending = options.calm * 2 + options.down;
    let senders = start(&members, options.batch_every, sending);
    let begin = Instant::now();
    sleep(options.calm).await;
    let killed = Instant::now();
    server.kill()?;
    sleep(options.down).await;
    let starting = Instant::now();
    // On a thread of its own: the devices go on trying to connect meanwhile.
    let (mut server, listening) = spawn_blocking(move || {
        server.restart()?;
        anyhow::Ok((server, Instant::now()))
    })
    .await??;
    senders.join_all().await.into_iter().collect::<Result<()>>()?;
    let end = Instant::now();

    let settled = end - options.calm / 2..end;
    let (calm, after) = (crew::latencies(&members, &(begin..killed - rest(options))), settled);
    // The last acks are awaited before the accounts are read.
    crew::flush_all(&members).await?;
    let after = Spread::of(crew::latencies(&members, &after));
    let first = members.iter().map(|member| first_ack(member, listening)).collect::<Result<Vec<_>>>()?;
    let figures = Figures {
        devices: members.len(),
        down_s: options.down.as_secs_f64(),
        start_ms: (listening - starting).as_secs_f64() * 1_000.0,
        first_new_ack_ms: first.iter().min().context("no devices")?.as_secs_f64() * 1_000.0,
        new_acks: Spread::of(first),
        calm: Spread::of(calm),
        after,
    };
    crew::close_all(members).await?;
    crew.prove(&mut server)?;
    Ok(figures)
}

/// What is cut this shortly before the kill may not be acked before it.
fn rest(options: &Options) -> Duration {
    Duration::from_millis(500).min(options.calm / 4)
}

/// Sets all members sending.
fn start(members: &[Member], every: Duration, duration: Duration) -> JoinSet<Result<()>> {
    let begin = tokio::time::Instant::now();
    let mut senders = JoinSet::new();
    for (number, member) in members.iter().cloned().enumerate() {
        let pace = Pace::of(number, members.len(), begin, every, duration);
        senders.spawn(async move { member.stream(pace).await });
    }
    senders
}

/// From `listening` to the first ack after it.
fn first_ack(member: &Member, listening: Instant) -> Result<Duration> {
    let acks = member.batches().into_iter().filter_map(|batch| batch.acked);
    let first = acks.filter(|acked| *acked >= listening).min();
    Ok(first.with_context(|| format!("{} has had no new ack", member.device.name()))? - listening)
}
