//! A place for objects in memory that does wrong what it is told to, at the request it is told.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use futures_util::{FutureExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails, and nothing has happened.
    Before,
    /// It fails, and has happened all the same: its answer is lost.
    After,
    /// The process ends before it.
    CrashBefore,
    /// The process ends after it.
    CrashAfter,
    /// What is stored, or returned, is cut short, and nothing says so.
    Truncated,
    /// A listing lacks what was written last, and has what was deleted last.
    Stale,
    /// Nothing has happened, and no answer ever comes.
    Silent,
    /// It has happened, and no answer ever comes; or the answer begins, and does not end.
    Stalled,
}

pub(crate) const FAULTS: [Fault; 8] = [
    Fault::Before,
    Fault::After,
    Fault::CrashBefore,
    Fault::CrashAfter,
    Fault::Truncated,
    Fault::Stale,
    Fault::Silent,
    Fault::Stalled,
];

impl Fault {
    /// Whether it goes wrong with a request of this kind that another one would not.
    pub(crate) fn concerns(self, kind: &str) -> bool {
        let (what, of) = kind.split_once(' ').unwrap();
        match self {
            // The journal's reader notices; its writer takes the store's word.
            Self::Truncated => {
                matches!(what, "put" | "get" | "part") && matches!(of, "segments" | "manifests" | "snapshots")
            }
            Self::Stale => what == "list",
            _ => true,
        }
    }
}

/// What a planted crash panics with.
pub(crate) const CRASH: &str = "a planted crash";

/// The place; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faulty {
    objects: Arc<InMemory>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// What every request so far was, as `put segments`.
    requests: Vec<String>,
    faults: BTreeMap<usize, Fault>,
    down: bool,
    /// Puts of what has this in its name fail.
    refused: Option<String>,
    /// Requests are those of a check: not counted, and nothing goes wrong with them.
    checking: bool,
    written: Option<Path>,
    deleted: Option<ObjectMeta>,
}

impl Faulty {
    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.kinds().len()
    }

    /// What kind each of them was: what was done, and the directory it was done in.
    pub(crate) fn kinds(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Plants a fault at the request of this number.
    pub(crate) fn plant(&self, request: usize, fault: Fault) {
        self.state.lock().unwrap().faults.insert(request, fault);
    }

    /// Faults that were planted and did not come yet are not to come.
    pub(crate) fn heal(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// Nothing can be put that has this in its name.
    pub(crate) fn refuse(&self, name: Option<&str>) {
        self.state.lock().unwrap().refused = name.map(str::to_owned);
    }

    /// Checks what is so, in peace.
    pub(crate) fn aside<R>(&self, check: impl FnOnce() -> R) -> R {
        self.state.lock().unwrap().checking = true;
        let result = check();
        self.state.lock().unwrap().checking = false;
        result
    }

    /// Whether every request fails.
    pub(crate) fn set_down(&self, down: bool) {
        self.state.lock().unwrap().down = down;
    }

    fn next(&self, what: &str, path: &Path) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        if state.checking {
            return None;
        }
        let refused =
            what == "put" && state.refused.as_ref().is_some_and(|name| path.as_ref().contains(name));
        let fault = if state.down || refused { Some(Fault::Before) } else { None };
        let number = state.requests.len();
        let fault = fault.or(state.faults.remove(&number));
        let directories = ["segments", "manifests", "snapshots", "journal", "terms"];
        let directory = directories.into_iter().find(|directory| path.as_ref().contains(directory));
        let kind = format!("{what} {}", directory.unwrap_or("other"));
        let fault = fault.filter(|fault| fault.concerns(&kind));
        state.requests.push(kind);
        fault
    }

    /// Does a request, or what its fault makes of it.
    async fn request<T>(&self, fault: Option<Fault>, request: impl Future<Output = Result<T>>) -> Result<T> {
        match fault {
            Some(Fault::Before) => Err(lost()),
            Some(Fault::CrashBefore) => resume_unwind(Box::new(CRASH)),
            Some(Fault::After) => {
                _ = request.await;
                Err(lost())
            }
            Some(Fault::CrashAfter) => {
                _ = request.await;
                resume_unwind(Box::new(CRASH))
            }
            Some(Fault::Silent) => silence().await,
            Some(Fault::Stalled) => {
                _ = request.await;
                silence().await
            }
            Some(Fault::Truncated | Fault::Stale) | None => request.await,
        }
    }
}

thread_local! {
    /// How many wait for an answer that never comes.
    static WAITING: Cell<usize> = const { Cell::new(0) };
}

/// While there is one, the clock of its runtime stands still, but jumps to what is waited for where there is nothing else to do.
struct Haste;

impl Haste {
    fn begin() -> Self {
        if WAITING.replace(WAITING.get() + 1) == 0 {
            tokio::time::pause();
        }
        Self
    }
}

impl Drop for Haste {
    fn drop(&mut self) {
        // Behind a planted crash there is another runtime.
        if thread::panicking() {
            WAITING.set(0);
        } else if WAITING.replace(WAITING.get() - 1) == 1 {
            tokio::time::resume();
        }
    }
}

async fn silence<T>() -> T {
    let _haste = Haste::begin();
    pending().await
}

/// Of an upload that is not known, or not any more, S3 says that it is not found.
fn as_s3_says_it(error: Error) -> Error {
    match error {
        Error::Generic { source, .. } if source.to_string().contains("MultipartUpload not found") => {
            Error::NotFound { path: "upload".to_owned(), source }
        }
        error => error,
    }
}

fn lost() -> Error {
    Error::Generic { store: "faulty", source: "planted".into() }
}

/// As much of it as is there when the end is cut off.
fn cut(payload: PutPayload, fault: Option<Fault>) -> PutPayload {
    if fault != Some(Fault::Truncated) {
        return payload;
    }
    let bytes = Bytes::from(payload);
    bytes.slice(..bytes.len() / 2).into()
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let fault = self.next("put", at);
        let result = self.request(fault, self.objects.put_opts(at, cut(payload, fault), opts)).await;
        self.state.lock().unwrap().written = Some(at.clone());
        result
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.next("get", at);
        let begins = fault.filter(|fault| *fault != Fault::Stalled);
        let mut result = self.request(begins, self.objects.get_opts(at, options)).await?;
        if let Some(Fault::Truncated | Fault::Stalled) = fault {
            let length = (result.range.end - result.range.start) as usize;
            let bytes = result.bytes().await?;
            let cut = bytes.slice(..length / 2);
            result = self.objects.get_opts(at, GetOptions::default()).await?;
            let half = stream::once(async { Ok(cut) });
            let rest = stream::once(silence()).take(usize::from(fault == Some(Fault::Stalled)));
            result.payload = GetResultPayload::Stream(half.chain(rest).boxed());
        }
        Ok(result)
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.objects.get_ranges(at, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let delete = move |at: Path| {
            let this = this.clone();
            async move {
                let fault = this.next("delete", &at);
                let objects = Arc::clone(&this.objects);
                let deleted = async {
                    let meta = objects.get_opts(&at, GetOptions::default()).await.map(|got| got.meta);
                    let one = stream::once(futures_util::future::ready(Ok(at.clone()))).boxed();
                    let result: Result<Vec<Path>> = objects.delete_stream(one).try_collect().await;
                    this.state.lock().unwrap().deleted = meta.ok();
                    result.map(|_| at.clone())
                };
                this.request(fault, deleted).await
            }
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned();
        let fault = self.next("list", prefix.as_ref().unwrap_or(&Path::default()));
        let this = self.clone();
        let listed = async move {
            let all = this.objects.list(prefix.as_ref()).try_collect::<Vec<_>>();
            let begins = fault.filter(|fault| *fault != Fault::Stalled);
            let mut all = match this.request(begins, all).await {
                Ok(all) => all,
                Err(error) => return vec![Err(error)],
            };
            if fault == Some(Fault::Stale) {
                let state = this.state.lock().unwrap();
                all.retain(|object| Some(&object.location) != state.written.as_ref());
                let under = |object: &&ObjectMeta| {
                    prefix.as_ref().is_none_or(|prefix| object.location.prefix_matches(prefix))
                };
                all.extend(state.deleted.iter().filter(under).cloned());
            }
            all.into_iter().map(Ok).collect()
        };
        let rest = stream::once(silence()).take(usize::from(fault == Some(Fault::Stalled)));
        listed.map(stream::iter).flatten_stream().chain(rest).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

#[async_trait::async_trait]
impl MultipartStore for Faulty {
    async fn create_multipart(&self, at: &Path) -> Result<MultipartId> {
        let fault = self.next("begin", at);
        self.request(fault, self.objects.create_multipart(at)).await
    }

    async fn create_multipart_opts(&self, at: &Path, _: PutMultipartOptions) -> Result<MultipartId> {
        self.create_multipart(at).await
    }

    async fn put_part(&self, at: &Path, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        let fault = self.next("part", at);
        self.request(fault, self.objects.put_part(at, id, part, cut(data, fault)))
            .await
            .map_err(as_s3_says_it)
    }

    async fn complete_multipart(&self, at: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        let fault = self.next("complete", at);
        self.request(fault, self.objects.complete_multipart(at, id, parts)).await.map_err(as_s3_says_it)
    }

    async fn abort_multipart(&self, at: &Path, id: &MultipartId) -> Result<()> {
        let fault = self.next("abort", at);
        self.request(fault, self.objects.abort_multipart(at, id)).await.map_err(as_s3_says_it)
    }
}
