//! Where a log is read from: a data directory and what its catalog knows to be elsewhere, or a bucket alone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_schema::Declared;
use icecore_tier::cache::Cache;
use icecore_tier::catalog::{Catalog, CatalogError};
use icecore_tier::elsewhere::Elsewhere;
use icecore_tier::journal::JournalError;
use icecore_tier::manifests;
use icecore_tier::store::{Store, StoreError, Waiting};
use tempfile::TempDir;

use crate::{Replay, ReplayError};

/// A place that holds a log. It can be opened again and again, each time as it is then.
#[derive(Debug)]
pub struct DataSource {
    place: Place,
    waiting: Waiting,
    declared: Declared,
    warnings: Vec<String>,
}

#[derive(Debug)]
enum Place {
    /// A data directory, and the stores that its catalog may speak of.
    Data { directory: PathBuf, stores: Vec<Store> },
    /// A store, and where its manifests are put. The directory stays for as long as anybody reads by them.
    Bucket { store: Store, fetched: Arc<TempDir> },
}

/// A log that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The log as it was at that moment.
    pub replay: Replay,
    /// What is wrong, though the log can be read: what people should be told.
    pub warnings: Vec<String>,
}

/// A log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory is none of a log. An empty log is fine; a mistyped directory is not an empty log.
    #[error("{} holds no log; is it the data directory of a server?", directory.display())]
    NoLog {
        /// The directory.
        directory: PathBuf,
    },
    /// A bucket holds no log.
    #[error("nothing was archived in {store}; is it the whole URL?")]
    NothingArchived {
        /// The store.
        store: String,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal of a bucket cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The system has no room for requests.
    #[error("cannot make requests: {0}")]
    Requests(#[source] io::Error),
    /// The system has no room for manifests.
    #[error("cannot make a temporary directory: {0}")]
    Temporary(#[source] io::Error),
}

impl DataSource {
    /// A data directory, with or without a running server. What is in object storage only is read from those of `stores` that its
    /// catalog names; of that, up to `cache` bytes are kept in the directory.
    ///
    /// # Errors
    /// When the system has no room for requests.
    pub fn data(
        directory: &Path,
        stores: impl IntoIterator<Item = Store>,
        cache: u64,
    ) -> Result<Self, OpenError> {
        let stores: Vec<Store> = stores.into_iter().collect();
        let mut warnings = Vec::new();
        let cache = match (!stores.is_empty()).then(|| Cache::open(&directory.join("cache"), cache)) {
            Some(Err(error)) => {
                warnings.push(format!("what is read from object storage is not kept: {error}"));
                None
            }
            opened => opened.and_then(Result::ok).map(Arc::new),
        };
        let waiting = Waiting::new(cache).map_err(OpenError::Requests)?;
        let place = Place::Data { directory: directory.to_owned(), stores };
        Ok(Self { place, waiting, declared: Declared::default(), warnings })
    }

    /// What is archived in a store, with nothing else at hand. Its manifests, which are small, are put into a temporary directory.
    ///
    /// # Errors
    /// When the system has no room for them, or for requests.
    pub fn bucket(store: Store) -> Result<Self, OpenError> {
        let fetched = Arc::new(tempfile::tempdir().map_err(OpenError::Temporary)?);
        let waiting = Waiting::new(None).map_err(OpenError::Requests)?;
        let place = Place::Bucket { store, fetched };
        Ok(Self { place, waiting, declared: Declared::default(), warnings: Vec::new() })
    }

    /// Reads events of older versions as `declared` says, see [`Replay::with_schemas`].
    #[must_use]
    pub fn with_schemas(self, declared: Declared) -> Self {
        Self { declared, ..self }
    }

    /// The log as it is now.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn open(&self) -> Result<Opened, OpenError> {
        let mut warnings = self.warnings.clone();
        let replay = match &self.place {
            Place::Data { directory, stores } => self.open_data(directory, stores)?,
            Place::Bucket { store, fetched } => {
                manifests::fetch(store, &self.waiting, fetched.path())?;
                let (elsewhere, faults) = Elsewhere::in_bucket(store.clone(), self.waiting.clone())?;
                warnings.extend(faults.iter().map(|fault| format!("journal: {fault}")));
                let replay = Replay::open(fetched.path())?;
                if replay.reader().manifests().is_empty() {
                    return Err(OpenError::NothingArchived { store: store.name().to_owned() });
                }
                replay.with_elsewhere(elsewhere).keeping(Arc::clone(fetched))
            }
        };
        Ok(Opened { replay: replay.with_schemas(self.declared.clone()), warnings })
    }

    fn open_data(&self, directory: &Path, stores: &[Store]) -> Result<Replay, OpenError> {
        if !directory.join("hot").is_dir() {
            return Err(OpenError::NoLog { directory: directory.to_owned() });
        }
        let replay = Replay::open(directory)?;
        let catalog = match Catalog::read(directory) {
            Ok(catalog) => catalog,
            Err(CatalogError::Absent { .. }) => return Ok(replay),
            Err(error) => return Err(error.into()),
        };
        let stores = stores.iter().cloned();
        Ok(replay.with_elsewhere(Elsewhere::new(move || catalog.view(), stores, self.waiting.clone())))
    }
}
