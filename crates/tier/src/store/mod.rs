//! Object storage, as the tiers use it: immutable objects that are put whole, read back in ranges, listed and deleted.
//!
//! A [`Store`] is a place in a bucket of S3 or of what speaks like it, a local directory, or memory. Whatever the place,
//! a request that fails says what can be done about it ([`StoreError`]), and a place that fails again and again is left
//! alone for a while.

mod bandwidth;
mod breaker;
mod directory;
mod error;
mod place;
mod remote;
mod upload;

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::time::{sleep, timeout};

use bandwidth::Bandwidth;
use breaker::Breaker;
use directory::Directory;
pub use error::StoreError;
pub use place::Place;
pub use remote::{RemoteFile, Waiting};
pub(crate) use upload::upload_requests;
pub use upload::{Digest, Parts, Progress};

/// A request that is not answered within this time has failed: longer than a part of the largest size takes on a slow line.
const PATIENCE: Duration = Duration::from_secs(120);

/// A place for objects. Cheap to clone; clones share the breaker and the bandwidth.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    prefix: Path,
    objects: Arc<dyn ObjectStore>,
    /// Uploads in parts that survive this process, where the place has them.
    parts: Option<MultipartPlace>,
    directory: Option<Directory>,
    breaker: Mutex<Breaker>,
    bandwidth: Mutex<Bandwidth>,
    requests: AtomicU64,
    fetched: AtomicU64,
}

/// The same place as the objects are in, seen as one for uploads in parts.
struct MultipartPlace(Arc<dyn MultipartStore>);

/// What a listing says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its path, as [`Store::put_new`] takes it.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// What became of a create-only object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was created.
    Created,
    /// It was there already, with the same content: an earlier try had succeeded after all.
    WasThere,
}

impl Store {
    /// The store that the configuration calls `name`, at `place`, which takes at most `bytes_per_s` each way; 0 is no limit.
    #[must_use]
    pub fn new(name: &str, place: Place, bytes_per_s: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                prefix: place.prefix,
                objects: place.objects,
                parts: place.parts.map(MultipartPlace),
                directory: place.directory,
                breaker: Mutex::new(Breaker::new()),
                bandwidth: Mutex::new(Bandwidth::new(bytes_per_s)),
                requests: AtomicU64::new(0),
                fetched: AtomicU64::new(0),
            }),
        }
    }

    /// The store at a URL that no configuration names; it is called by its URL. See [`Place::open`] for `options`.
    ///
    /// # Errors
    /// When the URL or an option is not understood.
    pub fn of_url(url: &str, options: &[(String, String)]) -> Result<Self, StoreError> {
        let options = options.iter().cloned().collect();
        Ok(Self::new(url, Place::open(url, url, &options)?, 0))
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Whether it is used: `false` while it is left alone after failures.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        lock(&self.inner.breaker).is_closed()
    }

    /// Requests that were made. What the client tries again by itself, and the pages of a listing, count once.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed)
    }

    /// Bytes of objects that were fetched.
    #[must_use]
    pub fn fetched(&self) -> u64 {
        self.inner.fetched.load(Ordering::Relaxed)
    }

    /// Creates the object `path` with `content`, unless there is one.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when there is one with other content; and whatever the place does wrong.
    pub async fn put_new(&self, path: &str, content: Bytes) -> Result<Put, StoreError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let created = self
            .request("create", path, content.len() as u64, |objects, at| {
                let (content, options) = (content.clone(), options.clone());
                async move { objects.put_opts(&at, content.into(), options).await }
            })
            .await;
        match created {
            Ok(_) => Ok(Put::Created),
            // A put that timed out may have succeeded: the object itself says whose it is.
            Err(StoreError::Exists { .. }) if self.get(path).await? == content => Ok(Put::WasThere),
            Err(error) => Err(error),
        }
    }

    /// The whole of a small object.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is none; and whatever the place does wrong.
    pub async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        let bytes = self
            .request("read", path, 0, |objects, at| async move { objects.get(&at).await?.bytes().await })
            .await?;
        self.inner.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// The bytes in `range` of an object.
    ///
    /// # Errors
    /// When the object is missing or does not reach so far; and whatever the place does wrong.
    pub async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let wanted = range.end - range.start;
        let bytes = self
            .request("read", path, wanted, |objects, at| {
                let range = GetRange::Bounded(range.clone());
                async move {
                    let options = GetOptions { range: Some(range), ..GetOptions::default() };
                    objects.get_opts(&at, options).await?.bytes().await
                }
            })
            .await?;
        self.inner.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if bytes.len() as u64 != wanted {
            let reason =
                format!("it ends {} bytes early: the object was cut short", wanted - bytes.len() as u64);
            return Err(self.unavailable("read", path, reason));
        }
        Ok(bytes)
    }

    /// The size of an object in bytes, or `None` if there is no such object.
    ///
    /// # Errors
    /// Whatever the place does wrong.
    pub async fn size(&self, path: &str) -> Result<Option<u64>, StoreError> {
        let head =
            self.request("look at", path, 0, |objects, at| async move { objects.head(&at).await }).await;
        match head {
            Ok(object) => Ok(Some(object.size)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells `each` of every object whose path begins with the directory `under`, in no order.
    ///
    /// # Errors
    /// Whatever the place does wrong; some objects may have been told by then.
    pub async fn list(&self, under: &str, mut each: impl FnMut(Listed)) -> Result<(), StoreError> {
        let directory = self.at(under);
        self.admit()?;
        let mut listing = self.inner.objects.list(Some(&directory));
        loop {
            let next = timeout(PATIENCE, listing.try_next()).await;
            let Some(object) = self.judge("list", under, next)? else { return Ok(()) };
            let path = object
                .location
                .prefix_match(&self.inner.prefix)
                .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"));
            let path = path.unwrap_or_else(|| object.location.to_string());
            each(Listed { path, bytes: object.size });
        }
    }

    /// Deletes an object; one that is not there is no error.
    ///
    /// # Errors
    /// Whatever the place does wrong.
    pub async fn delete(&self, path: &str) -> Result<(), StoreError> {
        let deleted =
            self.request("delete", path, 0, |objects, at| async move { objects.delete(&at).await }).await;
        match deleted {
            Err(error) if !error.is_missing() => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes what uploads to the directory `under` have begun and a crash has left, where the place does not do that itself;
    /// returns how many objects that were to be. Nobody may upload there meanwhile.
    ///
    /// # Errors
    /// Whatever the place does wrong.
    pub(crate) fn remove_unfinished(&self, under: &str) -> Result<u64, StoreError> {
        let Some(directory) = &self.inner.directory else { return Ok(0) };
        let removed = directory.check().map_err(io::Error::other);
        let removed = removed.and_then(|()| directory.remove_unfinished(under));
        removed.map_err(|error| self.unavailable("clear", under, error.to_string()))
    }

    fn at(&self, path: &str) -> Path {
        self.inner.prefix.parts().chain(Path::from(path).parts()).collect()
    }

    /// Makes one request that carries `bytes`, when the store is used at all and the bandwidth is there.
    async fn request<T, F>(
        &self,
        action: &'static str,
        path: &str,
        bytes: u64,
        request: impl FnOnce(Arc<dyn ObjectStore>, Path) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        self.admit()?;
        self.pace(bytes).await;
        let answer = timeout(PATIENCE, request(Arc::clone(&self.inner.objects), self.at(path))).await;
        self.judge(action, path, answer)
    }

    async fn pace(&self, bytes: u64) {
        let wait = lock(&self.inner.bandwidth).take(bytes, Instant::now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    fn admit(&self) -> Result<(), StoreError> {
        lock(&self.inner.breaker).admit(Instant::now()).map_err(|resting| StoreError::Resting {
            store: self.name().to_owned(),
            failures: resting.failures,
            retry_after: resting.retry_after,
        })?;
        self.inner.requests.fetch_add(1, Ordering::Relaxed);
        let Some(directory) = &self.inner.directory else { return Ok(()) };
        let there = directory.check().map_err(|reason| self.unavailable("reach", "it", reason));
        there.inspect_err(|error| self.note_failure(error))
    }

    /// Turns an answer into what the caller can act on, and tells the breaker.
    fn judge<T>(
        &self,
        action: &'static str,
        path: &str,
        answer: Result<object_store::Result<T>, tokio::time::error::Elapsed>,
    ) -> Result<T, StoreError> {
        // A directory may have gone under the request: then it was another one, made anew, that it was answered from.
        let there = self.inner.directory.as_ref().map_or(Ok(()), Directory::check);
        let result = match (there, answer) {
            (Err(reason), _) => Err(self.unavailable(action, path, reason)),
            (Ok(()), Ok(answer)) => answer.map_err(|error| StoreError::of(self.name(), action, path, &error)),
            (Ok(()), Err(_)) => {
                Err(self.unavailable(action, path, format!("no answer within {} s", PATIENCE.as_secs())))
            }
        };
        match &result {
            Err(error) if error.is_transient() => self.note_failure(error),
            _ => {
                if lock(&self.inner.breaker).answered() {
                    tracing::info!(store = self.name(), "store answers again");
                }
            }
        }
        result
    }

    fn note_failure(&self, error: &StoreError) {
        let rest = lock(&self.inner.breaker).failed(Instant::now(), fastrand::f64());
        if let Some(rest) = rest {
            tracing::warn!(store = self.name(), rest_s = rest.as_secs(), %error, "store left alone");
        }
    }

    fn unavailable(&self, action: &'static str, path: &str, reason: String) -> StoreError {
        StoreError::Unavailable { store: self.name().to_owned(), action, path: path.to_owned(), reason }
    }
}

impl std::fmt::Debug for MultipartPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MultipartPlace")
    }
}

/// Locks what no holder leaves half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
