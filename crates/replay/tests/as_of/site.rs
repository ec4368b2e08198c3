//! A data directory whose log is written, sealed, moved and deleted step by step, and a bucket.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow::Continue;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use icecore_log::sealed::SealedSegment;
use icecore_log::{
    Appender, Committer, Encoder, HotLog, LogError, NewBatch, Options, RealDisk, SealPlan, Sealing, SegmentId,
};
use icecore_replay::{AsOf, AsOfError, Bases, Replay, States};
use icecore_state::snapshot::{Kind, SnapshotHead, Snapshots};
use icecore_state::{Fleet, Recent};
use icecore_tier::catalog::{Catalog, NewManifest, Why, contents};
use icecore_tier::elsewhere::Elsewhere;
use icecore_tier::segment::{Content, Copy, Share};
use icecore_tier::store::{Place, Store, Waiting};
use icecore_wire::{DeviceName, Glob, Schema};

use super::history::Told;

pub(crate) struct Site {
    directory: tempfile::TempDir,
    appender: Appender,
    committer: Committer,
    encoder: Encoder,
    term: u64,
    catalog: Catalog,
    fleet: Fleet,
    /// Of the second half of what comes.
    recent: Option<Recent>,
    /// The newest received time.
    received: i64,
    /// The block up to which the last snapshot goes.
    base: Option<u64>,
    /// The next sequence of each device and epoch.
    next: BTreeMap<(DeviceName, u32), u64>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        let options = Options { segment_bytes: 8192, ..Options::default() };
        let (appender, committer, recovery) =
            HotLog::open(Arc::new(RealDisk), &data, options, 0, &mut |_| {}).unwrap();
        let catalog = Catalog::open(&data, [7; 16], None).unwrap();
        let (fleet, encoder, term) = (Fleet::default(), Encoder::new(), recovery.term);
        let (recent, received, base, next) = (None, 0, None, BTreeMap::new());
        Self { directory, appender, committer, encoder, term, catalog, fleet, recent, received, base, next }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Commits a block with these batches of the same received time; returns the position of each. What an epoch leaves out is dropped
    /// if it begins with an even sequence.
    pub(crate) fn commit(&mut self, batches: &[&Told]) -> Vec<u64> {
        let received = batches[0].received;
        let mut positions = Vec::new();
        for told in batches {
            let (source, batch) = (&told.source, &told.batch);
            let next = self.next.entry((source.device.clone(), source.number)).or_default();
            let gap = *next..batch.first_sequence();
            *next = batch.range().end;
            if !gap.is_empty() && gap.start % 2 == 0 {
                self.appender.dropped(source, gap.clone());
                let dropped = icecore_log::Fact::Dropped { source, range: gap, received };
                self.fleet.apply(&dropped);
            }
            positions.push(self.appender.position());
            let (payload, digest) = (batch.payload().clone(), batch.digest());
            let first_sequence = batch.first_sequence();
            let (count, compressed) = (batch.count(), batch.is_compressed());
            let new = NewBatch { payload, first_sequence, count, digest, compressed };
            self.appender.batch(source, batch.schema(), new);
            told.fold_into(&mut self.fleet);
            if let (Some(recent), Some(position)) = (&mut self.recent, positions.last()) {
                recent.note(&source.device, *position, batch);
            }
        }
        self.committer.commit(&mut self.encoder.encode(self.appender.finish(received), 1)).unwrap();
        self.received = received;
        positions
    }

    /// Has a server start: it knows how far back reaches what comes from here on.
    pub(crate) fn start(&mut self) {
        self.recent = Some(Recent::new(self.committer.end().position));
    }

    /// Writes a snapshot: a full one, or of what changed since the last.
    pub(crate) fn snapshot(&mut self, full: bool) {
        let kind = self.base.filter(|_| !full).map_or(Kind::Full, |base| Kind::Delta { base });
        if kind == Kind::Full {
            self.fleet.change_all();
        }
        let point = self.committer.end();
        if !self.fleet.has_changed() || self.base == Some(point.block) {
            return;
        }
        self.fleet.cut();
        let mut devices = self.fleet.capture(usize::MAX).unwrap();
        devices.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (log, term, received) = (self.committer.log(), self.term, self.received);
        let head = SnapshotHead { log, kind, point, term, received, created: 0, devices: 0 };
        self.snapshots().write(head, devices.into_iter().map(Ok)).unwrap();
        self.base = Some(point.block);
    }

    pub(crate) fn snapshots(&self) -> Snapshots {
        Snapshots::new(Arc::new(RealDisk), &self.data())
    }

    /// Seals all finished segments.
    pub(crate) fn seal(&self) {
        let one = |_: &Schema, _: &DeviceName, _: i64| Arc::from("all");
        let mut pace = |_| Continue(());
        let plan = SealPlan { hot_bytes: u64::MAX, classify: &one, pace: &mut pace, now: 1 };
        let Sealing::Done(manifest) = self.committer.sealer().seal(plan).unwrap() else { return };
        let read = |id: SegmentId| -> Result<_, LogError> { Ok(contents(self.open(id).summary())) };
        let manifest = NewManifest::of(&manifest, read).unwrap();
        self.catalog.register(&manifest, 0, &one_share, &why()).unwrap();
    }

    fn open(&self, id: SegmentId) -> SealedSegment {
        let file = id.file(&self.data());
        SealedSegment::open(Arc::new(fs::read(&file).unwrap()), file).unwrap()
    }

    /// The sealed segments that are here, oldest first.
    pub(crate) fn local(&self) -> Vec<SegmentId> {
        let view = self.catalog.view().unwrap();
        let segments = view.segments().unwrap().map(|entry| entry.unwrap().segment);
        segments.filter(|segment| segment.local).map(|segment| segment.id).collect()
    }

    fn store(&self) -> Store {
        let url = format!("file://{}", self.directory.path().join("bucket").display());
        Store::new("archive", Place::open("archive", &url, &BTreeMap::new()).unwrap(), 0)
    }

    /// Uploads a segment and drops it here.
    pub(crate) fn make_cold(&self, id: SegmentId) {
        let content = fs::read(id.file(&self.data())).unwrap();
        let copy = Copy { store: "archive".to_owned(), class: None, verified: 0 };
        Waiting::new(None).unwrap().wait(self.store().put_new(&copy.object(id), content.into())).unwrap();
        self.catalog.record_copy(id, "archive", None, &why()).unwrap();
        self.catalog.drop_local(id, &why()).unwrap();
        self.committer.sealer().drop_pages(id).unwrap();
    }

    /// Deletes a segment; returns the positions of its batches.
    pub(crate) fn delete(&self, id: SegmentId) -> Vec<Range<u64>> {
        let entries = self.open(id);
        let positions = entries.entries().map(|entry| {
            let batch = entry.unwrap().batch;
            batch.position..batch.position + u64::from(batch.count)
        });
        let positions = positions.collect();
        self.catalog.mark(&[(id, 1, why())]).unwrap();
        self.catalog.delete(&[(id, Why { time: 2, ..why() })]).unwrap();
        fs::remove_file(id.file(&self.data())).unwrap();
        positions
    }

    /// Removes the file of a segment behind everybody's back.
    pub(crate) fn lose(&self, id: SegmentId) {
        fs::remove_file(id.file(&self.data())).unwrap();
    }

    pub(crate) fn replay(&self) -> Replay {
        let catalog = Catalog::read(&self.data()).unwrap();
        let waiting = Waiting::new(None).unwrap();
        let elsewhere = Elsewhere::new(move || catalog.view(), [self.store()], waiting);
        Replay::open(&self.data()).unwrap().with_elsewhere(elsewhere)
    }

    pub(crate) fn bases(&self) -> Bases {
        Bases::new(&self.snapshots()).unwrap()
    }

    pub(crate) fn state(&self, device: &DeviceName, as_of: AsOf) -> Result<States, AsOfError> {
        self.replay().state(device, as_of, &self.bases())
    }

    pub(crate) fn states(&self, as_of: AsOf) -> Result<States, AsOfError> {
        self.replay().states(&Glob::any(), as_of, &self.bases())
    }

    /// The same from the live state, where it knows the answer or the log does.
    pub(crate) fn live(&self, device: &DeviceName, at: Option<i64>) -> Result<States, AsOfError> {
        let state = self.fleet.device(device).cloned();
        let recent = self.recent.as_ref().map(|recent| recent.of(device)).unwrap_or_default();
        let bases = self.bases().with_live(self.committer.end().position, state, recent);
        self.replay().state(device, AsOf { at, known_at: None }, &bases)
    }
}

fn one_share(bytes: u64, contents: &[Content]) -> Vec<Share> {
    let rows = contents.iter().map(|content| content.rows).sum();
    vec![Share { policy: "brief".to_owned(), rows, bytes }]
}

fn why() -> Why {
    Why { time: 0, by: "test".to_owned(), policy: Some("brief".to_owned()), reason: "a test".to_owned() }
}
