//! A log of one device whose blocks are sealed one by one, and what is rolled up of it.

use std::collections::BTreeMap;
use std::ops::ControlFlow::Continue;
use std::sync::Arc;

use icecore_log::{
    Appender, Committer, Encoder, HotLog, LogReader, Manifest, NewBatch, Options, RealDisk, SealPlan,
    Sealing, Source,
};
use icecore_replay::ReplayError;
use icecore_replay::rollup::Touched;
use icecore_state::fold::Kept;
use icecore_state::rollup::{Cell, Rollup};
use icecore_wire::{
    BatchBuilder, ColumnType, DeviceName, Digest, EncodeOptions, Epoch, Field, Kind, Schema, Value,
};

pub(crate) const SECOND: i64 = 1_000_000_000;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) epoch: u32,
    pub(crate) sequence: u64,
    pub(crate) time: i64,
    pub(crate) level: Option<f64>,
    pub(crate) count: u64,
    pub(crate) mode: &'static str,
    pub(crate) heading: f64,
}

pub(crate) fn schema() -> Arc<Schema> {
    let fields = vec![
        Field::new("level", ColumnType::F64).nullable(),
        Field::new("count", ColumnType::U64).with_kind(Kind::Counter),
        Field::new("mode", ColumnType::Text).with_kind(Kind::State),
        Field::new("heading", ColumnType::F64).with_kind(Kind::Angle).with_unit("deg"),
    ];
    Arc::new(Schema::new("pump", 1, fields).unwrap())
}

pub(crate) fn rollup(seconds: i64) -> Rollup {
    Rollup::new(&schema(), seconds * SECOND, &format!("{seconds}s"), true).unwrap()
}

/// The cells of a row by the names of their columns, and its revision.
pub(crate) type Row = BTreeMap<String, Cell>;

/// A log on a real disk.
pub(crate) struct Log {
    pub(crate) directory: tempfile::TempDir,
    appender: Appender,
    pub(crate) committer: Committer,
    encoder: Encoder,
    filled: u64,
}

impl Log {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // A segment is full with its first block; the one after it may be in it all the same.
        let options = Options { segment_bytes: 1, ..Options::default() };
        let opened = HotLog::open(Arc::new(RealDisk), directory.path(), options, 0, &mut |_| {});
        let (appender, committer, _) = opened.unwrap();
        Self { directory, appender, committer, encoder: Encoder::new(), filled: 0 }
    }

    /// Writes a block of batches: consecutive events of one epoch each.
    pub(crate) fn block(&mut self, batches: &[Vec<Event>]) {
        for batch in batches {
            let mut builder = BatchBuilder::new(schema());
            for event in batch {
                let level = event.level.map_or(Value::Null, Value::F64);
                let values =
                    [level, Value::U64(event.count), Value::Text(event.mode), Value::F64(event.heading)];
                builder.row(event.time, &values).unwrap();
            }
            self.batch(batch[0].epoch, batch[0].sequence, &mut builder);
        }
        self.commit();
    }

    pub(crate) fn batch(&mut self, epoch: u32, first_sequence: u64, builder: &mut BatchBuilder) {
        let device = device();
        let source = Source { device, epoch: Epoch::from_bytes([epoch as u8; 16]), number: epoch };
        let (schema, count) = (Arc::clone(builder.schema()), builder.len() as u32);
        let payload = builder.finish(first_sequence, EncodeOptions::default()).unwrap();
        let digest = Digest::of(&payload);
        let new = NewBatch { payload, first_sequence, count, digest, compressed: false };
        self.appender.batch(&Arc::new(source), &schema, new);
    }

    pub(crate) fn commit(&mut self) {
        let mut block = self.encoder.encode(self.appender.finish(0), 1);
        self.committer.commit(&mut block).unwrap();
    }

    /// Writes blocks of events far from all others, until those before them can be sealed.
    pub(crate) fn fill(&mut self) {
        for _ in 0..3 {
            self.block(&[vec![event(9, self.filled, 1 << 60)]]);
            self.filled += 1;
        }
    }

    /// Seals the oldest blocks, which others have to follow.
    pub(crate) fn seal(&self) -> Option<Arc<Manifest>> {
        let one = |_: &Schema, _: &DeviceName, _: i64| Arc::from("one");
        let mut pace = |_| Continue(());
        let plan = SealPlan { hot_bytes: 0, classify: &one, pace: &mut pace, now: 1 };
        match self.committer.sealer().seal(plan).unwrap() {
            Sealing::Done(manifest) => Some(manifest),
            Sealing::Nothing | Sealing::BrokenOff => None,
        }
    }

    pub(crate) fn reader(&self) -> LogReader {
        LogReader::open(Arc::new(RealDisk), self.directory.path()).unwrap()
    }

    /// The rows that a manifest gives, in order.
    pub(crate) fn roll(
        &self,
        manifest: &Manifest,
        rollup: &Rollup,
        after: Option<i64>,
    ) -> Vec<(i64, Vec<Cell>)> {
        let reader = self.reader();
        let mut touched = Touched::by(&reader, manifest).unwrap();
        let mut rows = Vec::new();
        for series in touched.series() {
            let mut take = |start, row| {
                rows.push((start, row));
                Ok::<(), ReplayError>(())
            };
            touched.roll(&series, rollup, after, &mut take).unwrap();
        }
        assert!(touched.take_damage().is_empty());
        rows
    }

    /// Seals everything block by block, and returns the rows with the highest revisions by window, without their revisions.
    pub(crate) fn newest(&mut self, rollup: &Rollup) -> BTreeMap<i64, Row> {
        self.fill();
        let far = rollup.start_of(1 << 60);
        let mut newest = BTreeMap::new();
        while let Some(manifest) = self.seal() {
            let rows = self.roll(&manifest, rollup, None);
            assert!(rows.is_sorted_by_key(|(start, _)| *start));
            for (start, row) in rows {
                let mut row = named(rollup, row);
                assert_eq!(row.remove("revision"), Some(Some(Kept::U64(manifest.positions.end))));
                newest.insert(start, row);
            }
        }
        newest.remove(&far);
        newest
    }
}

pub(crate) fn named(rollup: &Rollup, row: Vec<Cell>) -> Row {
    let names = rollup.schema().fields().iter().map(|field| field.name().to_owned());
    assert_eq!(rollup.schema().fields().len(), row.len());
    names.zip(row).collect()
}

pub(crate) fn device() -> DeviceName {
    "pump/7".parse().unwrap()
}

pub(crate) fn event(epoch: u32, sequence: u64, time: i64) -> Event {
    Event { epoch, sequence, time, level: Some(1.0), count: 0, mode: "idle", heading: 0.0 }
}

pub(crate) fn number(row: &Row, column: &str) -> f64 {
    match row[column].as_ref().unwrap_or_else(|| panic!("{column} is null")) {
        Kept::F64(bits) => f64::from_bits(*bits),
        Kept::U64(number) => *number as f64,
        other => panic!("{column} is {other:?}"),
    }
}
