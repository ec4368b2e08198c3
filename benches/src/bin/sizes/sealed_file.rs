//! The same rows sealed: sent in batches, logged in the order in which they came, and sealed by the log itself.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;
use icecore_log::{Encoder, HotLog, NewBatch, Options, RealDisk, SealPlan, Sealing, Source};
use icecore_wire::{BatchBuilder, ColumnType, Digest, EncodeOptions, Epoch, Field, Schema, Value};
use tempfile::TempDir;

use crate::rows::{Column, Rows, Values};

/// Rows of a batch.
const BATCH: usize = 1_000;

/// When the first batch comes, in nanoseconds since the Unix epoch.
const START: i64 = 1_700_000_000_000_000_000;

/// A batch of a device, until it is logged.
struct Sent {
    source: Arc<Source>,
    batch: NewBatch,
}

/// Bytes of the sealed segments and of their manifest.
pub(crate) fn bytes(name: &str, rows: &Rows) -> anyhow::Result<u64> {
    let schema = Arc::new(Schema::new(name, 1, rows.columns.iter().map(field).collect())?);
    let mut sent = Vec::new();
    let mut start = 0;
    for devices in rows.devices.chunk_by(|a, b| a == b) {
        let epoch = Epoch::from_bytes(*Digest::of(devices[0].as_bytes()).as_bytes());
        let source = Arc::new(Source { device: devices[0].parse()?, epoch, number: 0 });
        let mut builder = BatchBuilder::new(Arc::clone(&schema));
        for (index, row) in (start..start + devices.len()).enumerate() {
            let values: Vec<Value<'_>> = rows.columns.iter().map(|column| column.values.get(row)).collect();
            builder.row(rows.times[row], &values)?;
            if builder.len() == BATCH || index + 1 == devices.len() {
                let count = builder.len();
                let first_sequence = (index + 1 - count) as u64;
                let payload = builder.finish(first_sequence, EncodeOptions::PLAIN)?;
                let digest = Digest::of(&payload);
                let batch =
                    NewBatch { payload, first_sequence, count: count as u32, digest, compressed: false };
                sent.push(Sent { source: Arc::clone(&source), batch });
            }
        }
        start += devices.len();
    }
    // Devices send in turns.
    sent.sort_by_key(|sent| sent.batch.first_sequence);
    let directory = TempDir::new()?;
    write(directory.path(), &schema, sent)?;
    seal(directory.path())
}

/// Logs the batches, each a few milliseconds after the one before.
fn write(data: &Path, schema: &Arc<Schema>, sent: Vec<Sent>) -> anyhow::Result<()> {
    let mut received = START;
    let (mut appender, mut committer, _) =
        HotLog::open(Arc::new(RealDisk), data, Options::default(), received, &mut |_| {})?;
    let mut encoder = Encoder::new();
    for Sent { source, batch } in sent {
        // As uneven as the clock of a server.
        received += 1_000_000 + i64::from(batch.digest.as_bytes()[0]) * 7_919;
        appender.batch(&source, schema, batch);
        committer.commit(&mut encoder.encode(appender.finish(received), 1))?;
    }
    committer.commit(&mut encoder.encode(appender.finish(received), 1))?;
    Ok(committer.close()?)
}

/// Seals all of the log, and gives the bytes of what holds it then.
fn seal(data: &Path) -> anyhow::Result<u64> {
    // What is in the newest segment when the log is opened is finished by that.
    let (_, committer, _) = HotLog::open(Arc::new(RealDisk), data, Options::default(), START, &mut |_| {})?;
    let class: Arc<str> = "default".into();
    let plan = SealPlan {
        hot_bytes: u64::MAX,
        classify: &|_, _, _| Arc::clone(&class),
        pace: &mut |_| ControlFlow::Continue(()),
        now: START,
    };
    let sealing = committer.sealer().seal(plan)?;
    ensure!(matches!(sealing, Sealing::Done(_)), "nothing was sealed: {sealing:?}");
    let mut bytes = 0;
    for directory in ["sealed", "manifests"] {
        for file in std::fs::read_dir(data.join(directory))? {
            bytes += file?.metadata()?.len();
        }
    }
    Ok(bytes)
}

fn field(column: &Column) -> Field {
    let (ty, nullable) = match &column.values {
        Values::Integers(values) => (ColumnType::I64, values.contains(&None)),
        Values::Floats(values) => (ColumnType::F64, values.contains(&None)),
        Values::Texts(values) => (ColumnType::Text, values.contains(&None)),
    };
    let field = Field::new(column.name.clone(), ty);
    if nullable { field.nullable() } else { field }
}

impl Values {
    fn get(&self, row: usize) -> Value<'_> {
        match self {
            Self::Integers(values) => values[row].map_or(Value::Null, Value::I64),
            Self::Floats(values) => values[row].map_or(Value::Null, Value::F64),
            Self::Texts(values) => values[row].as_deref().map_or(Value::Null, Value::Text),
        }
    }
}
