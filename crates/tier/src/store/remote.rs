//! An object as a file to read from.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use icecore_log::sealed::ReadAt;
use tokio::runtime::{self, Runtime};

use super::{Store, StoreError};
use crate::cache::Cache;

/// What is fetched and kept at least: several pages of a sealed segment, and small enough for a point read.
const PIECE: u64 = 256 << 10;
/// What is fetched at most at once, when an object is read from front to back.
const LARGEST_FETCH: u64 = 8 << 20;

/// Makes requests for callers that wait for them: a runtime of its own, on the caller's thread. Cheap to clone. Not for
/// use from async code.
#[derive(Debug, Clone)]
pub struct Waiting {
    runtime: Arc<Requests>,
    cache: Option<Arc<Cache>>,
}

/// An object that is read at any place, in pieces which the cache keeps; the longer it is read in order, the more is
/// fetched ahead. It is held to never change.
#[derive(Debug)]
pub struct RemoteFile {
    waiting: Waiting,
    store: Store,
    path: String,
    /// What names its content in the cache.
    content: [u8; 32],
    bytes: u64,
    ahead: Mutex<Ahead>,
}

/// What was fetched last.
#[derive(Debug, Default)]
struct Ahead {
    /// Where it begins.
    start: u64,
    fetched: Bytes,
    /// How much the next fetch takes, if it begins where this one ends.
    next: u64,
}

/// The runtime of requests. Whoever waits is not for tasks, yet may be let go of by one: a log that was read for a statement is. So this does not
/// wait for what may still run, which a task must not.
#[derive(Debug)]
struct Requests(Option<Runtime>);

impl Drop for Requests {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Waiting {
    /// A runtime for requests, whose answers `cache` keeps.
    ///
    /// # Errors
    /// When the system has no room for it.
    pub fn new(cache: Option<Arc<Cache>>) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime: Arc::new(Requests(Some(runtime))), cache })
    }

    /// Waits for what a store does.
    pub fn wait<T>(&self, request: impl Future<Output = T>) -> T {
        let Requests(runtime) = &*self.runtime;
        runtime.as_ref().expect("it is there until it is dropped").block_on(request)
    }

    /// The object `path` of `store`, whose content is named by `content` in the cache; nothing is requested yet. `bytes` is
    /// its size.
    #[must_use]
    pub fn open(&self, store: &Store, path: &str, content: [u8; 32], bytes: u64) -> RemoteFile {
        RemoteFile {
            waiting: self.clone(),
            store: store.clone(),
            path: path.to_owned(),
            content,
            bytes,
            ahead: Mutex::default(),
        }
    }
}

/// Errors are `UnexpectedEof` where the object ends; `NotFound` when it is gone; another kind with a [`StoreError`] inside
/// otherwise.
impl ReadAt for RemoteFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|&end| end <= self.bytes);
        let end = end.ok_or_else(|| {
            let reason = format!("{}: it has {} bytes, and no more at {offset}", self.path, self.bytes);
            io::Error::new(io::ErrorKind::UnexpectedEof, reason)
        })?;
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut at, mut filled) = (offset, 0);
        while at < end {
            if !ahead.range().contains(&at) {
                *ahead = self.fetch(&ahead, at, end)?;
            }
            let have = ahead.range().end.min(end);
            let from = usize::try_from(at - ahead.start).map_err(io::Error::other)?;
            let length = usize::try_from(have - at).map_err(io::Error::other)?;
            buf[filled..filled + length].copy_from_slice(&ahead.fetched[from..from + length]);
            (at, filled) = (have, filled + length);
        }
        Ok(())
    }
}

impl RemoteFile {
    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fetches what holds `at`, and as much up to `end` as one fetch may take; more if it goes on where `last` ended.
    fn fetch(&self, last: &Ahead, at: u64, end: u64) -> io::Result<Ahead> {
        let number = at / PIECE;
        let start = number * PIECE;
        let in_order = start == last.range().end && last.next > 0;
        if let Some(piece) = self.waiting.cache.as_ref().and_then(|cache| cache.get(&self.content, number)) {
            let next = if in_order { last.next } else { PIECE };
            return Ok(Ahead { start, fetched: piece.into(), next });
        }
        let wanted = (end - start).next_multiple_of(PIECE).min(LARGEST_FETCH);
        let length = if in_order { wanted.max(last.next) } else { wanted }.min(self.bytes - start);
        let range = start..start + length;
        let fetched = self.waiting.wait(self.store.get_range(&self.path, range)).map_err(into_io)?;
        if let Some(cache) = &self.waiting.cache {
            let pieces = fetched.chunks(usize::try_from(PIECE).expect("a small number"));
            for (number, piece) in (number..).zip(pieces) {
                cache.put(&self.content, number, piece);
            }
        }
        Ok(Ahead { start, fetched, next: (length * 2).clamp(PIECE, LARGEST_FETCH) })
    }
}

impl Ahead {
    fn range(&self) -> Range<u64> {
        self.start..self.start + self.fetched.len() as u64
    }
}

/// For readers that know files only.
fn into_io(error: StoreError) -> io::Error {
    let kind = if error.is_missing() { io::ErrorKind::NotFound } else { io::ErrorKind::Other };
    io::Error::new(kind, error)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::Place;

    /// An object of `bytes` bytes at memory, its content, and the file.
    fn object(bytes: u64, cache: Option<Arc<Cache>>) -> (Vec<u8>, Store, RemoteFile) {
        let mut content = vec![0; usize::try_from(bytes).unwrap()];
        blake3::Hasher::new().finalize_xof().fill(&mut content);
        let store = Store::new("cold", Place::open("cold", "memory://", &BTreeMap::new()).unwrap(), 0);
        let waiting = Waiting::new(cache).unwrap();
        waiting.wait(store.put_new("object", content.clone().into())).unwrap();
        let file = waiting.open(&store, "object", [7; 32], bytes);
        (content, store, file)
    }

    fn read(file: &RemoteFile, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; usize::try_from(range.end - range.start).unwrap()];
        file.read_at(range.start, &mut buf).map(|()| buf)
    }

    #[test]
    fn any_place_is_read() {
        let length = 3 * PIECE + 17;
        let (content, _, file) = object(length, None);
        for range in
            [0..0, 0..1, 5..PIECE + 5, PIECE - 1..PIECE + 1, 0..length, length - 1..length, length..length]
        {
            let expected =
                &content[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
            assert_eq!(read(&file, range.clone()).unwrap(), expected, "{range:?}");
        }
        assert_eq!(read(&file, length - 1..length + 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(&file, u64::MAX..u64::MAX).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_read_in_order_is_fetched_further_ahead() {
        let (_, _, file) = object(40 << 20, None);
        let mut fetches = 0;
        let mut last = 0..0;
        for at in (0..file.bytes).step_by(usize::try_from(PIECE / 2).unwrap()) {
            read(&file, at..at + 1).unwrap();
            let range = file.ahead.lock().unwrap().range();
            fetches += u32::from(range != last);
            last = range;
        }
        assert!(fetches <= 5 + 5, "{fetches} fetches");
        read(&file, 0..1).unwrap();
        assert_eq!(file.ahead.lock().unwrap().range(), 0..PIECE, "a jump takes what is wanted");
    }

    #[test]
    fn what_the_cache_has_is_not_requested() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Arc::new(Cache::open(directory.path(), 1 << 30).unwrap());
        let (content, store, file) = object(PIECE + 9, Some(cache));
        read(&file, 0..PIECE + 9).unwrap();
        file.waiting.wait(store.delete("object")).unwrap();
        let again = file.waiting.open(&store, "object", [7; 32], PIECE + 9);
        assert_eq!(read(&again, 0..PIECE + 9).unwrap(), content);
        let other = file.waiting.open(&store, "object", [8; 32], PIECE + 9);
        let error = read(&other, 0..1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(error.to_string(), "store `cold`: no object object");
    }
}
