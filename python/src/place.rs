//! Where a log is: in a bucket, or in a data directory, of which a server's configuration may tell.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::ensure;
use icecore_replay::{DataSource, Opened};
use icecore_schema::Declared;
use icecore_tier::store::{self, Store};

use crate::configuration::{Configuration, DEFAULT_CACHE};

/// What was asked to be opened.
pub(crate) struct Place {
    /// The URL of a bucket, a configuration file, or a data directory.
    pub(crate) name: PathBuf,
    pub(crate) schemas: Option<PathBuf>,
    /// URLs by the names of the stores.
    pub(crate) stores: Option<BTreeMap<String, String>>,
    /// Options of the stores' clients.
    pub(crate) options: BTreeMap<String, String>,
}

impl Place {
    /// The log that is there now.
    pub(crate) fn open(self) -> anyhow::Result<Opened> {
        let (source, configured) = match self.name.to_str().filter(|name| name.contains("://")) {
            Some(url) => (self.bucket(url)?, None),
            None if self.name.is_file() => self.configured()?,
            None => (self.data_directory()?, None),
        };
        if let Some(named) = &self.schemas {
            ensure!(named.is_dir(), "{} is no directory of schema files", named.display());
        }
        let declared = match self.schemas.or(configured) {
            Some(directory) => Declared::load(&directory)?,
            None => Declared::default(),
        };
        Ok(source.with_schemas(declared).open()?)
    }

    fn bucket(&self, url: &str) -> anyhow::Result<DataSource> {
        ensure!(self.stores.is_none(), "a bucket has all that is in it: stores are for data directories");
        let options: Vec<_> = self.options.clone().into_iter().collect();
        Ok(DataSource::bucket(Store::of_url(url, &options)?)?)
    }

    /// Also tells where the schema files are, which need not be there.
    fn configured(&self) -> anyhow::Result<(DataSource, Option<PathBuf>)> {
        let plain = self.stores.is_none() && self.options.is_empty();
        ensure!(plain, "a configuration names its own stores and their options");
        let configuration = Configuration::load(&self.name)?;
        let (stores, cache) = (configuration.stores()?, configuration.cache());
        let source = DataSource::data(configuration.data(), stores, cache)?;
        Ok((source, Some(configuration.schemas().to_owned())))
    }

    fn data_directory(&self) -> anyhow::Result<DataSource> {
        let open = |(name, url): (&String, &String)| {
            let place = store::Place::open(name, url, &self.options)?;
            anyhow::Ok(Store::new(name, place, 0))
        };
        let stores = self.stores.iter().flatten().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(DataSource::data(&self.name, stores, DEFAULT_CACHE.as_u64())?)
    }
}
