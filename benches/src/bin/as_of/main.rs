//! What it takes to tell the state of a device as of a random time, and to open a snapshot of a million devices.
//!
//!     cargo run --release -p icecore-benches --bin as_of -- [EVENTS [DIRECTORY]]
//!
//! Ten thousand devices send EVENTS (10,000,000 where nothing is said) in batches of a hundred: one in a hundred batches comes late, one
//! device in a hundred was away for long, and a few have clocks in 1970 or 2063 now and then. The log is made as a server
//! makes it; each question opens log, catalog and snapshots anew, as a request to the server does. What is quoted is their
//! time: half of them, and 99 in 100, took no longer.

mod fleet;
mod snapshot;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use icecore_log::RealDisk;
use icecore_log::sealed::Footers;
use icecore_replay::{AsOf, Bases, Explained};
use icecore_state::snapshot::Snapshots;

use fleet::Made;

/// Questions of each kind.
const QUESTIONS: u64 = 1_000;

/// As in the server.
const FOOTERS: usize = 128 << 20;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let events =
        arguments.next().map_or(Ok(10_000_000), |text| text.parse()).context("EVENTS is a number")?;
    let (directory, _temporary) = match arguments.next() {
        Some(directory) => (PathBuf::from(directory), None),
        None => {
            let temporary = tempfile::tempdir().context("cannot make a directory")?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    fs::create_dir_all(&directory)?;
    let begin = Instant::now();
    let made = Made::make(&directory, events)?;
    println!("{} made in {:.0?}", made.describe()?, begin.elapsed());
    let snapshots = Snapshots::new(Arc::new(RealDisk), &made.data());
    ask_all(&made, &format!("from local tiers, {} snapshots", snapshots.list()?.0.len()))?;
    let cold = made.make_cold()?;
    ask_all(&made, &format!("{cold} segments in a directory as object storage, what was read is cached"))?;
    snapshots.tidy(0)?;
    ask_all(&made, &format!("the same with the {} newest snapshots", snapshots.list()?.0.len()))?;
    snapshot::measure(&directory)
}

fn ask_all(made: &Made, what: &str) -> anyhow::Result<()> {
    println!("{what}:");
    let footers = Arc::new(Footers::new(FOOTERS));
    for (name, wants_at, wants_known_at) in
        [("as of T", true, false), ("as known at R", false, true), ("as of T, as known at R", true, true)]
    {
        let mut times = Vec::new();
        let mut slowest: Option<(Duration, Explained)> = None;
        for question in 0..QUESTIONS {
            let asked = made.question(question);
            let as_of =
                AsOf { at: wants_at.then_some(asked.at), known_at: wants_known_at.then_some(asked.known_at) };
            let begin = Instant::now();
            let replay = made.replay()?.with_footers(Arc::clone(&footers));
            let bases = Bases::new(&Snapshots::new(Arc::new(RealDisk), &made.data()))?;
            let bases = match as_of.known_at {
                None => made.with_live(bases, &asked.device),
                Some(_) => bases,
            };
            let told = replay.state(&asked.device, as_of, &bases)?;
            let took = begin.elapsed();
            ensure!(told.devices.len() <= 1, "one device was asked for");
            if slowest.as_ref().is_none_or(|(slowest, _)| took > *slowest) {
                slowest = Some((took, told.explained));
            }
            times.push(took);
        }
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
        println!(
            "  {name:<24} p50 {:7.2} ms  p90 {:7.2} ms  p99 {:7.2} ms  max {:7.2} ms",
            at(50),
            at(90),
            at(99),
            at(100)
        );
        if let Some((_, explained)) = slowest {
            let Explained { blocks, segments, pages, batches, events, base, .. } = explained;
            let from = base.map_or(0, |base| base.position);
            println!(
                "      the slowest: from position {from}, {} segments, {pages} pages, {blocks} blocks, {batches} batches, {events} events folded",
                segments.len()
            );
        }
    }
    Ok(())
}
