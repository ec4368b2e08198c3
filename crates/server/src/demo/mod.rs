//! `icecore demo`: the whole product in one command, with a proof at the end.
//!
//! It makes certificates, starts a server process, streams a fleet into it, kills the server with SIGKILL in the middle,
//! starts it again, and then proves from the log that every acknowledged batch is there exactly once.

use std::path::PathBuf;

use clap::Args;

/// What `icecore demo` may be told; everything has a default.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How long the fleet streams, in seconds.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(5..))]
    pub(crate) seconds: u64,

    /// Directory for certificates, data and the server's log; new or empty. A temporary one without it.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Before the proof, wait for a line on standard input: time to tamper with the log and see the proof fail.
    #[arg(long)]
    pub(crate) pause: bool,
}

/// Runs the demonstration; succeeds only if the proof holds.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    anyhow::bail!("the demo in {:?} is not there yet", args.dir)
}
