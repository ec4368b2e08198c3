//! Everything that is stored, wherever it is, as those read it who ask the server.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use icecore_ingest::Writer;
use icecore_log::ActiveDirectory;
use icecore_log::sealed::Footers;
use icecore_replay::{Replay, ReplayError};
use icecore_schema::Declared;
use icecore_tier::cache::Cache;
use icecore_tier::catalog::Catalog;
use icecore_tier::elsewhere::Elsewhere;
use icecore_tier::store::Waiting;
use tracing::warn;

use crate::config::Config;
use crate::stores::{self, Stores};

/// Bytes of footers of sealed segments that are kept, so that looking one device up does not read them each time.
const FOOTERS: usize = 128 << 20;

/// What is here, and the way to what is elsewhere. Not to be dropped by a task: it waits for requests of its own.
pub(super) struct Stored {
    data: PathBuf,
    declared: Declared,
    catalog: Arc<Catalog>,
    stores: Stores,
    waiting: Waiting,
    footers: Arc<Footers>,
    active: ActiveDirectory,
}

impl Stored {
    /// Opens what is read; nothing is read yet.
    pub(super) fn new(config: &Config, catalog: Arc<Catalog>, writer: &Writer) -> anyhow::Result<Self> {
        let cache = match Cache::open(&config.data.dir.join("cache"), config.tier.cache.as_u64()) {
            Ok(cache) => Some(Arc::new(cache)),
            Err(error) => {
                warn!(%error, "what is read from object storage is not kept");
                None
            }
        };
        Ok(Self {
            data: config.data.dir.clone(),
            declared: Declared::load(&config.schemas.dir)?,
            catalog,
            stores: stores::open(config)?,
            waiting: Waiting::new(cache).context("cannot make requests")?,
            footers: Arc::new(Footers::new(FOOTERS)),
            active: writer.active(),
        })
    }

    /// The log as it is now.
    pub(super) fn replay(&self) -> Result<Replay, ReplayError> {
        let catalog = Arc::clone(&self.catalog);
        let stores = self.stores.values().cloned();
        let elsewhere = Elsewhere::new(move || catalog.view(), stores, self.waiting.clone());
        let replay = Replay::open(&self.data)?;
        let replay = replay.with_elsewhere(elsewhere).with_footers(Arc::clone(&self.footers));
        let replay = replay.with_active(self.active.clone());
        Ok(replay.with_schemas(self.declared.clone()))
    }
}
