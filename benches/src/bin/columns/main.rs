//! Sealed events as Arrow record batches: how many a second of one core, how soon the first, and in how much memory.
//!
//! `cargo run --release -p icecore-benches --bin columns -- [EVENTS [DIRECTORY [STORE]]]`: three numeric fields, a hundred devices, batches of
//! a hundred. The log is made in a temporary directory (in DIRECTORY, or that of the system), which goes in the end. A STORE that is named,
//! such as `s3://bucket/prefix`, gets a copy of it and is asked for ten minutes of one device; `STORE_ENDPOINT` and so on are its options.

mod cold;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use icecore_benches::sealed_log;
use icecore_replay::{Cursor, Order, Query, Replay, TableFile, TableScan};
use rustix::time::{ClockId, clock_gettime};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let events =
        arguments.next().map_or(Ok(10_000_000), |events| events.parse()).context("EVENTS is a number")?;
    let directory = match arguments.next() {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    sealed_log::write(directory.path(), events)?;
    let replay = Replay::open(directory.path())?;
    let sealed = replay.reader().sealed_to();
    let bytes: u64 = replay.reader().sealed().map(|(_, child)| child.bytes).sum();
    println!("{sealed} events sealed, {:.2} bytes each", bytes as f64 / sealed as f64);
    let fields = ["temperature", "vibration", "revolutions"].map(str::to_owned);
    let all: Vec<String> =
        replay.table(&stored())?.schema().fields().iter().map(|field| field.name().clone()).collect();
    measure("three fields", &replay, &fields)?;
    measure("three fields and event time", &replay, &[&fields[..], &["event_time".to_owned()]].concat())?;
    measure("all columns", &replay, &all)?;
    first_batch(directory.path())?;
    parquet(&replay)?;
    arguments.next().map_or(Ok(()), |store| cold::measure(directory.path(), &store))
}

fn stored() -> Query {
    Query { order: Order::Stored, ..Query::default() }
}

/// Reads all of it on one thread beside this one, which only counts.
fn measure(name: &str, replay: &Replay, columns: &[String]) -> anyhow::Result<()> {
    let mut scan = TableScan::new(stored(), Arc::new(replay.table(&stored())?));
    scan.columns = Some(columns.to_vec());
    scan.threads = 1;
    forget_peak()?;
    let mut rates = Vec::new();
    for _ in 0..5 {
        let (began, mut rows) = (processor_time(), 0);
        replay.record_batches(&scan, &mut |batch| {
            rows += batch.num_rows();
            Ok(())
        })?;
        rates.push(rows as f64 / (processor_time() - began).as_secs_f64() / 1e6);
    }
    rates.sort_by(f64::total_cmp);
    println!("{name}: {:.1} M events/s of one core (median of five), peak memory {} MiB", rates[2], peak()?);
    Ok(())
}

/// From opening the log to the first record batch.
fn first_batch(data: &Path) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let replay = Arc::new(Replay::open(data)?);
        let table = Arc::new(replay.table(&stored())?);
        let mut cursor = Cursor::open(replay, TableScan::new(stored(), table))?;
        let first = cursor.next().context("there are events")??;
        times.push(began.elapsed());
        ensure!(first.num_rows() > 0);
    }
    times.sort_unstable();
    println!("first record batch after {:.1} ms (median of five)", times[2].as_secs_f64() * 1e3);
    Ok(())
}

fn parquet(replay: &Replay) -> anyhow::Result<()> {
    let scan = TableScan::new(stored(), Arc::new(replay.table(&stored())?));
    forget_peak()?;
    let (began, mut rows) = (Instant::now(), 0);
    let mut file = TableFile::parquet(std::io::sink(), &*scan.schema()?)?;
    replay.record_batches(&scan, &mut |batch| {
        rows += batch.num_rows();
        file.write(&batch)
    })?;
    file.finish()?;
    let rate = rows as f64 / began.elapsed().as_secs_f64() / 1e6;
    println!("as Parquet: {rate:.2} M events/s, peak memory {} MiB", peak()?);
    Ok(())
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}

/// The most memory that this process held, in MiB, since it was forgotten last.
fn peak() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("Linux tells VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? >> 10)
}

fn forget_peak() -> anyhow::Result<()> {
    Ok(fs::write("/proc/self/clear_refs", "5")?)
}
