//! `icecore replay`: events back out of a data directory, as text.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, ensure};
use icecore_log::{LogError, OnDamage};
use icecore_replay::{Count, Coverage, Csv, EventTimes, Ndjson, Order, Query, Replay, ReplayError};
use icecore_schema::Declared;
use icecore_tier::cache::Cache;
use icecore_tier::catalog::{Catalog, CatalogError};
use icecore_tier::elsewhere::Elsewhere;
use icecore_tier::store::Waiting;

use crate::cli::{ReplayArgs, ReplayFormat, ReplayOrder};
use crate::config::Config;
use crate::stores;

/// Writes the events to standard output, with or without a running server; `config` is the configuration's file.
pub(crate) fn run(args: &ReplayArgs, config: &Path) -> anyhow::Result<()> {
    // What is fetched of a bucket's records goes with the command.
    let fetched = tempfile::tempdir().context("cannot make a temporary directory")?;
    let replay = match &args.store {
        Some(url) => of_bucket(url, args, fetched.path())?,
        None => of_data(args.data.as_deref(), config)?.0,
    };
    let replay = replay.with_schemas(declared(args, config)?);
    let coverage = write(args, &replay).map_err(|error| match error {
        ReplayError::Log(LogError::Damaged(damage)) => {
            anyhow!("the log is damaged: {damage}; --skip-damaged reads around it")
        }
        error => error.into(),
    })?;
    let Some(coverage) = coverage else { return Ok(()) };
    for damage in &coverage.damage {
        eprintln!("skipped: {damage}");
    }
    let satisfies = coverage.is_complete() || !args.require_complete;
    ensure!(satisfies, "not everything that was asked for is there: {coverage}");
    eprintln!("coverage: {coverage}");
    Ok(())
}

/// What schema files say; where nothing is configured they have to be named.
fn declared(args: &ReplayArgs, config: &Path) -> anyhow::Result<Declared> {
    let directory = match &args.schemas {
        Some(directory) => {
            ensure!(directory.is_dir(), "{} is no directory of schema files", directory.display());
            directory.clone()
        }
        None if config.exists() => Config::load(config)?.schemas.dir,
        None => return Ok(Declared::default()),
    };
    Ok(Declared::load(&directory)?)
}

/// The log of a data directory, by default of that of the configuration, and what its catalog knows to be elsewhere.
pub(crate) fn of_data(data: Option<&Path>, config: &Path) -> anyhow::Result<(Replay, PathBuf)> {
    let data = match data {
        Some(data) => data.to_owned(),
        None => Config::load(config)?.data.dir,
    };
    // An empty log is fine; a mistyped directory is not an empty log.
    ensure!(
        data.join("hot").is_dir(),
        "{} holds no log; is it the data directory of a server?",
        data.display()
    );
    let replay = Replay::open(&data)?;
    let replay = match elsewhere(&data, config)? {
        Some(elsewhere) => replay.with_elsewhere(elsewhere),
        None => replay,
    };
    Ok((replay, data))
}

/// What is in a bucket, with nothing else at hand. Its manifests, which are small, go into `directory`.
fn of_bucket(url: &str, args: &ReplayArgs, directory: &Path) -> anyhow::Result<Replay> {
    let store = stores::at(url, &args.store_options)?;
    let waiting = stores::waiting()?;
    stores::fetch_manifests(&store, &waiting, directory)?;
    let (elsewhere, faults) = Elsewhere::in_bucket(store, waiting)?;
    for fault in faults {
        eprintln!("warning: journal: {fault}");
    }
    let replay = Replay::open(directory)?;
    ensure!(!replay.reader().manifests().is_empty(), "nothing was archived in {url}; is it the whole URL?");
    Ok(replay.with_elsewhere(elsewhere))
}

/// Where what is sealed and not here is, if there is a catalog.
fn elsewhere(data: &Path, config: &Path) -> anyhow::Result<Option<Elsewhere>> {
    let catalog = match Catalog::read(data) {
        Ok(catalog) => catalog,
        Err(CatalogError::Absent { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // A data directory may be read where nothing is configured.
    let config = if config.exists() { Config::load(config)? } else { Config::default() };
    let cache = match Cache::open(&data.join("cache"), config.tier.cache.as_u64()) {
        Ok(cache) => Some(Arc::new(cache)),
        Err(error) => {
            tracing::warn!(%error, "what is read from object storage is not kept");
            None
        }
    };
    let waiting = Waiting::new(cache).context("cannot make requests")?;
    Ok(Some(Elsewhere::new(move || catalog.view(), stores::open(&config)?.into_values(), waiting)))
}

/// Returns what the events cover; nothing if the reader of the output went away first.
fn write(args: &ReplayArgs, replay: &Replay) -> Result<Option<Coverage>, ReplayError> {
    let query = Query {
        devices: args.device.clone(),
        only: None,
        schemas: args.schema.clone(),
        times: EventTimes { from: args.from, to: args.to },
        from_position: 0,
        order: match args.order {
            ReplayOrder::Log => Order::Log,
            ReplayOrder::Time => Order::Time,
        },
        as_written: args.as_written,
        on_damage: if args.skip_damaged { OnDamage::Skip } else { OnDamage::Fail },
    };
    // Unlocked: the sinks write in large pieces, and nothing else writes to it.
    let out = io::stdout();
    let replayed = match args.format {
        ReplayFormat::Csv => replay.run(&query, &mut Csv::new(out, &replay.schemas(&query)?)?)?,
        ReplayFormat::Ndjson => replay.run(&query, &mut Ndjson::new(out))?,
        ReplayFormat::Count => {
            let count = replay.count(&query)?;
            print_count(&count).map_err(ReplayError::Output)?;
            return Ok(Some(count.coverage));
        }
    };
    Ok((!replayed.cut_short).then_some(replayed.coverage))
}

fn print_count(count: &Count) -> io::Result<()> {
    let Count { batches, devices, bytes, coverage } = count;
    let events = coverage.present;
    let count = serde_json::json!({"events": events, "batches": batches, "devices": devices, "bytes": bytes});
    writeln!(io::stdout(), "{count}")
}
