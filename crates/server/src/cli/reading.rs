//! The commands that read what is stored: replay, state, export.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use icecore_log::OnDamage;
use icecore_replay::{Comparison, EventTimes, Query};
use icecore_wire::{DeviceName, Glob};

use super::{parse_address, parse_label, parse_positive, parse_time};
use crate::instant;

#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Data directory; without it the one of the configuration file.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Read what is archived in this store instead, `s3://bucket/prefix` or `file:///directory`; neither a server nor a data directory
    /// is needed.
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    pub(crate) store: Option<String>,

    /// An option of the store's client, `region=eu-north-1` (repeatable).
    #[arg(long = "store-option", value_name = "KEY=VALUE", value_parser = parse_label, requires = "store")]
    pub(crate) store_options: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,

    /// Schema files that say how older versions read as newer ones, instead of those of the configuration.
    #[arg(long, value_name = "DIR")]
    pub(crate) schemas: Option<PathBuf>,
}

/// Which events are asked for, and what to do where they cannot be read.
#[derive(Debug, Args)]
pub(crate) struct SelectionArgs {
    /// Only devices matching this glob; `*` crosses `/`.
    #[arg(long, value_name = "GLOB", default_value = "*")]
    device: Glob,

    /// Only schemas whose name matches this glob.
    #[arg(long, value_name = "GLOB", default_value = "*")]
    schema: Glob,

    /// Event times from this on: RFC 3339, integer nanoseconds, or relative such as `-2h`.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    from: Option<i64>,

    /// Event times before this.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    to: Option<i64>,

    /// Read around damaged parts of the log, and around segments that are missing or whose store does not answer, instead of
    /// ending at the first; they are listed on standard error, and an export does not add them later.
    #[arg(long)]
    skip_damaged: bool,

    /// Fail, after the events that are there, if not everything that was asked for is: what did not arrive, was dropped,
    /// refused, deleted, damaged or cannot be reached is named in any case.
    #[arg(long)]
    pub(crate) require_complete: bool,
}

impl SelectionArgs {
    /// These events, in the order of the log.
    pub(crate) fn query(&self) -> Query {
        Query {
            devices: self.device.clone(),
            schemas: self.schema.clone(),
            times: EventTimes { from: self.from, to: self.to },
            on_damage: if self.skip_damaged { OnDamage::Skip } else { OnDamage::Fail },
            ..Query::default()
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,

    #[command(flatten)]
    pub(crate) selection: SelectionArgs,

    /// Only what was received by then: what was known at that time. Forms are those of `--from`.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    pub(crate) known_at: Option<i64>,

    /// `log`: as received; `time`: by event time; `device`: by device, epoch and sequence; `stored`: as it lies, which is fastest and
    /// for `arrow` and `parquet` only (with others it is `log`).
    #[arg(long, value_enum, default_value_t = ReplayOrder::Log)]
    pub(crate) order: ReplayOrder,

    /// `csv`: one schema, one column per field; `ndjson`: every attribute of every event; `arrow`: one schema, an Arrow IPC stream;
    /// `parquet`: one schema, one file; `count`: validate every batch and print how many there are, as JSON.
    #[arg(long, value_enum, default_value_t = ReplayFormat::Csv)]
    pub(crate) format: ReplayFormat,

    /// Where to: a file, which is there when it is whole, or `-` for standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(crate) out: PathBuf,

    /// Only these columns, in this order; others are not read (`arrow`, `parquet`).
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    pub(crate) columns: Option<Vec<String>>,

    /// Only events for which this holds, a field compared with a number: `temp>=30` (repeatable; `arrow`, `parquet`).
    #[arg(long = "where", value_name = "COMPARISON")]
    pub(crate) comparisons: Vec<Comparison>,

    /// Write events at this multiple of the speed at which they happened (`--order time`) or were received (`--order log`), such as `10x`
    /// (`csv`, `ndjson`).
    #[arg(long, value_name = "Nx", value_parser = parse_speed)]
    pub(crate) speed: Option<f64>,

    /// Events of the version that they were written in, instead of the newest.
    #[arg(long)]
    pub(crate) as_written: bool,

    /// Stream the events into this server instead, as the devices had sent them: batches with their devices, epochs and sequences, in log
    /// order and whole. What is there already is not added again.
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_parser = parse_address,
        requires = "identity",
        conflicts_with_all = ["format", "order", "out", "columns", "comparisons"],
    )]
    pub(crate) into: Option<String>,

    /// Directory of the gateway identity for `--into`, as `device enroll --gateway-for` wrote it there.
    #[arg(long, value_name = "DIR", requires = "into")]
    pub(crate) identity: Option<PathBuf>,

    /// How long to wait for a server that is away, with `--into`.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = instant::parse_duration)]
    pub(crate) wait: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReplayOrder {
    Log,
    Time,
    Device,
    Stored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReplayFormat {
    Csv,
    Ndjson,
    Arrow,
    Parquet,
    Count,
}

#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    /// Name of the device.
    #[arg(required_unless_present = "all")]
    pub(crate) device: Option<DeviceName>,

    /// Every device instead, in one line each.
    #[arg(long, conflicts_with = "device")]
    pub(crate) all: bool,

    /// Only events that happened by this time, by the device's clock: RFC 3339, integer nanoseconds, or relative such as `-2h`.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    pub(crate) at: Option<i64>,

    /// Only what was received by this time, by the server's clock.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    pub(crate) known_at: Option<i64>,

    /// Print JSON, as the API answers; of every device, one object a line.
    #[arg(long)]
    pub(crate) json: bool,

    /// Say how it was made: the snapshot used, the segments and blocks read.
    #[arg(long)]
    pub(crate) explain: bool,

    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,

    #[command(flatten)]
    pub(crate) selection: SelectionArgs,

    /// What the files are told apart by: the date of the event time in UTC, and perhaps the device.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "date")]
    pub(crate) partition_by: Vec<PartitionBy>,

    /// Directory for the files; it is made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PartitionBy {
    Date,
    Device,
}

fn parse_speed(text: &str) -> Result<f64, String> {
    parse_positive(text.strip_suffix('x').unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    #[test]
    fn relative_times_are_not_taken_for_flags() {
        let cli = Cli::try_parse_from(["icecore", "replay", "--from", "-2h", "--to", "-1h"]).unwrap();
        let Command::Replay(args) = cli.command else { panic!("replay is asked for") };
        let times = args.selection.query().times;
        assert!(times.from.is_some_and(|from| times.to.is_some_and(|to| from < to)));
    }
}
