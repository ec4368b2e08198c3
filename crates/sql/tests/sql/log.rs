//! A log that a test writes, and statements over it.

use std::collections::BTreeMap;
use std::ops::ControlFlow::Continue;
use std::sync::Arc;

use arrow_array::RecordBatch;
use futures_util::TryStreamExt;
use icecore_log::{Appender, Committer, Encoder, HotLog, NewBatch, Options, RealDisk, SealPlan, Source};
use icecore_replay::{Coverage, Replay};
use icecore_sql::{Database, Format, Opened, Output, Settings, SqlError};
use icecore_wire::{
    BatchBuilder, ColumnType, DeviceName, Digest, EncodeOptions, Epoch, Field, Kind, Schema, Value,
};
use tokio::runtime::{self, Runtime};

/// A second, in nanoseconds.
pub(crate) const SECOND: i64 = 1_000_000_000;

pub(crate) struct Log {
    pub(crate) directory: tempfile::TempDir,
    appender: Appender,
    committer: Committer,
    next: BTreeMap<String, u64>,
    received: i64,
    runtime: Runtime,
}

impl Log {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 1, ..Options::default() };
        let (appender, committer, _) =
            HotLog::open(Arc::new(RealDisk), directory.path(), options, 0, &mut |_| {}).unwrap();
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { directory, appender, committer, next: BTreeMap::new(), received: 0, runtime }
    }

    /// Adds events of a device as one batch, received a second after the last one; each has a time and values.
    pub(crate) fn add(&mut self, device: &str, schema: &Arc<Schema>, rows: &[(i64, Vec<Value<'_>>)]) {
        let next = self.next.entry(device.to_owned()).or_default();
        let first_sequence = *next;
        *next += rows.len() as u64;
        let mut builder = BatchBuilder::new(Arc::clone(schema));
        for (time, values) in rows {
            builder.row(*time, values).unwrap();
        }
        let payload = builder.finish(first_sequence, EncodeOptions::default()).unwrap();
        let digest = Digest::of(&payload);
        let count = rows.len() as u32;
        let device: DeviceName = device.parse().unwrap();
        let source = Arc::new(Source { device, epoch: Epoch::from_bytes([1; 16]), number: 0 });
        self.appender.batch(
            &source,
            schema,
            NewBatch { payload, first_sequence, count, digest, compressed: false },
        );
        self.received += SECOND;
        let block = self.appender.finish(self.received);
        self.committer.commit(&mut Encoder::new().encode(block, 1)).unwrap();
    }

    /// Leaves out sequences of a device.
    pub(crate) fn skip(&mut self, device: &str, sequences: u64) {
        *self.next.entry(device.to_owned()).or_default() += sequences;
    }

    /// Seals everything so far, by schema.
    pub(crate) fn seal(&mut self) {
        // A block of nothing begins another segment.
        for _ in 0..2 {
            let block = self.appender.finish(self.received);
            self.committer.commit(&mut Encoder::new().encode(block, 1)).unwrap();
        }
        let by_schema = |schema: &Schema, _: &DeviceName, _: i64| Arc::from(schema.name());
        let mut pace = |_| Continue(());
        let plan = SealPlan { hot_bytes: u64::MAX, classify: &by_schema, pace: &mut pace, now: 1 };
        self.committer.sealer().seal(plan).unwrap();
    }

    pub(crate) fn database(&self) -> Database {
        let data = self.directory.path().to_owned();
        let open = move || Ok(Opened::new(Arc::new(Replay::open(&data)?)));
        Database::new(open, Settings::default()).unwrap()
    }

    /// The rows of an answer, and what it covers.
    pub(crate) fn ask(&self, statement: &str) -> Result<(Vec<RecordBatch>, Coverage), SqlError> {
        let database = self.database();
        self.runtime.block_on(async {
            let mut answer = database.query(statement).await?;
            let mut rows = Vec::new();
            while let Some(batch) = answer.rows.try_next().await? {
                rows.push(batch);
            }
            drop(answer.rows);
            let coverage = answer.covered.coverage().await?;
            Ok((rows, coverage))
        })
    }

    /// The answer as CSV without its header.
    pub(crate) fn csv(&self, statement: &str) -> String {
        let (rows, _) = self.ask(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
        let Some(first) = rows.first() else { return String::new() };
        let mut output = Output::new(Format::Csv, Vec::new(), &first.schema()).unwrap();
        rows.iter().for_each(|batch| output.write(batch).unwrap());
        let text = String::from_utf8(output.finish().unwrap()).unwrap();
        text.split_once('\n').unwrap().1.to_owned()
    }

    /// What is wrong with a statement.
    pub(crate) fn error(&self, statement: &str) -> String {
        self.ask(statement).map(|_| ()).expect_err(statement).to_string()
    }

    pub(crate) fn run<T>(&self, task: impl Future<Output = T>) -> T {
        self.runtime.block_on(task)
    }
}

/// A schema whose names have to be quoted, were it not for us.
pub(crate) fn weather() -> Arc<Schema> {
    let fields = vec![
        Field::new("Temp", ColumnType::F64).with_unit("Cel").nullable(),
        Field::new("gust", ColumnType::F32).nullable(),
        Field::new("turns", ColumnType::U64).with_kind(Kind::Counter).nullable(),
        Field::new("level", ColumnType::I64).nullable(),
        Field::new("note", ColumnType::Text).with_kind(Kind::State).nullable(),
    ];
    Arc::new(Schema::new("Weather", 1, fields).unwrap())
}

/// A row of it.
pub(crate) fn row(time: i64, temp: f64) -> (i64, Vec<Value<'static>>) {
    let values = vec![
        Value::F64(temp),
        Value::F32(temp as f32),
        Value::U64(time.unsigned_abs()),
        Value::I64(-time),
        Value::Text("calm"),
    ];
    (time, values)
}

/// Two devices with ten events each, a second apart, half of them sealed in two segments.
pub(crate) fn station() -> Log {
    let mut log = Log::new();
    let schema = weather();
    for part in 0..4_i64 {
        for (number, device) in ["hall/a", "yard"].into_iter().enumerate() {
            let times = (part * 5..part * 5 + 5).map(|second| second * SECOND);
            let rows: Vec<_> =
                times.map(|time| row(time, (time / SECOND) as f64 + 100.0 * number as f64)).collect();
            log.add(device, &schema, &rows);
        }
        if part == 0 || part == 1 {
            log.seal();
        }
    }
    log
}
