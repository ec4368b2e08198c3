//! A data directory with a catalog, a bucket that can fail, and a clock that is turned by hand.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use icecore_tier::catalog::{Catalog, CatalogError, Entry, NewManifest, NewSegment, Sealed, Why};
use icecore_tier::journal::{Bucket, BucketError};
use icecore_tier::segment::{Content, SegmentId, Share, Span};
use tempfile::TempDir;

pub(crate) const DAY: i64 = 86_400_000_000_000;
pub(crate) const POLICIES: &str = "[[policy]]\nname = \"keep\"\ndelete = \"never\"\n";

/// Every schema has the policy of its name.
pub(crate) fn by_schema(bytes: u64, contents: &[Content]) -> Vec<Share> {
    let mut rows: BTreeMap<&str, u64> = BTreeMap::new();
    for content in contents {
        *rows.entry(&content.schema).or_default() += content.rows;
    }
    let all: u64 = rows.values().sum();
    let share = |(policy, &rows): (&&str, &u64)| Share {
        policy: (*policy).to_owned(),
        rows,
        bytes: bytes * rows / all,
    };
    let mut shares: Vec<_> = rows.iter().map(share).collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.rows));
    shares
}

/// Everything has one policy.
pub(crate) fn all_keep(bytes: u64, contents: &[Content]) -> Vec<Share> {
    let rows = contents.iter().map(|content| content.rows).sum();
    vec![Share { policy: "keep".to_owned(), rows, bytes }]
}

pub(crate) fn id(manifest: u64, child: u32) -> SegmentId {
    SegmentId { manifest, child }
}

/// A bucket in memory that fails on demand.
#[derive(Default)]
pub(crate) struct FaultyBucket {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    fault: AtomicU8,
}

/// How the bucket fails.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    None = 0,
    /// Nothing gets through.
    Down = 1,
    /// What is created is created, but the answer is lost.
    AnswerLost = 2,
    /// Nothing is created; what is there can be read.
    CreateFails = 3,
    /// Listings lack the newest object.
    ListsLate = 4,
}

impl FaultyBucket {
    pub(crate) fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::Relaxed);
    }

    /// Puts an object in place whatever is there, or takes it away: what no bucket may do.
    pub(crate) fn tamper(&self, name: &str, bytes: Option<Vec<u8>>) {
        let mut objects = self.objects.lock().unwrap();
        match bytes {
            Some(bytes) => objects.insert(name.to_owned(), bytes),
            None => objects.remove(name),
        };
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault.load(Ordering::Relaxed) == fault as u8
    }

    fn up(&self) -> Result<(), BucketError> {
        if self.is(Fault::Down) { Err(BucketError::Unavailable("planted".to_owned())) } else { Ok(()) }
    }
}

impl Bucket for FaultyBucket {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<(), BucketError> {
        self.up()?;
        if self.is(Fault::CreateFails) {
            return Err(BucketError::Unavailable("planted".to_owned()));
        }
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(name) {
            return Err(BucketError::Exists);
        }
        objects.insert(name.to_owned(), bytes.to_vec());
        if self.is(Fault::AnswerLost) {
            return Err(BucketError::Unavailable("planted: the answer was lost".to_owned()));
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, BucketError> {
        self.up()?;
        self.objects.lock().unwrap().get(name).cloned().ok_or(BucketError::Absent)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, BucketError> {
        self.up()?;
        let objects = self.objects.lock().unwrap();
        let mut names: Vec<_> = objects.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        if self.is(Fault::ListsLate) {
            names.pop();
        }
        Ok(names)
    }
}

/// A data directory and its catalog.
pub(crate) struct Site {
    pub(crate) data: TempDir,
    pub(crate) bucket: Arc<FaultyBucket>,
    with_bucket: bool,
    catalog: Option<Catalog>,
    now: Cell<i64>,
    position: Cell<u64>,
    manifest: Cell<u64>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::make(true)
    }

    pub(crate) fn without_bucket() -> Self {
        Self::make(false)
    }

    fn make(with_bucket: bool) -> Self {
        let mut site = Self {
            data: tempfile::tempdir().unwrap(),
            bucket: Arc::default(),
            with_bucket,
            catalog: None,
            now: Cell::new(1_700_000_000_000_000_000),
            position: Cell::new(0),
            manifest: Cell::new(0),
        };
        site.restart();
        site
    }

    pub(crate) fn bucket(&self) -> Option<Arc<dyn Bucket>> {
        self.with_bucket.then(|| self.bucket.clone() as _)
    }

    /// Closes the catalog and opens it again, as after a crash between two of its steps.
    pub(crate) fn restart(&mut self) {
        self.catalog = None;
        self.catalog = Some(self.open().unwrap());
    }

    pub(crate) fn open(&self) -> Result<Catalog, CatalogError> {
        Catalog::open(self.data.path(), [7; 16], self.bucket())
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        self.catalog.as_ref().unwrap()
    }

    pub(crate) fn close(&mut self) {
        self.catalog = None;
    }

    pub(crate) fn now(&self) -> i64 {
        self.now.get()
    }

    pub(crate) fn pass(&self, time: i64) {
        self.now.set(self.now() + time);
    }

    pub(crate) fn why(&self, reason: &str) -> Why {
        Why {
            time: self.now(),
            by: "worker".to_owned(),
            policy: Some("heat".to_owned()),
            reason: reason.to_owned(),
        }
    }

    /// The next manifest of hot segments, with one segment for each of these lists of (schema, device, events).
    pub(crate) fn sealing(&self, segments: &[&[(&str, &str, u64)]]) -> NewManifest {
        let start = self.position.get();
        let rows: u64 = segments.iter().copied().flatten().map(|(_, _, rows)| rows).sum();
        let sealing = self.manifest(Vec::new(), start..start + rows, segments);
        self.position.set(start + rows);
        sealing
    }

    /// The next manifest, which splits a sealed segment.
    pub(crate) fn splitting(&self, from: SegmentId, segments: &[&[(&str, &str, u64)]]) -> NewManifest {
        let positions = self.entry(from).segment.positions;
        self.manifest(vec![from], positions, segments)
    }

    fn manifest(
        &self,
        from: Vec<SegmentId>,
        positions: std::ops::Range<u64>,
        segments: &[&[(&str, &str, u64)]],
    ) -> NewManifest {
        let manifest = self.manifest.replace(self.manifest.get() + 1);
        let received = Span { first: self.now() - 10, last: self.now() };
        let new = |(child, contents): (usize, &&[(&str, &str, u64)])| {
            let contents = contents.iter().map(|&(schema, device, rows)| Content {
                schema: schema.to_owned(),
                device: device.to_owned(),
                received,
                rows,
            });
            let contents: Vec<_> = contents.collect();
            let rows = contents.iter().map(|content| content.rows).sum();
            let id = id(manifest, u32::try_from(child).unwrap());
            let root = *blake3_of(&id.to_string());
            let (positions, events) = (positions.clone(), received);
            let sealed = Sealed { id, bytes: 100 + 5 * rows, rows, root, positions, received, events };
            NewSegment { sealed, contents }
        };
        let segments = segments.iter().enumerate().map(new).collect();
        NewManifest { number: manifest, from, positions, lost: 0, segments }
    }

    pub(crate) fn register(&self, sealing: &NewManifest) -> Result<(), CatalogError> {
        let version = self.catalog().view().unwrap().policy_version().unwrap();
        self.catalog().register(sealing, version, &by_schema, &self.why("sealed"))
    }

    /// Registers one segment of ten events of one schema and device.
    pub(crate) fn seal(&self, schema: &str, device: &str) -> SegmentId {
        let sealing = self.sealing(&[&[(schema, device, 10)]]);
        self.register(&sealing).unwrap();
        id(sealing.number, 0)
    }

    pub(crate) fn copy(&self, segment: SegmentId) {
        self.catalog().record_copy(segment, "archive", None, &self.why("older than 6 hours")).unwrap();
    }

    pub(crate) fn mirror(&self) -> Result<(), CatalogError> {
        self.catalog().mirror("worker", self.now())
    }

    pub(crate) fn mark(&self, segment: SegmentId, undo: i64) -> Result<(), CatalogError> {
        self.catalog().mark(&[(segment, self.now() + undo, self.why("older than 90 days"))])
    }

    pub(crate) fn delete(&self, segment: SegmentId) -> Result<(), CatalogError> {
        self.catalog().delete(&[(segment, self.why("the undo window has passed"))])
    }

    pub(crate) fn entry(&self, segment: SegmentId) -> Entry {
        self.live(segment).unwrap()
    }

    pub(crate) fn live(&self, segment: SegmentId) -> Option<Entry> {
        self.catalog().view().unwrap().segment(segment).unwrap()
    }
}

/// Thirty-two bytes that differ from text to text.
fn blake3_of(text: &str) -> Box<[u8; 32]> {
    let mut bytes = [0; 32];
    for (n, byte) in text.bytes().enumerate() {
        bytes[n % 32] ^= byte;
    }
    Box::new(bytes)
}
