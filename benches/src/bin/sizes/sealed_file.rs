//! The same rows as a sealed segment: as batches that devices sent, in the order in which they came.

use std::path::PathBuf;
use std::sync::Arc;

use icecore_log::sealed::SealedWriter;
use icecore_log::{Source, StoredBatch};
use icecore_wire::{BatchBuilder, ColumnType, Digest, EncodeOptions, Epoch, Field, Schema, Value};

use crate::rows::{Rows, Values};

/// Rows of a batch.
const BATCH: usize = 1_000;

/// Bytes of the sealed file.
pub(crate) fn bytes(name: &str, rows: &Rows) -> anyhow::Result<u64> {
    let schema = Arc::new(Schema::new(name, 1, rows.columns.iter().map(field).collect())?);
    let mut batches = Vec::new();
    for devices in rows.devices.chunk_by(|a, b| a == b) {
        // Rows are sorted by device: here the next one's begin.
        let start = batches.last().map_or(0, |(_, end): &(StoredBatch, usize)| *end);
        let epoch = Epoch::from_bytes(*Digest::of(devices[0].as_bytes()).as_bytes());
        let source = Arc::new(Source { device: devices[0].parse()?, epoch, number: 0 });
        let mut builder = BatchBuilder::new(Arc::clone(&schema));
        for row in start..start + devices.len() {
            let values: Vec<Value<'_>> = rows.columns.iter().map(|column| column.values.get(row)).collect();
            builder.row(rows.times[row], &values)?;
            let is_last = row + 1 == start + devices.len();
            if builder.len() == BATCH || is_last {
                let count = builder.len();
                let first_sequence = (row + 1 - start - count) as u64;
                let payload = builder.finish(first_sequence, EncodeOptions::PLAIN)?;
                batches.push((batch(&source, &schema, first_sequence, count as u32, payload), row + 1));
            }
        }
    }
    seal(batches.into_iter().map(|(batch, _)| batch).collect())
}

fn batch(
    source: &Arc<Source>,
    schema: &Arc<Schema>,
    first_sequence: u64,
    count: u32,
    payload: icecore_wire::Payload,
) -> StoredBatch {
    StoredBatch {
        source: Arc::clone(source),
        schema: Arc::clone(schema),
        first_sequence,
        count,
        // Told when the batches are in order.
        position: 0,
        received: 0,
        digest: Digest::of(&payload),
        payload,
        compressed: false,
    }
}

/// Seals the batches as if the devices had sent them in turns, a few milliseconds apart.
fn seal(mut batches: Vec<StoredBatch>) -> anyhow::Result<u64> {
    batches.sort_by_key(|batch| batch.first_sequence);
    let mut writer = SealedWriter::new([7; 16]);
    let (mut position, mut received) = (0, 1_700_000_000_000_000_000_i64);
    for mut batch in batches {
        (batch.position, batch.received) = (position, received);
        position += u64::from(batch.count);
        // As uneven as the clock of a server.
        received += 1_000_000 + i64::from(batch.digest.as_bytes()[0]) * 7_919;
        writer.push(batch);
    }
    let mut file = Vec::new();
    Ok(writer.finish(&mut file, PathBuf::from("sizes.ice"))?.bytes)
}

fn field(column: &crate::rows::Column) -> Field {
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
