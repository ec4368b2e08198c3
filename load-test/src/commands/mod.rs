//! The subcommands: each makes one figure, quotes it beside a calm phase of the same run, and proves by a replay of the
//! log that nothing acked was lost or stored twice.

mod fair;
mod mixed;
mod outage;
mod recovery;
mod restart;
mod sealing;
mod wake;
mod wire;

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;
use icecore_load::network::{self, Direction, Volume};
use serde::Serialize;
use tokio::time::sleep;

/// A path on which nothing has passed for this long has nothing more to say: longer than QUIC holds an acknowledgement
/// back and probes, shorter than a keep-alive takes to come.
const QUIET: Duration = Duration::from_millis(700);
/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Fair(fair::Options),
    Mixed(mixed::Options),
    Outage(outage::Options),
    Recovery(recovery::Options),
    Restart(restart::Options),
    Sealing(sealing::Options),
    Wake(wake::Options),
    Wire(wire::Options),
}

/// Where a figure's server works and its result goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Output {
    /// Writes the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Where the temporary server keeps its data: choose the disk to be measured.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Output {
    fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Prints the figures and writes them where they are asked for.
    fn give(&self, figures: &(impl Display + Serialize)) -> Result<()> {
        print!("{figures}");
        self.json.as_deref().map_or(Ok(()), |path| write_json(path, figures))
    }
}

/// Runs a subcommand to its end.
///
/// # Errors
/// When something fails that must not, or a promise was not kept.
pub(crate) async fn run(command: &Command) -> Result<()> {
    match command {
        Command::Fair(options) => options.output.give(&fair::run(options).await?),
        Command::Mixed(options) => {
            let figures = mixed::run(options).await?;
            options.output.give(&figures)?;
            figures.check()
        }
        Command::Outage(options) => options.output.give(&outage::run(options).await?),
        Command::Recovery(options) => options.output.give(&recovery::run(options).await?),
        Command::Restart(options) => options.output.give(&restart::run(options).await?),
        Command::Sealing(options) => options.output.give(&sealing::run(options).await?),
        Command::Wake(options) => options.output.give(&wake::run(options).await?),
        Command::Wire(options) => options.output.give(&wire::run(options).await?),
    }
}

/// Writes figures to a file.
///
/// # Errors
/// When that cannot be written.
pub(crate) fn write_json(path: &Path, figures: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(figures)?;
    fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))
}

/// Waits until nothing has passed for a while; returns what has so far, up and down.
async fn quiet(path: &network::Path) -> [Volume; 2] {
    let sent = || [Direction::Up, Direction::Down].map(|direction| path.traffic(direction).sent);
    let mut last = sent();
    loop {
        sleep(QUIET).await;
        let now = sent();
        if now == last {
            return now;
        }
        last = now;
    }
}
