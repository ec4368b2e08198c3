//! The state of all devices as files: what the worker keeps of it, and what a start without them is read from.

use std::io;
use std::path::Path;
use std::sync::Arc;

use icecore_ingest::{LiveState, ReadElsewhere};
use icecore_log::RealDisk;
use icecore_state::snapshot::{self, Snapshot, SnapshotHead, Snapshots};
use icecore_tier::catalog::{Catalog, CatalogError};
use icecore_tier::elsewhere::{Elsewhere, StoredSnapshot};
use icecore_tier::plan::Saved;
use icecore_tier::worker::{SavedFile, State};
use tracing::warn;

use crate::config::Config;
use crate::{instant, stores};

/// The state that a server keeps, and its snapshots, for the worker.
pub(crate) struct SavedState {
    snapshots: Snapshots,
    live: LiveState,
}

impl SavedState {
    pub(crate) fn of(data: &Path, live: LiveState) -> Self {
        Self { snapshots: Snapshots::new(Arc::new(RealDisk), data), live }
    }
}

impl State for SavedState {
    fn saved(&self) -> io::Result<Option<Saved>> {
        how_far(&self.snapshots)
    }

    fn want(&self) {
        self.live.save_soon();
    }

    fn save(&self, to: &Path) -> io::Result<SavedFile> {
        let saved = self.snapshots.save(to, instant::now()).map_err(io::Error::other)?;
        let saved = saved.ok_or_else(|| io::Error::other("there is no snapshot yet"))?;
        let SnapshotHead { point, received, devices, .. } = saved.head().clone();
        Ok(SavedFile { block: point.block, position: point.position, received, devices })
    }
}

fn how_far(snapshots: &Snapshots) -> io::Result<Option<Saved>> {
    let saved = snapshots.saved().map_err(io::Error::other)?;
    Ok(saved.map(|snapshot::Saved { newest, bytes }| {
        let (position, received) = (newest.point.position, newest.received);
        Saved { position, received, bytes, travels: false }
    }))
}

/// How far the state of a server is saved, as its planner is told.
pub(crate) fn saved(config: &Config) -> io::Result<Saved> {
    let travels = config.journal().is_some();
    let saved = how_far(&Snapshots::new(Arc::new(RealDisk), &config.data.dir))?;
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
    let elsewhere = Arc::new(Elsewhere::new(move || catalog.view(), stores.into_values(), waiting));
    let segments = elsewhere.resolver();
    let snapshots = move || {
        let stored = elsewhere.snapshots().unwrap_or_else(|error| {
            warn!(%error, "the snapshots in stores are not looked at");
            Vec::new()
        });
        let open = |stored: StoredSnapshot| match Snapshot::read(stored.file, &stored.name) {
            Ok(snapshot) => Some(snapshot),
            Err(error) => {
                warn!(%error, "a kept snapshot cannot be opened");
                None
            }
        };
        stored.into_iter().filter_map(open).collect()
    };
    Ok(Some(ReadElsewhere { segments, snapshots: Arc::new(snapshots) }))
}
