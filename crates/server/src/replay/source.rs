//! What is read: a data directory, or a bucket.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use icecore_replay::Replay;
use icecore_schema::Declared;
use icecore_tier::cache::Cache;
use icecore_tier::catalog::{Catalog, CatalogError};
use icecore_tier::elsewhere::Elsewhere;
use icecore_tier::store::Waiting;
use tempfile::TempDir;

use crate::cli::SourceArgs;
use crate::config::Config;
use crate::stores;

/// A log to read, and what was fetched for that: it goes with this.
pub(crate) struct Source {
    pub(crate) replay: Replay,
    pub(crate) fetched: TempDir,
}

/// Opens what `args` name, with or without a running server; `config` is the configuration's file.
pub(crate) fn open(args: &SourceArgs, config: &Path) -> anyhow::Result<Source> {
    let fetched = tempfile::tempdir().context("cannot make a temporary directory")?;
    let replay = match &args.store {
        Some(url) => of_bucket(url, args, fetched.path())?,
        None => of_data(args.data.as_deref(), config)?.0,
    };
    Ok(Source { replay: replay.with_schemas(declared(args, config)?), fetched })
}

/// What schema files say; where nothing is configured they have to be named.
fn declared(args: &SourceArgs, config: &Path) -> anyhow::Result<Declared> {
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
fn of_bucket(url: &str, args: &SourceArgs, directory: &Path) -> anyhow::Result<Replay> {
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
