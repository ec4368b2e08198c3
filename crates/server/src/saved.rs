//! The state of all devices as files: what the worker keeps of it, and what a start without them is read from.

use std::io;
use std::path::Path;
use std::sync::Arc;

use icecore_ingest::ReadElsewhere;
use icecore_log::RealDisk;
use icecore_state::snapshot::{self, SnapshotHead, Snapshots};
use icecore_tier::catalog::{Catalog, CatalogError};
use icecore_tier::elsewhere::Elsewhere;
use icecore_tier::plan::Saved;
use icecore_tier::worker::{SavedFile, State};
use tracing::warn;

use crate::config::Config;
use crate::{instant, stores};

/// The snapshots of a data directory, for the worker.
pub(crate) struct SavedState(Snapshots);

impl SavedState {
    pub(crate) fn of(data: &Path) -> Self {
        Self(Snapshots::new(Arc::new(RealDisk), data))
    }
}

impl State for SavedState {
    fn saved(&self) -> io::Result<Option<Saved>> {
        let saved = self.0.saved().map_err(io::Error::other)?;
        Ok(saved.map(|snapshot::Saved { newest, bytes, restart }| {
            let (position, received) = (newest.point.position, newest.received);
            Saved { position, received, bytes, restart, travels: false }
        }))
    }

    fn save(&self, to: &Path) -> io::Result<SavedFile> {
        let saved = self.0.save(to, instant::now()).map_err(io::Error::other)?;
        let saved = saved.ok_or_else(|| io::Error::other("there is no snapshot yet"))?;
        let SnapshotHead { point, received, devices, .. } = saved.head().clone();
        Ok(SavedFile { block: point.block, position: point.position, received, devices })
    }
}

/// How far the state of a server is saved, as its planner is told.
pub(crate) fn saved(config: &Config) -> io::Result<Saved> {
    let travels = config.journal().is_some();
    let saved = SavedState::of(&config.data.dir).saved()?;
    Ok(Saved { travels, ..saved.unwrap_or(Saved { received: i64::MIN, ..Saved::default() }) })
}

/// Where sealed segments are that have no local file, for a server that starts; `None` where nobody knows.
pub(crate) fn elsewhere(config: &Config) -> anyhow::Result<Option<ReadElsewhere>> {
    let catalog = match Catalog::read(&config.data.dir) {
        Ok(catalog) => catalog,
        Err(CatalogError::Absent { .. }) => return Ok(None),
        Err(error) => {
            // It is opened later on, and what is wrong with it told then.
            warn!(%error, "the state is made of what is on this disk");
            return Ok(None);
        }
    };
    let (stores, waiting) = (stores::open(config)?, stores::waiting()?);
    let elsewhere = Elsewhere::new(move || catalog.view(), stores.into_values(), waiting);
    Ok(Some(ReadElsewhere(Arc::new(elsewhere).resolver())))
}
