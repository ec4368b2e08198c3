//! What stores are asked, counted on the way: by a place around another place, or by a proxy.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Kinds of requests, as stores bill them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Put,
    Get,
    List,
    Delete,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    /// The object, or what is listed, below the store's prefix; with the store's name before it.
    pub(crate) object: String,
    /// Bytes that were sent.
    pub(crate) bytes: u64,
}

/// The requests to all stores of a site; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    requests: Arc<Mutex<Vec<Request>>>,
    aside: Arc<AtomicBool>,
}

impl Log {
    pub(crate) fn note(&self, kind: Kind, object: &str, bytes: u64) {
        if !self.aside.load(Ordering::SeqCst) {
            let object = object.to_owned();
            self.requests.lock().unwrap().push(Request { kind, object, bytes });
        }
    }

    /// Those since the last time.
    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }

    /// Looks at what is there, which does not count.
    pub(crate) fn aside<R>(&self, look: impl FnOnce() -> R) -> R {
        self.aside.store(true, Ordering::SeqCst);
        let result = look();
        self.aside.store(false, Ordering::SeqCst);
        result
    }
}

/// A place whose requests are counted.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) store: &'static str,
    pub(crate) log: Log,
}

impl Counted {
    fn note(&self, kind: Kind, object: &Path, bytes: u64) {
        self.log.note(kind, &format!("{}/{object}", self.store), bytes);
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counted")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Counted {
    async fn put_opts(&self, at: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.note(Kind::Put, at, payload.content_length() as u64);
        // A directory has no storage classes.
        let opts = PutOptions { attributes: Default::default(), ..opts };
        self.objects.put_opts(at, payload, opts).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "parts".to_owned(), implementer: "Counted".to_owned() })
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.note(Kind::Get, at, 0);
        self.objects.get_opts(at, options).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.note(Kind::Get, at, 0);
        self.objects.get_ranges(at, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let noted = locations.inspect(move |at| {
            if let Ok(at) = at {
                this.note(Kind::Delete, at, 0);
            }
        });
        self.objects.delete_stream(noted.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.note(Kind::List, prefix.unwrap_or(&Path::default()), 0);
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.note(Kind::List, prefix.unwrap_or(&Path::default()), 0);
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

#[async_trait::async_trait]
impl MultipartStore for Counted {
    async fn create_multipart(&self, at: &Path) -> Result<MultipartId> {
        unreachable!("{at} is small")
    }

    async fn put_part(&self, at: &Path, _: &MultipartId, _: usize, _: PutPayload) -> Result<PartId> {
        unreachable!("{at} is small")
    }

    async fn complete_multipart(&self, at: &Path, _: &MultipartId, _: Vec<PartId>) -> Result<PutResult> {
        unreachable!("{at} is small")
    }

    async fn abort_multipart(&self, at: &Path, _: &MultipartId) -> Result<()> {
        unreachable!("{at} is small")
    }
}
