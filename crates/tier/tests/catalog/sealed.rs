//! A log that is really sealed, and split: its manifests come into the catalog.

use std::ops::ControlFlow::Continue;
use std::path::Path;
use std::sync::Arc;

use icecore_log::sealed::SealedSegment;
use icecore_log::{
    Committer, Disk, Encoder, HotLog, LogError, Manifest, NewBatch, Options, RealDisk, SealPlan, Sealing,
    Source,
};
use icecore_tier::catalog::{NewManifest, contents};
use icecore_wire::{
    BatchBuilder, ColumnType, DeviceName, Digest, EncodeOptions, Epoch, Field, Schema, Value,
};

use crate::support::{Site, by_schema, id};

fn schema(name: &str) -> Arc<Schema> {
    Arc::new(Schema::new(name, 1, vec![Field::new("value", ColumnType::F64)]).unwrap())
}

fn source(device: &str, epoch: u8) -> Arc<Source> {
    let device = device.parse().unwrap();
    Arc::new(Source { device, epoch: Epoch::from_bytes([epoch; 16]), number: u32::from(epoch) })
}

fn batch(schema: &Arc<Schema>, first_sequence: u64) -> NewBatch {
    let mut builder = BatchBuilder::new(Arc::clone(schema));
    for time in 0..10 {
        builder.row(time, &[Value::F64(0.5)]).unwrap();
    }
    let payload = builder.finish(first_sequence, EncodeOptions::PLAIN).unwrap();
    let digest = Digest::of(&payload);
    NewBatch { payload, first_sequence, count: 10, digest, compressed: false }
}

/// Writes batches of two schemas, two devices and two epochs, in segments that are small enough to be finished.
fn write(data: &Path) -> Committer {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let options = Options { segment_bytes: 2048, ..Options::default() };
    let (mut appender, mut committer, _) = HotLog::open(disk, data, options, 0, &mut |_| {}).unwrap();
    let (heat, flow) = (schema("heat"), schema("flow"));
    let mut encoder = Encoder::new();
    for round in 0..40 {
        appender.batch(&source("oslo/1", (round / 3 % 2) as u8), &heat, batch(&heat, round * 10));
        appender.batch(&source("oslo/2", 0), &flow, batch(&flow, round * 10));
        let mut block = encoder.encode(appender.finish(1_000 + round as i64), 1);
        committer.commit(&mut block).unwrap();
    }
    committer
}

/// Puts what a seal did into the catalog.
fn register(site: &Site, data: &Path, manifest: &Manifest) {
    let read = |id: icecore_log::SegmentId| -> Result<_, LogError> {
        let file = id.file(data);
        let bytes = std::fs::read(&file).unwrap();
        Ok(contents(SealedSegment::open(Arc::new(bytes), file)?.summary()))
    };
    let manifest = NewManifest::of(manifest, read).unwrap();
    site.register(&manifest).unwrap();
}

fn done(sealing: Result<Sealing, LogError>) -> Arc<Manifest> {
    match sealing {
        Ok(Sealing::Done(manifest)) => manifest,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_manifests_of_a_log_come_into_the_catalog() {
    let (site, data) = (Site::without_bucket(), tempfile::tempdir().unwrap());
    let data = data.path();
    let committer = write(data);
    let sealer = committer.sealer();
    let together = |_: &Schema, _: &DeviceName, _: i64| Arc::from("all");
    let by_name = |schema: &Schema, _: &DeviceName, _: i64| Arc::from(schema.name());
    let seal = || {
        let mut pace = |_| Continue(());
        sealer.seal(SealPlan { hot_bytes: 1, classify: &together, pace: &mut pace, now: 1 })
    };
    let manifest = done(seal());
    register(&site, data, &manifest);
    let entry = site.entry(id(0, 0));
    let policies: Vec<_> = entry.segment.shares.iter().map(|share| &*share.policy).collect();
    assert_eq!(policies, ["flow", "heat"]);
    assert_eq!(site.catalog().view().unwrap().sealed_to(), manifest.positions.end);

    let mut pace = |_| Continue(());
    let split = SealPlan { hot_bytes: 0, classify: &by_name, pace: &mut pace, now: 1 };
    let manifest = done(sealer.split(id(0, 0), split));
    register(&site, data, &manifest);
    assert_eq!(site.live(id(0, 0)), None);
    let view = site.catalog().view().unwrap();
    let parts: Vec<_> = view.segments().unwrap().map(|entry| entry.unwrap().segment).collect();
    assert_eq!(parts.len(), 2);
    let rows: u64 = parts.iter().map(|part| part.rows).sum();
    assert_eq!(rows, entry.segment.rows);
    assert!(parts.iter().all(|part| part.shares == by_schema(part.bytes, &view.contents(part.id).unwrap())));

    let next = done(seal());
    register(&site, data, &next);
    assert_eq!(site.catalog().view().unwrap().sealed_to(), next.positions.end);
}
