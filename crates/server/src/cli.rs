//! The command line. Values are parsed into domain types here, so that no command sees a raw flag.

mod reading;
mod sql;
mod tiers;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use icecore_replay::{InvalidInstant, parse_instant};
use icecore_wire::DeviceName;

use crate::demo::DemoArgs;
use crate::instant;
pub(crate) use reading::{
    ExportArgs, PartitionBy, PlaceArgs, ReplayArgs, ReplayFormat, ReplayOrder, SourceArgs, StateArgs,
};
pub(crate) use sql::{SqlArgs, SqlFormat};
pub(crate) use tiers::{
    AddHoldArgs, ApplyArgs, BootstrapArgs, CatalogCommand, HoldCommand, PlanArgs, RetentionCommand,
    SegmentsCommand, UndeleteArgs, VerifyArgs,
};

/// Durable, replayable telemetry storage for device fleets.
#[derive(Debug, Parser)]
#[command(name = "icecore", version, about)]
pub(crate) struct Cli {
    /// Configuration file; relative paths in it are relative to it.
    #[arg(long, global = true, env = "ICECORE_CONFIG", value_name = "FILE", default_value = "icecore.toml")]
    pub(crate) config: PathBuf,

    /// How log lines are written to standard error; their level is set by ICECORE_LOG (default `info`).
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Human)]
    pub(crate) log_format: LogFormat,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One readable line per message, coloured on a terminal.
    Human,
    /// One JSON object per line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a configuration file, a certificate authority and a server certificate.
    Init(InitArgs),
    /// Run the server.
    Serve(ServeArgs),
    /// Enroll devices and gateways, and look at them.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Stream CSV files as their devices would, through a gateway identity.
    Send(SendArgs),
    /// Read events back in order, with or without a running server.
    Replay(ReplayArgs),
    /// Show what devices looked like: now, as of an event time, as known at a received time.
    State(StateArgs),
    /// Ask the log in SQL, with or without a running server.
    Sql(SqlArgs),
    /// Write events into Hive-partitioned Parquet files, which other tools read as tables; run again, add what is new.
    Export(ExportArgs),
    /// Schemas: their files, and what devices have sent.
    #[command(subcommand)]
    Schemas(SchemasCommand),
    /// Print events as they become durable, from the running server.
    Tail(TailArgs),
    /// Retention policies: what they apply to, what they would do, and which apply.
    #[command(subcommand)]
    Retention(RetentionCommand),
    /// Sealed segments: where they are, and whether they are whole.
    #[command(subcommand)]
    Segments(SegmentsCommand),
    /// Holds: data that is not deleted, whatever the policies say.
    #[command(subcommand)]
    Hold(HoldCommand),
    /// The catalog of sealed segments.
    #[command(subcommand)]
    Catalog(CatalogCommand),
    /// Snapshots of the state of all devices, from which the server starts.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Put configuration, certificates, keys and registry into the store, for the day on which this machine is lost.
    Backup,
    /// Make a lost server anew, from its backup and what else is in its store.
    Bootstrap(BootstrapArgs),
    /// Show what the server is doing and how long its disk will last.
    Status,
    /// See it all work: a server, a fleet, a crash in the middle, and the proof that nothing was lost.
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Directory to create the files in.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// A name or address devices reach this server by (repeatable; the loopback names are always included).
    #[arg(long = "host", value_name = "NAME")]
    pub(crate) hosts: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Start although the log is damaged here, as the error named it: `<file>@<offset>`, or `<file>` for everything
    /// that is lost in that file (repeatable).
    #[arg(long = "accept-damage", value_name = "PLACE")]
    pub(crate) accept_damage: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Issue a certificate and record the enrolment.
    Enroll(EnrollArgs),
    /// Take a device's or gateway's right to connect away; a running server closes its sessions within a second.
    Revoke {
        /// Name of the device or gateway.
        name: DeviceName,
    },
    /// Change a device's labels, which retention policies select by; what was received before keeps those it had.
    Label(LabelArgs),
    /// List enrolled devices and devices with data.
    List {
        /// Only those from which nothing was received for this long, such as `1h` or `7d`.
        #[arg(long, value_name = "DURATION", value_parser = instant::parse_duration)]
        silent_for: Option<Duration>,
    },
    /// Show one device: enrolment, epochs, what is stored.
    Show {
        /// Name of the device or gateway.
        name: DeviceName,
    },
    /// Show which sequences are missing, dropped and refused, per epoch.
    Gaps {
        /// Name of the device.
        name: DeviceName,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// List them, newest first.
    List,
    /// Read all of each, and say which are damaged.
    Verify,
}

#[derive(Debug, Args)]
pub(crate) struct EnrollArgs {
    /// Name of the device or gateway: 1–128 bytes of UTF-8 without control characters.
    pub(crate) name: DeviceName,

    /// A label, `key=value` (repeatable).
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,

    /// Make it a gateway that may write for devices matching this glob; `*` crosses `/` (repeatable).
    #[arg(long = "gateway-for", value_name = "GLOB")]
    pub(crate) gateway_for: Vec<String>,

    /// Sign the key of this certificate signing request (PEM) instead of making one: a key that never leaves the device.
    /// Names in the request do not count.
    #[arg(long, value_name = "FILE")]
    pub(crate) csr: Option<PathBuf>,

    /// How long the certificate is valid, such as `90d`; it is renewed over the session, for as long again, when the device
    /// asks. Without this it outlives the device.
    #[arg(long, value_name = "DURATION", value_parser = instant::parse_duration)]
    pub(crate) valid_for: Option<Duration>,

    /// Directory for the identity: `ca.pem`, `cert.pem` and, without `--csr`, `key.pem`.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct LabelArgs {
    /// Name of the device; it need not be enrolled, since those behind a gateway are not.
    pub(crate) name: DeviceName,

    /// Labels to set, `key=value`; the others stay.
    #[arg(value_name = "KEY=VALUE", value_parser = parse_label, required_unless_present = "remove")]
    pub(crate) labels: Vec<(String, String)>,

    /// A label to take away (repeatable).
    #[arg(long, value_name = "KEY")]
    pub(crate) remove: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// CSV files, plain or gzipped; all must have the same columns.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Name of the schema the rows become events of.
    #[arg(long, value_name = "NAME")]
    pub(crate) schema: String,

    /// Version of the schema; raise it when the columns change.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) schema_version: u32,

    /// JSON file with the types of the columns: {"field": "type"}, or {"file name": {"field": "type"}}.
    /// Types: float, f32, int, u64, bool, bool(0/1), text, timestamp. Columns it leaves out are inferred.
    #[arg(long, value_name = "FILE")]
    pub(crate) fields: Option<PathBuf>,

    /// Column that names the device.
    #[arg(long, value_name = "COLUMN", default_value = "device")]
    pub(crate) device_field: String,

    /// Column with the event time: RFC 3339, or integer nanoseconds since 1970.
    #[arg(long, value_name = "COLUMN", default_value = "timestamp")]
    pub(crate) time_field: String,

    /// Address of the server.
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    pub(crate) server: String,

    /// Directory of the gateway identity, as `device enroll --gateway-for` wrote it.
    #[arg(long, value_name = "DIR")]
    pub(crate) identity: PathBuf,

    /// Send at most this many events per second.
    #[arg(long, value_name = "N", value_parser = parse_positive, conflicts_with = "speed")]
    pub(crate) rate: Option<f64>,

    /// Send at this multiple of the speed at which the events happened, by event time.
    #[arg(long, value_name = "X", value_parser = parse_positive)]
    pub(crate) speed: Option<f64>,

    /// How long to wait for a server that is away, at the start or on the way.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = instant::parse_duration)]
    pub(crate) wait: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SchemasCommand {
    /// Read the schema files as the server does at its start, and compare them with what the log holds.
    Check {
        /// Directory of the files; without it the one of the configuration.
        #[arg(value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// List every version that is declared or stored, and what its events read as.
    List,
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Only devices matching this glob; `*` crosses `/`.
    #[arg(long, value_name = "GLOB", default_value = "*")]
    pub(crate) device: String,

    /// Only schemas whose name matches this glob.
    #[arg(long, value_name = "GLOB", default_value = "*")]
    pub(crate) schema: String,

    /// Where to begin: `now`, `start`, or behind an event that was seen: its position, or TERM:POSITION.
    #[arg(long, value_name = "PLACE", default_value = "now")]
    pub(crate) from: String,

    /// `human`: a line an event; `ndjson`: every attribute of every event.
    #[arg(long, value_enum, default_value_t = TailFormat::Human)]
    pub(crate) format: TailFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TailFormat {
    Human,
    Ndjson,
}

fn parse_time(text: &str) -> Result<i64, InvalidInstant> {
    parse_instant(text, instant::now())
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as site=oslo".to_owned()),
    }
}

/// Names are resolved later, and again after a disconnection; only the form is checked here.
fn parse_address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err("expected HOST:PORT, such as localhost:4433".to_owned()),
    }
}

fn parse_positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("expected a number above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn rate_and_speed_exclude_each_other() {
        let flags = ["icecore", "send", "a.csv", "--schema", "s", "--server", "h:1", "--identity", "d"];
        let with = |more: &[&str]| Cli::try_parse_from(flags.iter().chain(more).copied());
        assert!(with(&["--rate", "10"]).is_ok());
        assert!(with(&["--server", "h"]).is_err());
        assert!(with(&["--rate", "0"]).is_err());
        assert!(with(&["--rate", "10", "--speed", "2"]).is_err());
    }
}
