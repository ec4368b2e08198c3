//! What the journal needs of object storage.

use bytes::Bytes;

use crate::store::{Store, StoreError, Waiting};

/// Objects that are created once, read and listed. Names are relative to the bucket's prefix.
pub trait Bucket: Send + Sync {
    /// Creates an object; durable when it returns. A creation that fails may have happened all the same, then the next
    /// try says that it exists.
    ///
    /// # Errors
    /// [`BucketError::Exists`] when there is an object of this name, which is left as it is.
    fn create(&self, name: &str, bytes: &[u8]) -> Result<(), BucketError>;

    /// Reads an object.
    ///
    /// # Errors
    /// [`BucketError::Absent`] when there is none of this name.
    fn get(&self, name: &str) -> Result<Vec<u8>, BucketError>;

    /// The names under the directory `prefix`, which ends with a `/`, ascending. Whatever was created before is among them.
    ///
    /// # Errors
    /// When the bucket does not answer.
    fn list(&self, prefix: &str) -> Result<Vec<String>, BucketError>;
}

/// What a bucket says no with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// There is an object of this name.
    #[error("it exists already")]
    Exists,
    /// There is no object of this name.
    #[error("it is not there")]
    Absent,
    /// The bucket does not answer, or says to come again.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Anything that trying again does not mend.
    #[error("{0}")]
    Other(String),
}

/// A store as a bucket. It waits for the store's answers, so it is nothing for a thread that runs tasks.
#[derive(Debug, Clone)]
pub struct StoreBucket {
    store: Store,
    waiting: Waiting,
}

impl StoreBucket {
    /// The bucket in `store`, whose answers are waited for with `waiting`.
    #[must_use]
    pub fn new(store: Store, waiting: Waiting) -> Self {
        Self { store, waiting }
    }
}

impl From<StoreError> for BucketError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Exists { .. } => Self::Exists,
            StoreError::Missing { .. } => Self::Absent,
            error if error.is_transient() => Self::Unavailable(error.to_string()),
            error => Self::Other(error.to_string()),
        }
    }
}

impl Bucket for StoreBucket {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<(), BucketError> {
        self.waiting.wait(self.store.put_new(name, Bytes::copy_from_slice(bytes)))?;
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, BucketError> {
        Ok(self.waiting.wait(self.store.get(name))?.into())
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, BucketError> {
        let mut names = Vec::new();
        self.waiting.wait(self.store.list(prefix, |object| names.push(object.path)))?;
        names.sort();
        Ok(names)
    }
}
