//! `icecore demo`: the whole product in one command, with a proof at the end.
//!
//! It makes certificates, starts a server process, streams a fleet into it, kills the server with SIGKILL in the middle,
//! starts it again, and then proves from the log that every acknowledged batch is there exactly once.

mod acked;
mod fleet;
mod machine;
mod proof;
mod screen;
mod stage;
mod tally;
mod weather;

use std::env;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use icecore_log::{LogReader, RealDisk, Scan};
use tokio::time::{Instant, interval_at};

use self::acked::Acked;
use self::fleet::Fleet;
use self::proof::Proof;
use self::screen::{Moment, Screen};
use self::stage::Stage;
use self::tally::Tally;
use crate::instant;
use crate::table::count;

/// What `icecore demo` may be told; everything has a default.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How long the fleet streams, in seconds.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(4..))]
    pub(crate) seconds: u64,

    /// Directory for certificates, data and the server's log; new or empty. A temporary one without it.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Before the proof, wait for a line on standard input: time to tamper with the log and see the proof fail.
    #[arg(long)]
    pub(crate) pause: bool,
}

/// Runs the demonstration; succeeds only if the proof holds.
pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    let stage = Stage::set_up(args.dir.as_deref())?;
    let duration = Duration::from_secs(args.seconds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let acked = runtime.block_on(perform(&stage, duration))?;
    drop(runtime);
    if args.pause {
        println!("paused before the proof: {} is yours; press Enter to go on", stage.data().display());
        io::stdin().read_line(&mut String::new())?;
    }
    prove(&stage, &acked)?;
    suggest(&stage)
}

/// Streams the fleet for `duration`, killing the server in the middle; returns what was acked.
async fn perform(stage: &Stage, duration: Duration) -> Result<Acked> {
    let mut screen = Screen::new(duration);
    let mut server = stage.launch_server()?;
    server.wait_until_ready()?;
    screen.say(&format!("Icecore demo in {}", stage.directory().display()));
    screen.say(&format!("server: process {}, QUIC with certificates on {}", server.pid(), stage.address()));
    let tally = Tally::default();
    let begin = Instant::now();
    let mut fleet = Fleet::start(stage, &tally, begin + duration)?;
    screen.say(&format!("fleet: {}", fleet::DESCRIPTION));

    let mut kill_due = Some(begin + duration / 2);
    let mut progress = Progress { begin, last: begin, acked: 0 };
    let mut ticks = interval_at(begin + screen.interval(), screen.interval());
    while begin.elapsed() < duration {
        ticks.tick().await;
        fleet.check()?;
        server.check()?;
        if kill_due.take_if(|due| Instant::now() >= *due).is_some() {
            let pid = server.pid();
            tally.counts().killed = Some(Instant::now());
            server.kill()?;
            server = stage.launch_server()?;
            screen.say(&format!("SIGKILL to process {pid}; started again as process {}", server.pid()));
        }
        screen.show(&progress.moment(&tally, server.pid()));
    }
    fleet.finish().await?;
    screen.clear();
    server.stop()?;
    let mut counts = tally.counts();
    if let Some(outage) = counts.outage {
        println!("from SIGKILL to the first new ack: {:.2} s", outage.as_secs_f64());
    }
    Ok(std::mem::take(&mut counts.acked))
}

/// What the last moment was, for rates.
struct Progress {
    begin: Instant,
    last: Instant,
    acked: u64,
}

impl Progress {
    /// How things stand now.
    fn moment(&mut self, tally: &Tally, pid: u32) -> Moment {
        let mut counts = tally.counts();
        let (now, acked) = (Instant::now(), counts.acked.events());
        let rate = (acked - self.acked) as f64 / (now - self.last).as_secs_f64();
        (self.last, self.acked) = (now, acked);
        let server = match (counts.killed, counts.outage) {
            (None, _) => format!("process {pid}"),
            (Some(_), None) => format!("killed with SIGKILL; process {pid} recovers"),
            (Some(_), Some(outage)) => {
                format!("process {pid}, first new ack {:.2} s after SIGKILL", outage.as_secs_f64())
            }
        };
        Moment {
            elapsed: now - self.begin,
            acked,
            rate,
            latency: counts.take_latencies(),
            readings: counts.readings,
            day: day(counts.weather_time),
            server,
        }
    }
}

/// Compares the log with what was acked, batch by batch, and prints the verdict.
fn prove(stage: &Stage, acked: &Acked) -> Result<()> {
    println!("acked:  {} batches with {} events", count(acked.batches()), count(acked.events()));
    let log = LogReader::open(Arc::new(RealDisk), stage.data())?;
    let proof = Proof::of(log.scan(Scan::default()), log.sealed_to(), acked)?;
    println!("stored: {} batches with {} events", count(proof.stored_batches), count(proof.stored_events));
    if proof.holds() {
        println!(
            "proof:  every acked batch is in the log exactly once, byte for byte; no repetition, no hole"
        );
        return Ok(());
    }
    for broken in proof.examples() {
        println!("  {broken}");
    }
    bail!("the proof does not hold: {} broken promises", count(proof.broken()))
}

/// Prints commands to go on with.
fn suggest(stage: &Stage) -> Result<()> {
    let program = env::current_exe()?;
    let here = env::current_dir()?;
    let icecore = format!(
        "{} --config {}",
        program.strip_prefix(here).unwrap_or(&program).display(),
        stage.config_file().display()
    );
    println!("\nGo on with that directory:");
    println!("  {icecore} device list");
    println!("  {icecore} device gaps turbine-1");
    println!("  {icecore} replay --device weather/JFK --from 2013-07-04T00:00:00Z --to 2013-07-05T00:00:00Z");
    println!("  {icecore} replay --schema press --format ndjson | head");
    println!("  {icecore} serve");
    println!("  rm -r {}", stage.directory().display());
    Ok(())
}

/// The date of `time`, in nanoseconds since the Unix epoch.
fn day(time: i64) -> String {
    let instant = instant::display_seconds(time);
    instant.split_once('T').map_or(instant.as_str(), |(date, _)| date).to_owned()
}
