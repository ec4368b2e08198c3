//! Flight SQL: its listener, and what its statements see, on threads behind ingestion.

use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Context;
use icecore_ingest::Registry;
use icecore_sql::flight::FlightServer;
use icecore_sql::{Database, Labels, Opened, Settings};
use tokio::runtime;
use tokio::sync::watch;
use tracing::error;

use super::background;
use super::http::Stage;
use super::stored::Stored;
use crate::config::Config;

/// Logs that are opened at once, for statements that begin.
const OPENERS: usize = 4;

/// The server of Flight SQL.
pub(super) struct Flight {
    address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Flight {
    /// Listens on `address`, and serves until the process stops.
    pub(super) fn start(
        address: SocketAddr,
        config: &Config,
        stored: Arc<Stored>,
        registry: Arc<Registry>,
        mut stage: watch::Receiver<Stage>,
    ) -> anyhow::Result<Self> {
        let settings = Settings {
            memory: usize::try_from(config.flight.memory.as_u64()).unwrap_or(usize::MAX),
            spill_directory: Some(spill_directory(&config.data.dir)?),
            ..Settings::default()
        };
        let seen = Arc::clone(&stored);
        let database = Database::new(move || open(&seen, &registry), settings)?;
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let server = FlightServer::new(database, &read(&config.tls.certificate)?, &read(&config.tls.key)?)?;
        let listener =
            TcpListener::bind(address).with_context(|| format!("cannot listen on TCP {address}"))?;
        let address = listener.local_addr()?;

        let runtime =
            runtime::Builder::new_current_thread().enable_all().max_blocking_threads(OPENERS).build()?;
        let stop = async move {
            let _ = stage.wait_for(|stage| *stage == Stage::Stopping).await;
        };
        let run = move || {
            // Threads that it starts inherit it.
            background::behind_ingestion("Flight SQL");
            if let Err(problem) = runtime.block_on(server.serve(listener, stop)) {
                error!(%problem, "Flight SQL stopped");
            }
            drop(runtime);
            // Not by a task: it waits for requests of its own.
            drop(stored);
        };
        let thread = thread::Builder::new().name("flight".to_owned()).spawn(run);
        Ok(Self { address, thread: thread.context("cannot start the thread of Flight SQL")? })
    }

    /// Where it listens: port 0 has become a real one.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until clients have heard that the process stops.
    pub(super) fn stop(self) {
        drop(self.thread.join());
    }
}

/// The log as a statement sees it.
fn open(stored: &Stored, registry: &Registry) -> Result<Opened, Box<dyn Error + Send + Sync>> {
    registry.refresh()?;
    let labels = registry.labels();
    let now = |name: &str| Some((name.to_owned(), labels.now(name)?.clone()));
    let labels: Labels = labels.names().filter_map(now).collect();
    Ok(Opened { replay: Arc::new(stored.replay()?), labels: Some(labels) })
}

/// Where statements put what does not fit into memory, without what an earlier process left there.
fn spill_directory(data: &Path) -> anyhow::Result<PathBuf> {
    let directory = data.join("spill");
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot empty {}", directory.display()))
        }
        _ => fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display())),
    }?;
    Ok(directory)
}
