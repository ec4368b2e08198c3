//! Uploads: whole or in parts, resumed where they stopped; and reading back what arrived.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use blake3::Hasher;
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::multipart::PartId;
use object_store::{Attribute, Attributes, ObjectStoreExt, PutMultipartOptions, PutOptions, WriteMultipart};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{PATIENCE, Store, StoreError};

/// Files up to this size go in one request; larger ones in parts of it. S3 wants parts of at least 5 MiB.
const PART: u64 = 16 << 20;
/// S3's limit is 10,000 parts; larger files get larger parts.
const PARTS: u64 = 9_000;

/// BLAKE3 of an object's bytes, in order, and how many they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// The hash.
    pub hash: [u8; 32],
    /// The size.
    pub bytes: u64,
}

/// An upload in parts, as far as it is. Whoever keeps it can go on after a crash, or have it aborted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// The object that is to be.
    pub object: String,
    /// The place's name for the upload.
    pub id: String,
    /// Bytes of every part but the last.
    pub part_bytes: u64,
    /// The place's names of the parts that have arrived, from the first on.
    pub arrived: Vec<String>,
}

/// Keeps the state of an upload in parts.
pub trait Progress: Send {
    /// What was kept last, if an upload had begun before.
    fn resumed(&self) -> Option<Parts>;

    /// Keeps `parts` durably; `None` when the upload is over.
    ///
    /// # Errors
    /// When that fails; the upload stops there.
    fn keep(&mut self, parts: Option<&Parts>) -> Result<(), io::Error>;
}

/// Requests that write which the upload of a file of so many bytes takes, if none fails.
pub(crate) fn upload_requests(bytes: u64) -> u64 {
    let parts = bytes.div_ceil(part_bytes(bytes));
    if bytes <= PART { 1 } else { parts + 2 } // to begin and to complete it
}

/// Bytes of every part but the last of a file of so many.
fn part_bytes(bytes: u64) -> u64 {
    PART.max(bytes.div_ceil(PARTS))
}

impl Store {
    /// Uploads the file at `local` as the object `path`, in storage class `class` (`None` is the place's usual one; a
    /// directory has no other), and returns the digest of what was sent. An object that is there is replaced.
    ///
    /// # Errors
    /// When the file cannot be read or the place fails; the next call goes on from what `progress` kept.
    pub async fn upload(
        &self,
        path: &str,
        class: Option<&str>,
        local: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Digest, StoreError> {
        let failed = |source| StoreError::Local { path: local.to_owned(), source };
        let mut file = File::open(local).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let mut attributes = Attributes::new();
        if let Some(class) = class.filter(|_| self.inner.parts.is_some()) {
            attributes.insert(Attribute::StorageClass, class.to_owned().into());
        }
        if bytes <= PART {
            let content = Bytes::from(read_part(&mut file, bytes).map_err(failed)?);
            let digest = Digest { hash: *blake3::hash(&content).as_bytes(), bytes };
            let options = PutOptions { attributes, ..PutOptions::default() };
            self.request("upload", path, bytes, |objects, at| async move {
                objects.put_opts(&at, content.into(), options).await
            })
            .await?;
            return Ok(digest);
        }
        if self.inner.parts.is_some() {
            self.upload_parts(path, attributes, &mut file, bytes, progress).await
        } else {
            self.upload_stream(path, &mut file, bytes).await
        }
        .map_err(|error| match error {
            UploadError::Store(error) => error,
            UploadError::Local(source) => failed(source),
        })
    }

    /// Gives up an upload in parts, so that the place does not keep (and bill) its parts.
    ///
    /// # Errors
    /// Whatever the place does wrong.
    pub async fn abort(&self, parts: &Parts) -> Result<(), StoreError> {
        let Some(place) = &self.inner.parts else { return Ok(()) };
        self.admit()?;
        let Parts { object, id, .. } = parts;
        let aborted = timeout(PATIENCE, place.0.abort_multipart(&self.at(object), id)).await;
        match self.judge("abort the upload of", object, aborted) {
            Err(error) if !error.is_missing() => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads an object back, whole.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is none; and whatever the place does wrong.
    pub async fn read_back(&self, path: &str) -> Result<Digest, StoreError> {
        self.read_whole(path, |_| Ok(())).await
    }

    /// Writes an object into a new file at `local`.
    ///
    /// # Errors
    /// As [`Store::read_back`]; and when the file cannot be written.
    pub async fn download(&self, path: &str, local: &Path) -> Result<Digest, StoreError> {
        let failed = |source| StoreError::Local { path: local.to_owned(), source };
        let mut file = File::create(local).map_err(failed)?;
        self.read_whole(path, |piece| file.write_all(piece).map_err(failed)).await
    }

    /// Shows all pieces of an object to `each`, in order.
    async fn read_whole(
        &self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<Digest, StoreError> {
        let mut content =
            self.request("read back", path, 0, |objects, at| async move {
                Ok(objects.get(&at).await?.into_stream())
            })
            .await?;
        let (mut hasher, mut bytes) = (Hasher::new(), 0);
        loop {
            let next = timeout(PATIENCE, content.try_next()).await;
            let Some(piece) = self.judge("read back", path, next)? else { break };
            self.pace(piece.len() as u64).await;
            bytes += piece.len() as u64;
            hasher.update(&piece);
            each(&piece)?;
        }
        Ok(Digest { hash: *hasher.finalize().as_bytes(), bytes })
    }

    /// Sends a large file in parts that the place keeps until the upload is completed or aborted.
    async fn upload_parts(
        &self,
        path: &str,
        attributes: Attributes,
        file: &mut File,
        bytes: u64,
        progress: &mut dyn Progress,
    ) -> Result<Digest, UploadError> {
        let place = self.inner.parts.as_ref().expect("the caller looked");
        let at = self.at(path);
        let (ours, other) = match progress.resumed() {
            Some(parts) if parts.object == path => (Some(parts), None),
            other => (None, other),
        };
        if let Some(other) = other {
            self.abort(&other).await?;
            progress.keep(None)?;
        }
        let mut parts = match ours {
            Some(parts) => parts,
            None => {
                self.admit()?;
                let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
                let begun = timeout(PATIENCE, place.0.create_multipart_opts(&at, options)).await;
                let id = self.judge("begin the upload of", path, begun)?;
                let (object, part_bytes) = (path.to_owned(), part_bytes(bytes));
                let parts = Parts { object, id, part_bytes, arrived: Vec::new() };
                progress.keep(Some(&parts))?;
                parts
            }
        };
        let mut hasher = Hasher::new();
        for number in 0..bytes.div_ceil(parts.part_bytes) {
            let content = read_part(file, parts.part_bytes.min(bytes - number * parts.part_bytes))?;
            hasher.update(&content);
            let index = usize::try_from(number).expect("at most ten thousand parts");
            if index < parts.arrived.len() {
                continue;
            }
            self.admit()?;
            self.pace(content.len() as u64).await;
            let sent = timeout(PATIENCE, place.0.put_part(&at, &parts.id, index, content.into())).await;
            match self.judge("upload a part of", path, sent) {
                Ok(part) => parts.arrived.push(part.content_id),
                Err(error) => return Err(self.forget_if_gone(error, progress)?),
            }
            progress.keep(Some(&parts))?;
        }
        let arrived = parts.arrived.iter().map(|id| PartId { content_id: id.clone() }).collect();
        let completed = timeout(PATIENCE, place.0.complete_multipart(&at, &parts.id, arrived)).await;
        if let Err(error) = self.judge("complete the upload of", path, completed) {
            return Err(self.forget_if_gone(error, progress)?);
        }
        progress.keep(None)?;
        Ok(Digest { hash: *hasher.finalize().as_bytes(), bytes })
    }

    /// An upload that the place does not know any more (aborted by its lifecycle rules, or completed by a request whose
    /// answer was lost) is begun anew the next time.
    fn forget_if_gone(
        &self,
        error: StoreError,
        progress: &mut dyn Progress,
    ) -> Result<UploadError, io::Error> {
        if !error.is_missing() {
            return Ok(error.into());
        }
        progress.keep(None)?;
        let StoreError::Missing { path, .. } = error else { unreachable!("it is missing") };
        Ok(self
            .unavailable("go on with the upload of", &path, "the place has forgotten it".to_owned())
            .into())
    }

    /// Sends a large file to a place that takes it in one go.
    async fn upload_stream(&self, path: &str, file: &mut File, bytes: u64) -> Result<Digest, UploadError> {
        let upload =
            self.request("begin the upload of", path, 0, |objects, at| async move {
                objects.put_multipart(&at).await
            })
            .await?;
        let mut writer = WriteMultipart::new(upload);
        let (mut hasher, mut left) = (Hasher::new(), bytes);
        while left > 0 {
            let content = read_part(file, left.min(PART))?;
            hasher.update(&content);
            left -= content.len() as u64;
            self.pace(content.len() as u64).await;
            let room = timeout(PATIENCE, writer.wait_for_capacity(1)).await;
            self.judge("upload", path, room)?;
            writer.put(content.into());
        }
        let finished = timeout(PATIENCE, writer.finish()).await;
        self.judge("complete the upload of", path, finished)?;
        Ok(Digest { hash: *hasher.finalize().as_bytes(), bytes })
    }
}

/// Why an upload stopped.
enum UploadError {
    Store(StoreError),
    Local(io::Error),
}

impl From<StoreError> for UploadError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        Self::Local(error)
    }
}

/// The next `bytes` of `file`.
fn read_part(file: &mut File, bytes: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(bytes).map_err(io::Error::other)?;
    let mut content = vec![0; length];
    file.read_exact(&mut content)?;
    Ok(content)
}
