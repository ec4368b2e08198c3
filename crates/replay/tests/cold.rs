//! Replays of what is in object storage, or was deleted.

#![expect(clippy::unwrap_used, reason = "fixtures of tests fail by panicking, like tests")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_log::sealed::SealedSegment;
use icecore_log::{
    Appender, Committer, Encoder, HotLog, LogError, NewBatch, OnDamage, Options, RealDisk, SealPlan, Sealing,
    SegmentId, Source,
};
use icecore_replay::{
    DataSource, EventTimes, Lacking, Ndjson, OpenError, Query, Replay, ReplayError, Replayed, Unstored,
};
use icecore_tier::cache::Cache;
use icecore_tier::catalog::{Catalog, NewManifest, Why, contents};
use icecore_tier::elsewhere::Elsewhere;
use icecore_tier::segment::{Content, Copy, Share};
use icecore_tier::store::{Place, Store, Waiting};
use icecore_wire::{
    BatchBuilder, ColumnType, DeviceName, Digest, EncodeOptions, Epoch, Field, Schema, Value,
};

/// Batches of each device, of ten events each.
const ROUNDS: u64 = 60;

/// A log with two devices of a schema each, sealed but for the last segment, a catalog, and a store.
struct Site {
    directory: tempfile::TempDir,
    committer: Committer,
    _appender: Appender,
    catalog: Catalog,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        let options = Options { segment_bytes: 8192, ..Options::default() };
        let (mut appender, mut committer, _) =
            HotLog::open(Arc::new(RealDisk), &data, options, 0, &mut |_| {}).unwrap();
        let mut encoder = Encoder::new();
        for round in 0..ROUNDS {
            for (device, name) in [("oslo/1", "heat"), ("oslo/2", "flow")] {
                let schema = Schema::new(name, 1, vec![Field::new("value", ColumnType::I64)]).unwrap();
                batch(&mut appender, device, &Arc::new(schema), round * 10);
            }
            committer.commit(&mut encoder.encode(appender.finish(1_000 + round as i64), 1)).unwrap();
        }
        let catalog = Catalog::open(&data, [7; 16], None).unwrap();
        let site = Self { directory, committer, _appender: appender, catalog };
        site.seal();
        site
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Seals all finished segments, one child a schema, and registers them.
    fn seal(&self) {
        let by_schema = |schema: &Schema, _: &DeviceName, _: i64| Arc::from(schema.name());
        let mut pace = |_| Continue(());
        let plan = SealPlan { hot_bytes: u64::MAX, classify: &by_schema, pace: &mut pace, now: 1 };
        let Sealing::Done(manifest) = self.committer.sealer().seal(plan).unwrap() else { panic!("nothing") };
        let read = |id: SegmentId| -> Result<_, LogError> {
            let bytes = fs::read(id.file(&self.data())).unwrap();
            Ok(contents(SealedSegment::open(Arc::new(bytes), id.file(&self.data()))?.summary()))
        };
        let manifest = NewManifest::of(&manifest, read).unwrap();
        self.catalog.register(&manifest, 0, &one_share, &why()).unwrap();
    }

    /// The sealed segments; the first has the events of `flow`, the second those of `heat`.
    fn segments(&self) -> Vec<SegmentId> {
        let view = self.catalog.view().unwrap();
        view.segments().unwrap().map(|entry| entry.unwrap().segment.id).collect()
    }

    fn store(&self) -> Store {
        let url = format!("file://{}", self.bucket().display());
        Store::new("archive", Place::open("archive", &url, &BTreeMap::new()).unwrap(), 0)
    }

    fn bucket(&self) -> PathBuf {
        self.directory.path().join("bucket")
    }

    /// Uploads a segment and drops its pages here.
    fn make_cold(&self, id: SegmentId) {
        let content = fs::read(id.file(&self.data())).unwrap();
        let copy = Copy { store: "archive".to_owned(), class: None, verified: 0 };
        Waiting::new(None).unwrap().wait(self.store().put_new(&copy.object(id), content.into())).unwrap();
        self.catalog.record_copy(id, "archive", None, &why()).unwrap();
        self.catalog.drop_local(id, &why()).unwrap();
        self.committer.sealer().drop_pages(id).unwrap();
        assert!(!id.file(&self.data()).exists());
    }

    fn delete(&self, id: SegmentId) {
        self.catalog.mark(&[(id, 1, why())]).unwrap();
        self.catalog.delete(&[(id, Why { time: 2, ..why() })]).unwrap();
        fs::remove_file(id.file(&self.data())).unwrap();
    }

    fn elsewhere(&self) -> Elsewhere {
        let cache = Cache::open(&self.directory.path().join("cache"), 1 << 30).unwrap();
        let waiting = Waiting::new(Some(Arc::new(cache))).unwrap();
        let catalog = Catalog::read(&self.data()).unwrap();
        Elsewhere::new(move || catalog.view(), [self.store()], waiting)
    }

    fn replay(&self, query: &Query) -> Result<(String, Replayed), ReplayError> {
        run(&Replay::open(&self.data())?.with_elsewhere(self.elsewhere()), query)
    }
}

fn run(replay: &Replay, query: &Query) -> Result<(String, Replayed), ReplayError> {
    let mut out = Vec::new();
    let replayed = replay.run(query, &mut Ndjson::new(&mut out))?;
    Ok((String::from_utf8(out).unwrap(), replayed))
}

/// Ten events, at nanoseconds that are their sequences.
fn batch(appender: &mut Appender, device: &str, schema: &Arc<Schema>, first_sequence: u64) {
    let device = device.parse().unwrap();
    let source = Arc::new(Source { device, epoch: Epoch::from_bytes([1; 16]), number: 0 });
    let mut builder = BatchBuilder::new(Arc::clone(schema));
    for sequence in first_sequence..first_sequence + 10 {
        builder.row(sequence as i64, &[Value::I64(sequence as i64)]).unwrap();
    }
    let payload = builder.finish(first_sequence, EncodeOptions::PLAIN).unwrap();
    let digest = Digest::of(&payload);
    let batch = NewBatch { payload, first_sequence, count: 10, digest, compressed: false };
    appender.batch(&source, schema, batch);
}

fn one_share(bytes: u64, contents: &[Content]) -> Vec<Share> {
    let rows = contents.iter().map(|content| content.rows).sum();
    vec![Share { policy: "brief".to_owned(), rows, bytes }]
}

fn why() -> Why {
    Why { time: 0, by: "test".to_owned(), policy: Some("brief".to_owned()), reason: "a test".to_owned() }
}

fn remove(path: &Path) {
    fs::remove_dir_all(path).unwrap();
}

#[test]
fn cold_warm_and_hot_are_one_replay() {
    let site = Site::new();
    let (all, whole) = site.replay(&Query::default()).unwrap();
    assert_eq!(all.lines().count() as u64, 2 * 10 * ROUNDS);
    assert!(whole.coverage.is_complete());
    assert_eq!(whole.coverage.to_string(), "1200 events present, nothing missing");
    site.make_cold(site.segments()[0]);
    assert_eq!(site.replay(&Query::default()).unwrap(), (all.clone(), whole.clone()));

    // What was read once is not requested again.
    remove(&site.bucket());
    assert_eq!(site.replay(&Query::default()).unwrap(), (all, whole));
}

#[test]
fn a_data_directory_is_opened_with_its_stores_and_a_bucket_alone() {
    let site = Site::new();
    let (all, _) = site.replay(&Query::default()).unwrap();
    let cold = site.segments()[0];
    site.make_cold(cold);
    let source = DataSource::data(&site.data(), [site.store()], 1 << 20).unwrap();
    let opened = source.open().unwrap();
    assert_eq!(run(&opened.replay, &Query::default()).unwrap().0, all);
    assert_eq!(opened.warnings, [""; 0]);

    let bucket = DataSource::bucket(site.store()).unwrap();
    let error = bucket.open().unwrap_err();
    assert!(matches!(&error, OpenError::NothingArchived { .. }), "{error}");
    fs::create_dir(site.bucket().join("manifests")).unwrap();
    let manifest = "manifests/000000000000.manifest";
    fs::copy(site.data().join(manifest), site.bucket().join(manifest)).unwrap();
    let replay = bucket.open().unwrap().replay;
    // Who reads needs the manifests no less when nobody opens it any more.
    drop(bucket);
    let flow = Query { schemas: "flow".parse().unwrap(), ..Query::default() };
    let (archived, replayed) = run(&replay, &Query { on_damage: OnDamage::Skip, ..flow }).unwrap();
    let flow: Vec<_> = all.lines().filter(|line| line.contains("\"flow\"")).collect();
    let count = archived.lines().count();
    assert!(count > 0 && archived.lines().eq(flow[..count].iter().copied()), "{archived}");
    assert!(replayed.coverage.missing().contains("is not in this store yet"), "{}", replayed.coverage);

    let error = DataSource::data(&site.bucket(), [], 0).unwrap().open().unwrap_err();
    assert!(error.to_string().ends_with("holds no log; is it the data directory of a server?"), "{error}");
}

#[test]
fn what_is_not_wanted_is_not_requested() {
    let site = Site::new();
    let (all, _) = site.replay(&Query::default()).unwrap();
    site.make_cold(site.segments()[0]);
    remove(&site.bucket());
    // The newest events are hot, so the event times of what is cold end before them.
    let late = EventTimes { from: Some(10 * ROUNDS as i64 - 1), to: None };
    let (late, replayed) = site.replay(&Query { times: late, ..Query::default() }).unwrap();
    let expected: Vec<_> = all.lines().filter(|line| line.contains("\"seq\":599,")).collect();
    assert_eq!(late.lines().collect::<Vec<_>>(), expected);
    assert!(replayed.coverage.is_complete());
}

#[test]
fn a_store_that_is_gone_is_named() {
    let site = Site::new();
    let id = site.segments()[0];
    site.make_cold(id);
    remove(&site.bucket());
    let error = site.replay(&Query::default()).unwrap_err().to_string();
    assert!(error.contains("store `archive`") && error.contains(&id.to_string()), "{error}");

    let around = Query { on_damage: OnDamage::Skip, ..Query::default() };
    let (some, replayed) = site.replay(&around).unwrap();
    let coverage = replayed.coverage;
    assert!(!coverage.is_complete() && some.lines().count() as u64 == coverage.present);
    let [lacking] = &*coverage.absent else { panic!("{coverage:?}") };
    assert_eq!((lacking.segment, lacking.events), (id, 1_200 - coverage.present));
    assert!(coverage.missing().contains("store `archive`"), "{}", coverage.missing());

    let catalog = Catalog::read(&site.data()).unwrap();
    let elsewhere = Elsewhere::new(move || catalog.view(), [], Waiting::new(None).unwrap());
    let replay = Replay::open(&site.data()).unwrap().with_elsewhere(elsewhere);
    let error = run(&replay, &Query::default()).unwrap_err().to_string();
    assert!(error.contains("[store.archive]"), "{error}");
}

#[test]
fn deleted_by_policy_is_said_and_missing_is_an_error() {
    let site = Site::new();
    let id = site.segments()[0];
    let rows = site.catalog.view().unwrap().segment(id).unwrap().unwrap().segment.rows;
    site.delete(id);
    let (rest, replayed) = site.replay(&Query::default()).unwrap();
    let coverage = &replayed.coverage;
    let gone = Lacking { segment: id, events: rows, is_exact: true, why: "brief".to_owned() };
    assert_eq!(coverage.deleted, std::slice::from_ref(&gone));
    assert_eq!(coverage.unstored, Some(Unstored::default()), "it had arrived");
    assert_eq!(rest.lines().count() as u64, 1_200 - rows);
    assert_eq!(
        coverage.to_string(),
        format!(
            "{} events present, missing: {rows} events (segment {id}) deleted by policy `brief`",
            1_200 - rows
        )
    );
    // The times that were asked for may have had fewer of them, and the other schema had none.
    let early = EventTimes { from: None, to: Some(100) };
    let (_, some) = site.replay(&Query { times: early, ..Query::default() }).unwrap();
    assert_eq!(some.coverage.deleted, [Lacking { is_exact: false, ..gone }]);
    let heat = Query { schemas: "heat".parse().unwrap(), ..Query::default() };
    assert!(site.replay(&heat).unwrap().1.coverage.is_complete());

    let other = site.segments()[0];
    fs::remove_file(other.file(&site.data())).unwrap();
    let error = site.replay(&heat).unwrap_err();
    assert!(matches!(&error, ReplayError::Log(LogError::Absent { id, .. }) if *id == other), "{error}");
    let around = Query { on_damage: OnDamage::Skip, ..heat };
    let (_, replayed) = site.replay(&around).unwrap();
    assert_eq!(replayed.coverage.absent.len(), 1);
    assert!(replayed.coverage.missing().contains("is nowhere"), "{}", replayed.coverage);
}
