//! The command line, and what it asks for.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::commands::Command;

/// Measures an Icecore server with a fleet of simulated devices and verifies that every acked event was stored.
///
/// Without --devices: a closed loop, in which every connection sends as fast as acks come back, measured against bare
/// QUIC. With --devices: a fleet, in which every device has a connection of its own and sends at its own pace. With a
/// command: one figure of devices in the real world.
#[derive(Debug, Parser)]
#[command(name = "icecore-load", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Closed loop: connections.
    #[arg(long, value_name = "N", default_value_t = 32, conflicts_with = "devices", value_parser = positive)]
    pub(crate) connections: usize,

    /// Closed loop: events in a batch.
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "devices", value_parser = positive)]
    pub(crate) batch: usize,

    /// Fleet: devices, each with a connection of its own.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) devices: Option<usize>,

    /// Fleet: events per second and device.
    #[arg(long, value_name = "N", default_value_t = 100, requires = "devices", value_parser = positive)]
    pub(crate) rate: usize,

    /// Fleet: how often a device cuts a batch.
    #[arg(long, value_name = "DURATION", default_value = "1s", requires = "devices", value_parser = duration)]
    pub(crate) batch_every: Duration,

    /// How long to send.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,

    /// Writes the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Where the temporary server keeps its data: choose the disk to be measured.
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    pub(crate) dir: Option<PathBuf>,

    /// Measures this server instead of a temporary one; its processor time and its log are then not looked at.
    #[arg(long, value_name = "HOST:PORT", requires = "identity")]
    pub(crate) server: Option<String>,

    /// A gateway identity of that server, enrolled for `load/*`.
    #[arg(long, value_name = "DIR", requires = "server")]
    pub(crate) identity: Option<PathBuf>,
}

/// A whole number above 0.
pub(crate) fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "expected a whole number above 0".to_owned())
}

/// A duration of milliseconds or seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number = number.parse::<u64>().ok().filter(|&number| number > 0);
    match (number, unit) {
        (Some(number), "ms") => Ok(Duration::from_millis(number)),
        (Some(number), "s") => Ok(Duration::from_secs(number)),
        _ => Err("expected a duration such as 250ms or 1s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1s"), Ok(Duration::from_secs(1)));
        assert!(duration("1").is_err());
        assert!(duration("0s").is_err());
        assert!(duration("-1s").is_err());
    }

    #[test]
    fn a_fleet_is_no_closed_loop() {
        let parse = |text: &str| Options::try_parse_from(text.split(' '));
        assert!(parse("icecore-load --connections 32 --batch 100 --seconds 30 --json f").is_ok());
        assert!(parse("icecore-load --devices 10000 --rate 100 --batch-every 1s --seconds 60").is_ok());
        assert!(parse("icecore-load --devices 10 --connections 32").is_err());
        assert!(parse("icecore-load --server localhost:1").is_err());
        assert!(parse("icecore-load fair --devices 10 --batch-every 100ms").is_ok());
        assert!(parse("icecore-load --seconds 3 fair").is_err());
    }
}
