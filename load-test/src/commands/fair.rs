//! `fair`: what one device that sends as fast as it can does to the acks of all others.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use icecore_device::{Gateway, Identity};
use icecore_load::server::TestServer;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Output;
use crate::crew::{self, Crew, Member};
use crate::fleet::{Pace, events_per_batch};
use crate::options::{duration, positive};
use crate::spread::Spread;

/// Compares the acks of devices at their usual rate while they are among themselves and while one more device sends as
/// fast as it can.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Devices at their usual rate.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    devices: usize,

    /// Events per second and device.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    rate: usize,

    /// How often a device cuts a batch.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    batch_every: Duration,

    /// How long each of the two phases is.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    phase: Duration,

    /// All devices, the greedy one included, share one gateway's connection; otherwise each has its own.
    #[arg(long)]
    behind_gateway: bool,

    #[command(flatten)]
    pub(super) output: Output,
}

/// Acks of the devices at their usual rate, from cut to ack.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    devices: usize,
    behind_gateway: bool,
    /// Before the greedy device came.
    calm: Spread,
    /// While it sent.
    beside_greed: Spread,
    p50_ratio: f64,
    p99_ratio: f64,
    /// What the greedy device got through.
    greedy_events_per_s: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.behind_gateway { "behind one gateway" } else { "a connection each" };
        writeln!(f, "devices                {}, {way}", self.devices)?;
        writeln!(f, "acks, calm             {}", self.calm)?;
        writeln!(f, "acks, beside a greedy  {}", self.beside_greed)?;
        writeln!(f, "ratio                  p50 {:.2}, p99 {:.2}", self.p50_ratio, self.p99_ratio)?;
        writeln!(f, "the greedy device got  {:.0} events/s", self.greedy_events_per_s)
    }
}

pub(crate) async fn run(options: &Options) -> Result<Figures> {
    let mut server = TestServer::start(options.output.dir())?;
    let rows = events_per_batch(options.rate, options.batch_every)?;
    let address = server.address().to_string();
    let crew = Crew::new(&address, Identity::load(server.identity())?, rows);
    let gateway = options.behind_gateway.then(|| Gateway::connect(crew.config.clone())).transpose()?;
    let members = match &gateway {
        None => crew.connect_all(0..options.devices, &address).await?,
        Some(gateway) => {
            let mut members = Vec::new();
            for number in 0..options.devices {
                members.push(crew.behind(gateway, number).await?);
            }
            members
        }
    };
    println!("{} devices are connected", members.len());

    let (begin, until) = (tokio::time::Instant::now(), options.phase * 2);
    let mut senders = JoinSet::new();
    for (number, member) in members.iter().cloned().enumerate() {
        let pace = Pace::of(number, members.len(), begin, options.batch_every, until);
        senders.spawn(async move { member.stream(pace).await });
    }
    sleep(options.phase).await;
    let greed = Instant::now();
    let end = begin + until;
    let greedy = greedy_events(&crew, gateway.as_ref(), options.devices, end).await?;
    let greed = greed..end.into_std();
    senders.join_all().await.into_iter().collect::<Result<()>>()?;
    crew::flush_all(&members).await?;

    let calm = Spread::of(crew::latencies(&members, &(begin.into_std()..greed.start)));
    let beside_greed = Spread::of(crew::latencies(&members, &greed));
    crew::close_all(members).await?;
    crew.prove(&mut server)?;
    Ok(Figures {
        devices: options.devices,
        behind_gateway: options.behind_gateway,
        calm,
        beside_greed,
        p50_ratio: beside_greed.p50_ms / calm.p50_ms,
        p99_ratio: beside_greed.p99_over(&calm),
        greedy_events_per_s: greedy as f64 / options.phase.as_secs_f64(),
    })
}

/// Lets device `number` send as fast as it can until `end`; returns how many events it got through.
///
/// With a connection of its own it has a thread of its own as well: the others' acks are not to wait for this program.
async fn greedy_events(
    crew: &Crew,
    gateway: Option<&Gateway>,
    number: usize,
    end: tokio::time::Instant,
) -> Result<u64> {
    if let Some(gateway) = gateway {
        let member = crew.behind(gateway, number).await?;
        return flood(member, crew.rows, end).await;
    }
    let crew = crew.clone();
    let alone = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let member = crew.connect(number, None).await?;
            let events = flood(member.clone(), crew.rows, end).await?;
            member.close().await?;
            Ok(events)
        })
    };
    let thread = thread::Builder::new().name("greedy".to_owned()).spawn(alone)?;
    tokio::task::spawn_blocking(move || thread.join().map_err(|_| anyhow!("the greedy device panicked"))?)
        .await?
}

async fn flood(member: Member, rows: usize, end: tokio::time::Instant) -> Result<u64> {
    member.flood(end).await?;
    let acked = member.batches().iter().filter(|batch| batch.acked.is_some()).count();
    Ok((acked * rows) as u64)
}
