//! What readers need of a server's configuration, `icecore.toml`: where the data is, and where what is not there is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bytesize::ByteSize;
use icecore_tier::store::{Place, Store, StoreError};
use serde::Deserialize;

/// What is kept of what is read from stores, unless a configuration says otherwise.
pub(crate) const DEFAULT_CACHE: ByteSize = ByteSize::gib(1);

/// The keys that are read, with the server's defaults; it is the server that says what is wrong with the others.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Configuration {
    data: Data,
    schemas: Schemas,
    tier: Tier,
    store: BTreeMap<String, StoreTable>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Data {
    dir: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Schemas {
    dir: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Tier {
    cache: ByteSize,
}

#[derive(Debug, Deserialize)]
struct StoreTable {
    url: String,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

impl Default for Data {
    fn default() -> Self {
        Self { dir: "data".into() }
    }
}

impl Default for Schemas {
    fn default() -> Self {
        Self { dir: "schemas".into() }
    }
}

impl Default for Tier {
    fn default() -> Self {
        Self { cache: DEFAULT_CACHE }
    }
}

impl Configuration {
    /// Reads `file`, and makes paths relative to its directory.
    pub(crate) fn load(file: &Path) -> anyhow::Result<Self> {
        let failed = || format!("cannot read the configuration {}", file.display());
        let text = std::fs::read_to_string(file).with_context(failed)?;
        let mut read: Self = toml::from_str(&text).with_context(failed)?;
        let directory = file.parent().unwrap_or(Path::new(""));
        read.data.dir = directory.join(&read.data.dir);
        read.schemas.dir = directory.join(&read.schemas.dir);
        Ok(read)
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data.dir
    }

    /// The directory of schema files.
    pub(crate) fn schemas(&self) -> &Path {
        &self.schemas.dir
    }

    /// How many bytes of what is read from stores are kept.
    pub(crate) fn cache(&self) -> u64 {
        self.tier.cache.as_u64()
    }

    /// The stores; nothing is requested of them yet.
    pub(crate) fn stores(&self) -> Result<Vec<Store>, StoreError> {
        let open = |(name, store): (&String, &StoreTable)| {
            Ok(Store::new(name, Place::open(name, &store.url, &store.options)?, 0))
        };
        self.store.iter().map(open).collect()
    }
}
