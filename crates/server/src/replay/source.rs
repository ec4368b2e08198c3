//! What is read: a data directory, or a bucket.

use std::path::Path;

use anyhow::ensure;
use icecore_replay::{DataSource, Replay};
use icecore_schema::Declared;
use icecore_tier::store::Store;

use crate::cli::{PlaceArgs, SourceArgs};
use crate::config::Config;
use crate::stores;

/// Opens what `args` name, with or without a running server; `config` is the configuration's file.
pub(crate) fn open(args: &SourceArgs, config: &Path) -> anyhow::Result<Replay> {
    open_now(&of(args, config)?)
}

/// What `args` name, to be opened more than once.
pub(crate) fn of(args: &SourceArgs, config: &Path) -> anyhow::Result<DataSource> {
    Ok(of_place(&args.place, config)?.with_schemas(declared(args, config)?))
}

/// The same, of events as they were written.
pub(crate) fn of_place(args: &PlaceArgs, config: &Path) -> anyhow::Result<DataSource> {
    if let Some(url) = &args.store {
        return Ok(DataSource::bucket(Store::of_url(url, &args.store_options)?)?);
    }
    // A data directory may be read where nothing is configured.
    let config = match &args.data {
        Some(_) if !config.exists() => Config::default(),
        _ => Config::load(config)?,
    };
    let data = args.data.as_ref().unwrap_or(&config.data.dir);
    Ok(DataSource::data(data, stores::open(&config)?.into_values(), config.tier.cache.as_u64())?)
}

/// The log as it is now; warnings are printed.
pub(crate) fn open_now(source: &DataSource) -> anyhow::Result<Replay> {
    let opened = source.open()?;
    for warning in opened.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(opened.replay)
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
