//! `outage`: nothing of some devices arrives for a while. Does what is new come through ahead of what has piled up?

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use icecore_device::Identity;
use icecore_load::network::{Bottleneck, Conditions, Network};
use icecore_load::server::TestServer;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Output;
use crate::crew::{self, Crew, Member};
use crate::fleet::{Pace, events_per_batch, raise_open_files_limit};
use crate::options::{duration, positive};
use crate::spread::Spread;

/// The queue ahead of the bottleneck holds what passes in a fifth of a second.
const QUEUE_PER_S: u64 = 5;
/// And this many bytes at least: the first flights of a few handshakes.
const MIN_QUEUE: u64 = 32 << 10;

/// Cuts some devices off for a while under load, and takes the time until their first ack of something that was recorded
/// after the outage, the share of their backlog that was through by then, and what the others noticed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Devices that the outage hits.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = positive)]
    affected: usize,

    /// Devices that it does not.
    #[arg(long, value_name = "N", default_value_t = 80, value_parser = positive)]
    unaffected: usize,

    /// Events per second and device.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = positive)]
    rate: usize,

    /// How often a device cuts a batch.
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = duration)]
    batch_every: Duration,

    /// How long nothing arrives.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    outage: Duration,

    /// How long all send before the outage, and again after it.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    calm: Duration,

    /// How long a datagram is under way, one way.
    #[arg(long, value_name = "DURATION", default_value = "10ms", value_parser = duration)]
    delay: Duration,

    /// Bytes a second that the way of the affected carries, headers included: what has piled up needs its time.
    #[arg(long, value_name = "N", default_value_t = 500_000, value_parser = positive)]
    bandwidth: usize,

    #[command(flatten)]
    pub(super) output: Output,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    affected: usize,
    unaffected: usize,
    outage_s: f64,
    /// Batches of the affected that had piled up when the outage ended.
    backlog_batches: usize,
    /// From the end of the outage to each affected device's first ack of a batch that was cut after it.
    first_live_ack: Spread,
    /// From the end of the outage until each affected device's backlog was through.
    backlog_through: Spread,
    /// The largest share of a device's backlog that was acked before its first live batch was.
    most_backlog_ahead: f64,
    /// Acks of the unaffected, from cut to ack.
    before: Spread,
    during: Spread,
    after: Spread,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "devices                {} cut off for {:.0} s, {} not",
            self.affected, self.outage_s, self.unaffected
        )?;
        writeln!(f, "backlog                {} batches", self.backlog_batches)?;
        writeln!(f, "first live ack         {}", self.first_live_ack)?;
        writeln!(f, "backlog through        {}", self.backlog_through)?;
        writeln!(f, "backlog ahead of live  {:.1} % at most", self.most_backlog_ahead * 100.0)?;
        writeln!(f, "the others, before     {}", self.before)?;
        writeln!(f, "the others, during     {}", self.during)?;
        writeln!(f, "the others, after      {}", self.after)?;
        let (during, after) = (self.during.p99_over(&self.before), self.after.p99_over(&self.before));
        writeln!(f, "their p99 over before  {during:.2} during, {after:.2} after")
    }
}

pub(crate) async fn run(options: &Options) -> Result<Figures> {
    raise_open_files_limit()?;
    let mut server = TestServer::start(options.output.dir())?;
    let rows = events_per_batch(options.rate, options.batch_every)?;
    let identity = Identity::load(server.identity())?;
    let network = Network::start(1)?;
    let (cut, whole) = (network.path(server.address())?, network.path(server.address())?);
    let far = Conditions { delay: options.delay, ..Conditions::default() };
    let bytes_per_s = options.bandwidth as u64;
    let bottleneck = Bottleneck { bytes_per_s, queue_bytes: (bytes_per_s / QUEUE_PER_S).max(MIN_QUEUE) };
    whole.set(far);
    cut.set(Conditions { bottleneck: Some(bottleneck), ..far });
    let crew = Crew::new(cut.address().to_string(), identity.clone(), rows);
    let others = crew.by(whole.address().to_string(), identity);
    let total = options.affected + options.unaffected;
    let affected = crew.connect_apart(0..options.affected).await?;
    let unaffected = others.connect_apart(options.affected..total).await?;
    println!("{total} devices are connected");

    let begin = tokio::time::Instant::now();
    let mut senders = JoinSet::new();
    let duration = options.calm * 2 + options.outage;
    for (number, member) in affected.iter().chain(&unaffected).cloned().enumerate() {
        let pace = Pace::of(number, total, begin, options.batch_every, duration);
        senders.spawn(async move { member.stream(pace).await });
    }
    sleep(options.calm).await;
    let outage_begin = Instant::now();
    cut.cut(None);
    sleep(options.outage).await;
    cut.restore();
    let outage_end = Instant::now();
    senders.join_all().await.into_iter().collect::<Result<()>>()?;
    let end = Instant::now();
    crew::flush_all(&affected).await?;
    crew::flush_all(&unaffected).await?;

    let returns = affected.iter().map(|member| Return::of(member, outage_end)).collect::<Result<Vec<_>>>()?;
    let others = |from: Instant, to: Instant| Spread::of(crew::latencies(&unaffected, &(from..to)));
    let figures = Figures {
        affected: options.affected,
        unaffected: options.unaffected,
        outage_s: options.outage.as_secs_f64(),
        backlog_batches: returns.iter().map(|of| of.backlog).sum(),
        first_live_ack: Spread::of(returns.iter().map(|of| of.first_live_ack)),
        backlog_through: Spread::of(returns.iter().map(|of| of.backlog_through)),
        most_backlog_ahead: returns.iter().map(Return::share_ahead).fold(0.0, f64::max),
        before: others(begin.into_std(), outage_begin),
        during: others(outage_begin, outage_end),
        after: others(outage_end, end),
    };
    crew::close_all(affected.into_iter().chain(unaffected).collect()).await?;
    crew.prove(&mut server)?;
    Ok(figures)
}

/// How a device came back.
#[derive(Debug)]
struct Return {
    /// Batches that were cut and not acked when the outage ended.
    backlog: usize,
    /// How many of them were acked before the first that was cut after it.
    ahead: usize,
    first_live_ack: Duration,
    backlog_through: Duration,
}

impl Return {
    fn of(member: &Member, outage_end: Instant) -> Result<Self> {
        let batches = member.batches();
        let name = member.device.name();
        let live =
            batches.iter().filter(|batch| batch.cut >= outage_end).filter_map(|batch| batch.acked).min();
        let live = live.with_context(|| format!("{name} has had no ack after the outage"))?;
        let waiting =
            |batch: &crew::Batch| batch.cut < outage_end && batch.acked.is_none_or(|at| at >= outage_end);
        let backlog = batches.iter().copied().filter(waiting).collect::<Vec<_>>();
        let acked = backlog.iter().filter_map(|batch| batch.acked).collect::<Vec<_>>();
        ensure!(acked.len() == backlog.len(), "{name} has had no ack of some of its backlog");
        Ok(Self {
            backlog: backlog.len(),
            ahead: acked.iter().filter(|at| **at < live).count(),
            first_live_ack: live - outage_end,
            backlog_through: acked.iter().max().map_or(Duration::ZERO, |last| *last - outage_end),
        })
    }

    fn share_ahead(&self) -> f64 {
        self.ahead as f64 / self.backlog.max(1) as f64
    }
}
