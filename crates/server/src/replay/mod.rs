//! `icecore replay`: events back out of a data directory or a bucket, in order.

pub(crate) mod destination;
mod fleet;
pub(crate) mod progress;
pub(crate) mod source;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{anyhow, ensure};
use icecore_log::LogError;
use icecore_replay::{
    Count, Coverage, Csv, Ndjson, Order, Paced, PacedBy, Query, Replay, ReplayError, Replayed, Sink,
    TableFile, TableScan,
};

use crate::cli::{ReplayArgs, ReplayFormat, ReplayOrder};
use destination::Destination;
use progress::Progress;

/// Writes the events, with or without a running server; `config` is the configuration's file.
pub(crate) fn run(args: &ReplayArgs, config: &Path) -> anyhow::Result<()> {
    check(args)?;
    if let Some(server) = &args.into {
        return fleet::run(args, server, config);
    }
    let replay = source::open(&args.source, config)?;
    let query = query(args);
    let progress = Progress::start(&replay.plan(&query));
    let replay = replay.counting_in(progress.looked_at());
    let mut destination = Destination::open(&args.out)?;
    let replayed = write(args, &replay, &query, &mut destination).map_err(explain)?;
    drop(progress);
    destination.keep()?;
    if replayed.cut_short {
        return Ok(());
    }
    tell(&replayed.coverage, args.selection.require_complete)
}

/// What is missing, and whether that is an error.
pub(crate) fn tell(coverage: &Coverage, require_complete: bool) -> anyhow::Result<()> {
    for damage in &coverage.damage {
        eprintln!("skipped: {damage}");
    }
    let satisfies = coverage.is_complete() || !require_complete;
    ensure!(satisfies, "not everything that was asked for is there: {coverage}");
    eprintln!("coverage: {coverage}");
    Ok(())
}

/// Adds what can be done about an error.
pub(crate) fn explain(error: ReplayError) -> anyhow::Error {
    match error {
        ReplayError::Log(LogError::Damaged(damage)) => {
            anyhow!("the log is damaged: {damage}; --skip-damaged reads around it")
        }
        error => error.into(),
    }
}

/// Whether the flags go together.
fn check(args: &ReplayArgs) -> anyhow::Result<()> {
    let is_table = matches!(args.format, ReplayFormat::Arrow | ReplayFormat::Parquet);
    ensure!(
        is_table || (args.columns.is_none() && args.comparisons.is_empty()),
        "--columns and --where are for --format arrow and parquet"
    );
    let is_text = matches!(args.format, ReplayFormat::Csv | ReplayFormat::Ndjson);
    ensure!(
        args.speed.is_none() || is_text || args.into.is_some(),
        "--speed is for --format csv and ndjson, and for --into"
    );
    let is_timed = matches!(args.order, ReplayOrder::Log | ReplayOrder::Time);
    ensure!(
        args.speed.is_none() || is_timed,
        "--speed is for --order time, by the time of the events, and --order log, by the time at which they were received"
    );
    Ok(())
}

fn query(args: &ReplayArgs) -> Query {
    Query {
        known_at: args.known_at,
        order: match args.order {
            ReplayOrder::Log => Order::Log,
            ReplayOrder::Time => Order::Time,
            ReplayOrder::Device => Order::Device,
            ReplayOrder::Stored => Order::Stored,
        },
        as_written: args.as_written,
        ..args.selection.query()
    }
}

fn write(
    args: &ReplayArgs,
    replay: &Replay,
    query: &Query,
    out: &mut Destination,
) -> Result<Replayed, ReplayError> {
    match args.format {
        ReplayFormat::Csv => run_paced(args, replay, query, Csv::new(out, &replay.schemas(query)?)?),
        ReplayFormat::Ndjson => run_paced(args, replay, query, Ndjson::new(out)),
        ReplayFormat::Arrow | ReplayFormat::Parquet => {
            let mut scan = TableScan::new(query.clone(), Arc::new(replay.table(query)?));
            scan.columns.clone_from(&args.columns);
            scan.comparisons.clone_from(&args.comparisons);
            let schema = scan.schema()?;
            let mut file = match args.format {
                ReplayFormat::Arrow => TableFile::arrow(out, &schema)?,
                _ => TableFile::parquet(out, &schema)?,
            };
            let replayed = replay.record_batches(&scan, &mut |batch| file.write(&batch))?;
            if !replayed.cut_short {
                file.finish()?;
            }
            Ok(replayed)
        }
        ReplayFormat::Count => {
            let count = replay.count(query)?;
            print_count(&count, out).map_err(ReplayError::Output)?;
            Ok(Replayed { coverage: count.coverage, cut_short: false })
        }
    }
}

fn run_paced(
    args: &ReplayArgs,
    replay: &Replay,
    query: &Query,
    mut sink: impl Sink,
) -> Result<Replayed, ReplayError> {
    let Some(speed) = args.speed else { return replay.run(query, &mut sink) };
    let by = if query.order == Order::Time { PacedBy::EventTime } else { PacedBy::ReceivedTime };
    replay.run(query, &mut Paced::new(sink, by, speed))
}

fn print_count(count: &Count, out: &mut impl Write) -> io::Result<()> {
    let Count { batches, devices, bytes, coverage } = count;
    let events = coverage.present;
    let count = serde_json::json!({"events": events, "batches": batches, "devices": devices, "bytes": bytes});
    writeln!(out, "{count}")
}
