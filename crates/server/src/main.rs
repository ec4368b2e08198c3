//! The `icecore` binary: configuration, command line, HTTP and the assembly of the other crates.
//!
//! One module per command. [`cli`] turns raw flags into domain values once; [`config`] does the same for the
//! configuration file; everything behind them works with typed, checked values.

mod cli;
mod config;

mod backup;
mod bootstrap;
mod catalog;
mod certificates;
mod control;
mod csv_file;
mod decisions;
mod demo;
mod device;
mod export;
mod hold;
mod identities;
mod init;
mod instant;
mod logging;
mod replay;
mod retention;
mod saved;
mod schemas;
mod segments;
mod send;
mod serve;
mod snapshot;
#[cfg(feature = "sql")]
mod sql;
mod state;
mod status;
mod stores;
mod table;
mod tail;
mod tiers;

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, SegmentsCommand};
use crate::config::Config;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log_format);
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        // `icecore device list | head` is not an error.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and what caused it, without repeating causes that a message tells already.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        _ if told.contains(&cause) => told,
        _ => format!("{told}: {cause}"),
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io_error = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
    };
    error.chain().any(io_error)
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let out = || io::stdout().lock();
    let config = || Config::load(&cli.config);
    match &cli.command {
        Command::Init(args) => init::run(args, &mut out()),
        Command::Serve(args) => serve::run(args, &config()?),
        Command::Device(command) => device::run(command, &config()?, &mut out()),
        Command::Send(args) => send::run(args, &mut out()),
        Command::Replay(args) => replay::run(args, &cli.config),
        Command::State(args) => state::run(args, &cli.config, &mut out()),
        #[cfg(feature = "sql")]
        Command::Sql(args) => sql::run(args, &cli.config),
        #[cfg(not(feature = "sql"))]
        Command::Sql(_) => {
            anyhow::bail!("this icecore was built without SQL: build it with the feature `sql`")
        }
        Command::Export(args) => export::run(args, &cli.config),
        Command::Schemas(command) => schemas::run(command, &config()?, &mut out()),
        Command::Tail(args) => tail::run(args, &config()?, &mut out()),
        Command::Retention(command) => retention::run(command, &config()?, &mut out()),
        Command::Segments(SegmentsCommand::Verify(args)) if args.store.is_some() => {
            segments::verify_store(args, &mut out())
        }
        Command::Segments(command) => segments::run(command, &config()?, &mut out()),
        Command::Hold(command) => hold::run(command, &config()?, &mut out()),
        Command::Catalog(command) => catalog::run(command, &config()?, &mut out()),
        Command::Snapshot(command) => snapshot::run(*command, &config()?, &mut out()),
        Command::Backup => backup::run(&cli.config, &config()?, &mut out()),
        Command::Bootstrap(args) => bootstrap::run(args, &mut out()),
        Command::Demo(args) => demo::run(args),
        Command::Status => status::run(&config()?, &mut out()),
    }
}
