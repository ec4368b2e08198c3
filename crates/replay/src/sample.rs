//! Stored batches made by hand, for tests.

use std::sync::Arc;

use icecore_log::{Source, StoredBatch};
use icecore_wire::{
    BatchBuilder, ColumnType, DeviceName, Digest, EncodeOptions, Epoch, Field, Schema, Value,
};

use crate::{Query, Selection};

pub(crate) fn source(device: &str, number: u32) -> Arc<Source> {
    let device: DeviceName = device.parse().unwrap();
    Arc::new(Source { device, epoch: Epoch::from_bytes([number as u8; 16]), number })
}

/// One field of every type, all of them nullable.
pub(crate) fn every_type() -> Arc<Schema> {
    let types = [
        ("f64", ColumnType::F64),
        ("f32", ColumnType::F32),
        ("i64", ColumnType::I64),
        ("u64", ColumnType::U64),
        ("bool", ColumnType::Bool),
        ("text", ColumnType::Text),
        ("bytes", ColumnType::Bytes),
        ("time", ColumnType::Timestamp),
        ("f32s", ColumnType::F32List(3)),
        ("i16s", ColumnType::I16List(2)),
    ];
    schema("every", 1, &types)
}

pub(crate) fn schema(name: &str, version: u32, fields: &[(&str, ColumnType)]) -> Arc<Schema> {
    let fields = fields.iter().map(|&(name, ty)| Field::new(name, ty).nullable()).collect();
    Arc::new(Schema::new(name, version, fields).unwrap())
}

/// A batch of rows (event time and values) as the log would give it back, received at 1 s.
pub(crate) fn selection(
    source: &Arc<Source>,
    schema: &Arc<Schema>,
    first_sequence: u64,
    rows: &[(i64, Vec<Value<'_>>)],
) -> Selection {
    let mut builder = BatchBuilder::new(Arc::clone(schema));
    for (time, values) in rows {
        builder.row(*time, values).unwrap();
    }
    let payload = builder.finish(first_sequence, EncodeOptions::default()).unwrap();
    let stored = StoredBatch {
        source: Arc::clone(source),
        schema: Arc::clone(schema),
        first_sequence,
        count: rows.len() as u32,
        position: 100 + first_sequence,
        received: 1_000_000_000,
        digest: Digest::of(&payload),
        payload,
        compressed: false,
    };
    Selection::decode(stored, &Query::default(), None).unwrap()
}
