//! A data directory with a log, a catalog, stores and a worker, and a clock that is turned by hand.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use icecore_log::{
    Appender, Committer, Encoder, HotLog, LogReader, NewBatch, OnAbsent, Options, RealDisk, Record, Scan,
    SealPlan, Sealing, Source,
};
use icecore_tier::catalog::{Catalog, End, Entry, Gone, What, Why};
use icecore_tier::elsewhere::Elsewhere;
use icecore_tier::journal::StoreBucket;
use icecore_tier::plan::{Moment, Saved};
use icecore_tier::policy::{Labels, PolicySet};
use icecore_tier::segment::{Content, SegmentId};
use icecore_tier::snapshot::KeptSnapshot;
use icecore_tier::store::{Store, Waiting};
use icecore_tier::worker::{Circumstances, Pass, SavedFile, State, Worker};
use icecore_wire::{
    BatchBuilder, ColumnType, DeviceName, Digest, EncodeOptions, Epoch, Field, Schema, Value,
};
use tempfile::TempDir;

use crate::faulty::CRASH;

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const HOUR: i64 = 3_600 * SECOND;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Vibration goes to the archive at 6 h, from the disk at 2 d, and is deleted at 90 d with 7 d to undo that; logs are moved on to
/// another class and another store; alarms stay.
pub(crate) const POLICIES: &str = r#"
[[policy]]
name   = "vibration"
match  = { schema = "vibration" }
cold   = [{ after = "6h", store = "archive" }]
local  = { drop_after = "2d" }
delete = { after = "90d", undo = "7d" }

[[policy]]
name   = "logs"
match  = { schema = "logs" }
cold   = [{ after = "1h", store = "archive" }, { after = "10d", store = "archive", class = "STANDARD_IA" }, { after = "20d", store = "deep" }]
local  = { drop_after = "1h" }
delete = { after = "30d", undo = "1d" }

[[policy]]
name   = "rest"
cold   = [{ after = "1d", store = "archive" }]
delete = "never"
"#;

/// Makes the stores of a site anew, as a restart would; the first is the one with the journal.
pub(crate) type OpenStores = Box<dyn Fn() -> Vec<Store>>;

pub(crate) struct Site {
    data: PathBuf,
    /// Removed with the site.
    _directory: Option<TempDir>,
    open_stores: OpenStores,
    stores: Vec<Store>,
    running: Option<Running>,
    now: Cell<i64>,
    /// Everything that was written, by device and first sequence: when, and the schema.
    written: BTreeMap<(String, u64), (i64, String)>,
    /// What of it a policy may have deleted.
    may_be_gone: BTreeSet<(String, u64)>,
    labels: Labels,
    pub(crate) free: u64,
    pub(crate) state: SavedState,
    /// Snapshots are kept in the data directory.
    pub(crate) keeps_here: bool,
}

/// The state of all devices, as far as the worker has to do with it: saved whenever a block is written.
#[derive(Clone, Default)]
pub(crate) struct SavedState {
    saved: Arc<Mutex<Option<(Saved, u64)>>>,
    /// Bytes of its files.
    pub(crate) bytes: u64,
}

impl SavedState {
    /// What is before `block` and `position` is saved.
    pub(crate) fn set(&self, block: u64, position: u64, received: i64) {
        let saved = Saved { position, received, bytes: self.bytes, travels: false };
        *self.saved.lock().unwrap() = Some((saved, block));
    }

    pub(crate) fn get(&self) -> Option<Saved> {
        self.saved.lock().unwrap().map(|(saved, _)| saved)
    }
}

impl State for SavedState {
    fn saved(&self) -> io::Result<Option<Saved>> {
        Ok(self.get())
    }

    fn want(&self) {}

    fn save(&self, to: &Path) -> io::Result<SavedFile> {
        let (Saved { position, received, .. }, block) = self.saved.lock().unwrap().unwrap();
        let mut content = vec![0; usize::try_from(self.bytes).unwrap()];
        blake3::Hasher::new().update(&block.to_le_bytes()).finalize_xof().fill(&mut content);
        std::fs::write(to, content)?;
        Ok(SavedFile { block, position, received, devices: 3 })
    }
}

struct Running {
    appender: Appender,
    committer: Committer,
    catalog: Arc<Catalog>,
    worker: Worker,
    waiting: Waiting,
}

impl Site {
    pub(crate) fn new(open_stores: OpenStores) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut site = Self::at(directory.path(), open_stores, POLICIES);
        site._directory = Some(directory);
        site
    }

    /// A site in a directory that stays; policies are applied if there are none.
    pub(crate) fn at(data: &Path, open_stores: OpenStores, policies: &str) -> Self {
        let mut site = Self {
            data: data.to_owned(),
            _directory: None,
            open_stores,
            stores: Vec::new(),
            running: None,
            now: Cell::new(1_700_000_000 * SECOND),
            written: BTreeMap::new(),
            may_be_gone: BTreeSet::new(),
            labels: Labels::new(),
            free: 1 << 40,
            state: SavedState { bytes: 1_000, ..SavedState::default() },
            keeps_here: false,
        };
        site.restart();
        if site.catalog().view().unwrap().policies().unwrap().is_none() {
            site.apply(policies);
        }
        site
    }

    /// Lets go of everything, as a process that ends, and begins again.
    pub(crate) fn restart(&mut self) {
        self.running = None;
        self.stores = (self.open_stores)();
        let waiting = Waiting::new(None).unwrap();
        let bucket = StoreBucket::new(self.stores[0].clone(), waiting.clone());
        let catalog = Arc::new(Catalog::open(&self.data, [7; 16], Some(Arc::new(bucket))).unwrap());
        // Each block is a segment of its own.
        let options = Options { segment_bytes: 1, ..Options::default() };
        let opened = HotLog::open(Arc::new(RealDisk), &self.data, options, self.now(), &mut |_| {});
        let (appender, committer, recovery) = opened.unwrap();
        self.state.set(appender.block(), appender.position(), recovery.received);
        let sealer = committer.sealer();
        let keep_in = Some(self.stores[0].name()).filter(|_| !self.keeps_here);
        let worker =
            Worker::new(Arc::clone(&catalog), self.stores.clone(), &sealer, &self.data, waiting.clone())
                .with_state(Box::new(self.state.clone()), keep_in);
        self.running = Some(Running { appender, committer, catalog, worker, waiting });
    }

    /// Lets go of everything, so that another process may have it.
    pub(crate) fn close(&mut self) {
        self.running = None;
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.running.as_ref().unwrap().catalog
    }

    pub(crate) fn now(&self) -> i64 {
        self.now.get()
    }

    pub(crate) fn pass_time(&self, time: i64) {
        self.now.set(self.now() + time);
    }

    pub(crate) fn set_now(&self, now: i64) {
        self.now.set(now);
    }

    pub(crate) fn why(&self) -> Why {
        Why { time: self.now(), by: "test".to_owned(), policy: None, reason: "a test wants it".to_owned() }
    }

    pub(crate) fn policies(&self) -> PolicySet {
        let applied = self.catalog().view().unwrap().policies().unwrap().unwrap();
        PolicySet::parse("policies", &applied.text).unwrap()
    }

    pub(crate) fn apply(&self, text: &str) {
        let policies = PolicySet::parse("policies", text).unwrap();
        let labels = &self.labels;
        let sharing = |bytes, contents: &[Content]| policies.shares(bytes, contents, |_| labels);
        self.catalog().apply_policies(text, &sharing, &self.why()).unwrap();
    }

    /// Writes one batch of `count` events, with notes that do not compress away, and has it durable.
    pub(crate) fn write(&mut self, schema: &str, device: &str, count: u32) {
        let note = |sequence: u64| blake3::hash(&sequence.to_le_bytes()).to_hex().to_string();
        self.write_rows(schema, device, count, |sequence| (sequence as f64, note(sequence)));
    }

    /// Writes one batch of `count` events, whose values are a function of the sequence, and has it durable.
    pub(crate) fn write_rows(
        &mut self,
        schema: &str,
        device: &str,
        count: u32,
        row: impl Fn(u64) -> (f64, String),
    ) {
        let key = |(name, _): &(String, u64)| name == device;
        let first = self.written.keys().filter(|k| key(k)).map(|(_, first)| first + 1024).max().unwrap_or(0);
        let fields = vec![Field::new("value", ColumnType::F64), Field::new("note", ColumnType::Text)];
        let schema = Arc::new(Schema::new(schema, 1, fields).unwrap());
        let name: DeviceName = device.parse().unwrap();
        let source = Arc::new(Source { device: name, epoch: Epoch::from_bytes([1; 16]), number: 0 });
        let batch = batch(&schema, first, count, self.now(), row);
        self.wrote(device, first, self.now(), schema.name());
        self.running.as_mut().unwrap().appender.batch(&source, &schema, batch);
        self.write_block();
    }

    /// Writes a block of what there is, if anything, and has it durable.
    pub(crate) fn write_block(&mut self) {
        let now = self.now();
        let Running { appender, committer, .. } = self.running.as_mut().unwrap();
        let mut block = Encoder::new().encode(appender.finish(now), 1);
        committer.commit(&mut block).unwrap();
        self.state.set(appender.block(), appender.position(), now);
    }

    /// This was written, here or by a process that is no more.
    pub(crate) fn wrote(&mut self, device: &str, first: u64, received: i64, schema: &str) {
        self.written.insert((device.to_owned(), first), (received, schema.to_owned()));
    }

    /// Seals all that can be.
    pub(crate) fn seal(&mut self) {
        let policies = self.policies();
        let (labels, now) = (&self.labels, self.now());
        let classify = |schema: &Schema, device: &DeviceName, _: i64| -> Arc<str> {
            Arc::from(&*policies.resolve(schema.name(), device.as_str(), labels).name)
        };
        let mut pace = |_| ControlFlow::Continue(());
        let plan = SealPlan { hot_bytes: u64::MAX, classify: &classify, pace: &mut pace, now };
        let sealing = self.running.as_ref().unwrap().committer.sealer().seal(plan).unwrap();
        assert_ne!(sealing, Sealing::BrokenOff);
    }

    /// Writes one batch of each schema and seals what was written before.
    pub(crate) fn fill(&mut self) {
        for schema in ["vibration", "logs", "alarm"] {
            self.write(schema, &format!("pump/{schema}"), 50);
        }
        // The newest segments are never sealed.
        self.write("alarm", "other", 1);
        self.write("alarm", "other", 1);
        self.seal();
    }

    pub(crate) fn pass(&mut self) -> Pass {
        self.note_deletable();
        let moment = Moment { now: self.now(), free: self.free, ..Moment::default() };
        self.pass_with(moment, 0, 0)
    }

    pub(crate) fn pass_with(&mut self, moment: Moment, reserve: u64, written: u64) -> Pass {
        let labels = &self.labels;
        let labels = |_: &str, _: i64| labels;
        let circumstances = Circumstances { moment, reserve, written, labels: &labels };
        self.running.as_mut().unwrap().worker.pass(&circumstances)
    }

    /// A pass; `None` if there was a crash in it, behind which it is begun anew.
    pub(crate) fn pass_or_crash(&mut self) -> Option<Pass> {
        self.or_crash(Self::pass)
    }

    /// Does something that may crash; then the process begins anew.
    pub(crate) fn or_crash<R>(&mut self, act: impl FnOnce(&mut Self) -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(|| act(self))) {
            Ok(result) => Some(result),
            Err(cause) if cause.downcast_ref::<&str>() == Some(&CRASH) => {
                self.restart();
                None
            }
            Err(cause) => resume_unwind(cause),
        }
    }

    fn note_deletable(&mut self) {
        let policies = self.policies();
        for (batch, (received, schema)) in &self.written {
            let delete = policies.resolve(schema, &batch.0, &self.labels).delete;
            if delete
                .is_some_and(|delete| self.now() >= delete.undo.after(delete.after.unwrap().after(*received)))
            {
                self.may_be_gone.insert(batch.clone());
            }
        }
    }

    /// Passes until nothing is left to be done; the clock goes on while something waits.
    pub(crate) fn settle(&mut self) -> Pass {
        let mut last = Pass::default();
        for _ in 0..60 {
            last = match self.pass_or_crash() {
                Some(pass) if pass.is_quiet() => return pass,
                Some(pass) => pass,
                None => Pass::default(),
            };
            let waits = last.failed > 0 || last.backlog > 0 && last.uploaded == 0;
            self.pass_time(if waits { 2 * HOUR } else { SECOND });
        }
        panic!("it does not come to rest: {last:?}");
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.catalog().view().unwrap().segments().unwrap().map(Result::unwrap).collect()
    }

    /// The live segments of this policy alone.
    pub(crate) fn of_policy(&self, policy: &str) -> Vec<SegmentId> {
        let entries = self.entries().into_iter();
        let of = entries.filter(|entry| entry.segment.shares.iter().all(|share| share.policy == policy));
        of.map(|entry| entry.segment.id).collect()
    }

    pub(crate) fn store(&self, name: &str) -> Store {
        self.stores.iter().find(|store| store.name() == name).unwrap().clone()
    }

    pub(crate) fn objects(&self, store: &str, under: &str) -> BTreeSet<String> {
        let mut objects = BTreeSet::new();
        let store = self.store(store);
        let waiting = &self.running.as_ref().unwrap().waiting;
        waiting.wait(store.list(under, |object| _ = objects.insert(object.path))).unwrap();
        objects
    }

    /// The segments whose local files are there.
    pub(crate) fn files(&self) -> BTreeSet<SegmentId> {
        let names = std::fs::read_dir(self.data.join("sealed")).unwrap();
        let names = names.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter_map(|name| name.strip_suffix(".ice")?.parse().ok()).collect()
    }

    pub(crate) fn file(&self, id: SegmentId) -> PathBuf {
        id.file(&self.data)
    }

    /// Waits for what a store does.
    pub(crate) fn wait<T>(&self, request: impl Future<Output = T>) -> T {
        self.running.as_ref().unwrap().waiting.wait(request)
    }

    /// The bucket with the journal, as another machine has it.
    pub(crate) fn bucket(&self) -> StoreBucket {
        StoreBucket::new(self.stores[0].clone(), self.running.as_ref().unwrap().waiting.clone())
    }

    /// The batches that can be read, from wherever they are: device and first sequence.
    pub(crate) fn readable(&self) -> BTreeSet<(String, u64)> {
        let Running { catalog, waiting, .. } = self.running.as_ref().unwrap();
        let catalog = Arc::clone(catalog);
        let elsewhere = Elsewhere::new(move || catalog.view(), self.stores.clone(), waiting.clone());
        let elsewhere = Arc::new(elsewhere).resolver();
        let reader = LogReader::open(Arc::new(RealDisk), &self.data).unwrap().with_elsewhere(elsewhere);
        let records = reader.scan(Scan { on_absent: OnAbsent::Skip, ..Scan::default() });
        let mut found = BTreeSet::new();
        for record in records {
            let Record::Batch(stored) = record.unwrap() else { continue };
            assert_eq!(Digest::of(&stored.payload), stored.digest);
            let device = stored.source.device.as_str().to_owned();
            assert!(found.insert((device, stored.first_sequence)), "twice: {stored:?}");
        }
        found
    }

    /// Everything is readable that no policy has deleted yet; what counts as local is there.
    pub(crate) fn check_rows(&self) {
        let readable = self.readable();
        for (batch, written) in &self.written {
            let kept = !self.may_be_gone.contains(batch);
            assert!(!kept || readable.contains(batch), "{batch:?} {written:?} is lost at {}", self.now());
        }
        self.check_snapshots();
        let files = self.files();
        for entry in self.entries().into_iter().filter(|entry| entry.segment.local) {
            assert!(files.contains(&entry.segment.id), "no file of {entry:?}");
        }
    }

    /// What was deleted is in a snapshot that is there, and is what it was.
    pub(crate) fn check_snapshots(&self) {
        let view = self.catalog().view().unwrap();
        let (kept, deleted_to) = (view.snapshots().unwrap(), view.deleted_to().unwrap());
        assert!(
            kept.iter().any(|kept| kept.position >= deleted_to) || deleted_to == 0,
            "{deleted_to}: {kept:?}"
        );
        for kept in kept {
            let found = self.wait(self.stores[0].read_back(&kept.object())).unwrap();
            assert_eq!((found.hash, found.bytes), (kept.hash, kept.bytes), "{kept:?}");
        }
    }

    /// Stores and directory have just what the catalog says. To be asked when all is quiet.
    pub(crate) fn check_places(&self) {
        let view = self.catalog().view().unwrap();
        let entries = self.entries();
        // What was split stays where it is until all that came of it is somewhere else than on this disk.
        let mut needed: Vec<Gone> = view.gone().unwrap().map(Result::unwrap).collect();
        needed.retain(|gone| match gone.end {
            End::Split { into } => entries
                .iter()
                .any(|entry| entry.segment.id.manifest == into && entry.segment.copies.is_empty()),
            _ => false,
        });
        for store in &self.stores {
            let copies = entries.iter().flat_map(|entry| {
                let of = entry.segment.copies.iter().filter(|copy| copy.store == store.name());
                of.map(|copy| copy.object(entry.segment.id))
            });
            let needed = needed.iter().flat_map(|gone| {
                let of = gone.copies.iter().filter(|copy| copy.store == store.name());
                of.map(|copy| copy.object(gone.id))
            });
            let copies = copies.chain(needed);
            assert_eq!(self.objects(store.name(), "segments"), copies.collect(), "in {}", store.name());
        }
        let local = entries.iter().filter(|entry| entry.segment.local).map(|entry| entry.segment.id);
        assert_eq!(self.files(), local.collect(), "in the data directory");
        let kept = view.snapshots().unwrap();
        let objects = self.objects(self.stores[0].name(), "snapshots");
        assert_eq!(objects, kept.iter().map(KeptSnapshot::object).collect(), "snapshots");
        assert!(kept.iter().all(|kept| !kept.file(&self.data).exists()), "they are in the store: {kept:?}");
        assert_eq!(view.outgoing().unwrap(), None);
        assert_eq!(view.uploads().unwrap(), []);
        assert_eq!(view.garbage().unwrap(), []);
        assert_eq!(view.dropped_copies().unwrap(), []);
        assert!(!self.data.join("transit").exists() || is_empty(&self.data.join("transit")));
        for gone in view.gone().unwrap().map(Result::unwrap) {
            let clear = gone.copies.is_empty() || needed.contains(&gone);
            assert!(!gone.local && clear, "{gone:?}");
            assert!(matches!(gone.end, End::Deleted { .. } | End::Split { .. }));
        }
        self.check_order();
    }

    /// What the history says happened in the right order: no file or copy went before another was recorded.
    fn check_order(&self) {
        let view = self.catalog().view().unwrap();
        let mut copies: BTreeMap<SegmentId, BTreeSet<String>> = BTreeMap::new();
        for decision in view.history(..).unwrap().map(Result::unwrap) {
            match decision.what {
                What::Copied { segment, store, .. } => _ = copies.entry(segment).or_default().insert(store),
                What::CopyDropped { segment, store } => {
                    let left = copies.get_mut(&segment).unwrap();
                    assert!(left.remove(&store) && !left.is_empty(), "{segment}");
                }
                What::LocalDropped { segment } => assert!(!copies[&segment].is_empty(), "{segment}"),
                _ => {}
            }
        }
    }
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

fn batch(
    schema: &Arc<Schema>,
    first: u64,
    count: u32,
    time: i64,
    row: impl Fn(u64) -> (f64, String),
) -> NewBatch {
    let mut builder = BatchBuilder::new(Arc::clone(schema));
    for sequence in first..first + u64::from(count) {
        let (value, note) = row(sequence);
        builder.row(time, &[Value::F64(value), Value::Text(&note)]).unwrap();
    }
    let payload = builder.finish(first, EncodeOptions::PLAIN).unwrap();
    let digest = Digest::of(&payload);
    NewBatch { payload, first_sequence: first, count, digest, compressed: false }
}
