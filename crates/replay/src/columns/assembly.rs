//! Record batches put together from rows.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, FixedSizeListBuilder, Float32Builder, Float64Builder, Int16Builder,
    Int64Builder, StringBuilder, UInt64Builder,
};
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Int32Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow_schema::SchemaRef;
use icecore_log::Source;
use icecore_wire::{ColumnType, DeviceName, SchemaId, Value};

use super::arrays::UTC;
use super::table::{Origin, Table};
use crate::{Event, ReplayError};

/// Rows of a record batch.
pub(super) const BATCH_ROWS: usize = 1 << 16;
/// Bytes of a record batch at which it is ended, whatever rows it has.
const BATCH_BYTES: usize = 16 << 20;

/// Takes events one by one.
#[derive(Debug)]
pub(super) struct Assembly {
    table: Arc<Table>,
    schema: SchemaRef,
    columns: Vec<Growing>,
    rows: usize,
    bytes: usize,
    /// Of the version that came last, the number of the field of every column.
    layout: Option<(SchemaId, Vec<Option<usize>>)>,
    devices: Devices,
}

/// A column that grows.
#[derive(Debug)]
enum Growing {
    Devices(Vec<i32>),
    Epochs(Vec<u32>),
    Sequences(Vec<u64>),
    Positions(Vec<u64>),
    EventTimes(Vec<i64>),
    ReceivedTimes(Vec<i64>),
    Uncertain(Vec<bool>),
    Versions(Vec<u32>),
    Field(usize, Cells),
}

#[derive(Debug)]
enum Cells {
    F64(Float64Builder),
    F32(Float32Builder),
    I64(Int64Builder),
    Times(Int64Builder),
    U64(UInt64Builder),
    Bool(BooleanBuilder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    F32s(FixedSizeListBuilder<Float32Builder>, usize),
    I16s(FixedSizeListBuilder<Int16Builder>, usize),
}

/// The devices of a record batch.
#[derive(Debug, Default)]
struct Devices {
    keys: HashMap<DeviceName, i32>,
    names: Vec<DeviceName>,
    last: Option<(Arc<Source>, i32)>,
}

impl Assembly {
    /// Record batches of these columns of `table`; `schema` is theirs.
    pub(super) fn new(table: &Arc<Table>, columns: &[usize], schema: SchemaRef) -> Self {
        let growing = |column: &usize| match table.origin(*column) {
            Origin::Device => Growing::Devices(Vec::new()),
            Origin::Epoch => Growing::Epochs(Vec::new()),
            Origin::Sequence => Growing::Sequences(Vec::new()),
            Origin::Position => Growing::Positions(Vec::new()),
            Origin::EventTime => Growing::EventTimes(Vec::new()),
            Origin::ReceivedTime => Growing::ReceivedTimes(Vec::new()),
            Origin::TimeUncertain => Growing::Uncertain(Vec::new()),
            Origin::Version => Growing::Versions(Vec::new()),
            Origin::Field(field) => Growing::Field(field, Cells::new(table.field_type(field))),
        };
        Self {
            table: Arc::clone(table),
            schema,
            columns: columns.iter().map(growing).collect(),
            rows: 0,
            bytes: 0,
            layout: None,
            devices: Devices::default(),
        }
    }

    /// Takes an event, and gives a record batch if one is full.
    pub(super) fn push(&mut self, event: &Event<'_>) -> Result<Option<RecordBatch>, ReplayError> {
        if self.layout.as_ref().is_none_or(|(version, _)| *version != event.schema.id()) {
            let layout = self.table.layout(event.schema).ok_or_else(|| ReplayError::NotInTable {
                name: event.schema.name().to_owned(),
                version: event.schema.version(),
            })?;
            self.layout = Some((event.schema.id(), layout.to_vec()));
        }
        let Some((_, layout)) = &self.layout else { return Ok(None) };
        let values: Vec<Value<'_>> = event.values().collect();
        for column in &mut self.columns {
            match column {
                Growing::Devices(keys) => keys.push(self.devices.key(event.source)),
                Growing::Epochs(numbers) => numbers.push(event.source.number),
                Growing::Sequences(numbers) => numbers.push(event.sequence),
                Growing::Positions(numbers) => numbers.push(event.position),
                Growing::EventTimes(times) => times.push(event.event_time),
                Growing::ReceivedTimes(times) => times.push(event.received_time),
                Growing::Uncertain(flags) => flags.push(event.time_uncertain),
                Growing::Versions(numbers) => numbers.push(event.schema.version()),
                Growing::Field(field, cells) => {
                    let value = layout[*field].and_then(|number| values.get(number));
                    self.bytes += cells.push(value.copied().unwrap_or(Value::Null));
                }
            }
        }
        self.rows += 1;
        let is_full = self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES;
        if is_full { self.finish() } else { Ok(None) }
    }

    /// The rows that were taken since the last record batch.
    pub(super) fn finish(&mut self) -> Result<Option<RecordBatch>, ReplayError> {
        if self.rows == 0 {
            return Ok(None);
        }
        let names = self.devices.take_names();
        let arrays = self.columns.iter_mut().map(|column| column.finish(&names)).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        self.bytes = 0;
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?))
    }
}

impl Devices {
    fn key(&mut self, source: &Arc<Source>) -> i32 {
        if let Some((last, key)) = &self.last
            && Arc::ptr_eq(last, source)
        {
            return *key;
        }
        let key = *self.keys.entry(source.device.clone()).or_insert_with(|| {
            self.names.push(source.device.clone());
            self.names.len() as i32 - 1
        });
        self.last = Some((Arc::clone(source), key));
        key
    }

    fn take_names(&mut self) -> Arc<StringArray> {
        let names = std::mem::take(self).names;
        Arc::new(StringArray::from_iter_values(names.iter().map(DeviceName::as_str)))
    }
}

impl Growing {
    fn finish(&mut self, names: &Arc<StringArray>) -> Result<ArrayRef, ReplayError> {
        let times =
            |times: &mut Vec<i64>| TimestampNanosecondArray::from(std::mem::take(times)).with_timezone(UTC);
        Ok(match self {
            Self::Devices(keys) => {
                let keys = Int32Array::from(std::mem::take(keys));
                Arc::new(DictionaryArray::try_new(keys, Arc::clone(names) as ArrayRef)?)
            }
            Self::Epochs(numbers) | Self::Versions(numbers) => {
                Arc::new(UInt32Array::from(std::mem::take(numbers)))
            }
            Self::Sequences(numbers) | Self::Positions(numbers) => {
                Arc::new(UInt64Array::from(std::mem::take(numbers)))
            }
            Self::EventTimes(values) | Self::ReceivedTimes(values) => Arc::new(times(values)),
            Self::Uncertain(flags) => Arc::new(BooleanArray::from(std::mem::take(flags))),
            Self::Field(_, cells) => cells.finish(),
        })
    }
}

impl Cells {
    fn new(ty: ColumnType) -> Self {
        match ty {
            ColumnType::F64 => Self::F64(Float64Builder::new()),
            ColumnType::F32 => Self::F32(Float32Builder::new()),
            ColumnType::I64 => Self::I64(Int64Builder::new()),
            ColumnType::Timestamp => Self::Times(Int64Builder::new()),
            ColumnType::U64 => Self::U64(UInt64Builder::new()),
            ColumnType::Bool => Self::Bool(BooleanBuilder::new()),
            ColumnType::Text => Self::Text(StringBuilder::new()),
            ColumnType::Bytes => Self::Bytes(BinaryBuilder::new()),
            ColumnType::F32List(length) => {
                let list = FixedSizeListBuilder::new(Float32Builder::new(), length.into());
                Self::F32s(list, length.into())
            }
            ColumnType::I16List(length) => {
                let list = FixedSizeListBuilder::new(Int16Builder::new(), length.into());
                Self::I16s(list, length.into())
            }
        }
    }

    /// Takes a value of its type, or null; gives the bytes it takes.
    fn push(&mut self, value: Value<'_>) -> usize {
        match (self, value) {
            (Self::F64(cells), Value::F64(number)) => cells.append_value(number),
            (Self::F64(cells), _) => cells.append_null(),
            (Self::F32(cells), Value::F32(number)) => cells.append_value(number),
            (Self::F32(cells), _) => cells.append_null(),
            (Self::I64(cells), Value::I64(number)) => cells.append_value(number),
            (Self::Times(cells), Value::Timestamp(time)) => cells.append_value(time),
            (Self::I64(cells) | Self::Times(cells), _) => cells.append_null(),
            (Self::U64(cells), Value::U64(number)) => cells.append_value(number),
            (Self::U64(cells), _) => cells.append_null(),
            (Self::Bool(cells), Value::Bool(flag)) => cells.append_value(flag),
            (Self::Bool(cells), _) => cells.append_null(),
            (Self::Text(cells), Value::Text(text)) => {
                cells.append_value(text);
                return text.len();
            }
            (Self::Text(cells), _) => cells.append_null(),
            (Self::Bytes(cells), Value::Bytes(bytes)) => {
                cells.append_value(bytes);
                return bytes.len();
            }
            (Self::Bytes(cells), _) => cells.append_null(),
            (Self::F32s(list, length), value) => {
                match value {
                    Value::F32List(numbers) => list.values().append_slice(numbers),
                    _ => list.values().append_value_n(0.0, *length),
                }
                list.append(matches!(value, Value::F32List(_)));
                return 4 * *length;
            }
            (Self::I16s(list, length), value) => {
                match value {
                    Value::I16List(numbers) => list.values().append_slice(numbers),
                    _ => list.values().append_value_n(0, *length),
                }
                list.append(matches!(value, Value::I16List(_)));
                return 2 * *length;
            }
        }
        8
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::F64(cells) => Arc::new(cells.finish()),
            Self::F32(cells) => Arc::new(cells.finish()),
            Self::I64(cells) => Arc::new(cells.finish()),
            Self::Times(cells) => {
                let (_, values, nulls) = cells.finish().into_parts();
                Arc::new(TimestampNanosecondArray::new(values, nulls).with_timezone(UTC))
            }
            Self::U64(cells) => Arc::new(cells.finish()),
            Self::Bool(cells) => Arc::new(cells.finish()),
            Self::Text(cells) => Arc::new(cells.finish()),
            Self::Bytes(cells) => Arc::new(cells.finish()),
            Self::F32s(list, _) => Arc::new(list.finish()),
            Self::I16s(list, _) => Arc::new(list.finish()),
        }
    }
}
