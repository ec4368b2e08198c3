//! Rows and columns gathered into the next batch.

use std::sync::Arc;

use rkyv::util::AlignedVec;

use super::archive::{self, BatchV1, COLUMN_BYTES, ColumnV1, ROOT_BYTES, VECTOR_ALIGNMENT};
use super::{
    BatchError, Column, ColumnData, ColumnError, EncodeOptions, Encoding, FLAG_TIME_UNCERTAIN, Value, packed,
};
use crate::limits::{MAX_BATCH_BYTES, MAX_ROWS, MAX_SEQUENCE};
use crate::{ColumnType, Field, Payload, Schema};

/// Gathers events of one schema and cuts them into batches. Its buffers are kept from batch to batch.
#[derive(Debug)]
pub struct BatchBuilder {
    schema: Arc<Schema>,
    pub(super) rows: Rows,
}

impl BatchBuilder {
    /// An empty builder.
    pub fn new(schema: Arc<Schema>) -> Self {
        let rows = Rows::new(&schema);
        Self { schema, rows }
    }

    /// The schema of the events.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Adds one event: its time (nanoseconds since the Unix epoch) and one value per field. On an error nothing is
    /// added; [`BatchError::RowCount`] and [`BatchError::TooLarge`] mean that the batch must be finished first.
    pub fn row(&mut self, time: i64, values: &[Value<'_>]) -> Result<(), BatchError> {
        self.rows.push_row(&self.schema, time, values)
    }

    /// Adds many events: their times and one column per field. Errors are as for [`Self::row`].
    pub fn columns(&mut self, times: &[i64], columns: &[Column<'_>]) -> Result<(), BatchError> {
        self.rows.push_columns(&self.schema, times, columns)
    }

    /// How many events are waiting.
    pub fn len(&self) -> usize {
        self.rows.count
    }

    /// Whether none is waiting.
    pub fn is_empty(&self) -> bool {
        self.rows.count == 0
    }

    /// How many bytes the payload will take at most.
    pub fn bytes(&self) -> usize {
        self.rows.bytes(0, 0)
    }

    /// Encodes the waiting events as one batch and starts over; on an error they stay.
    pub fn finish(&mut self, first_sequence: u64, options: EncodeOptions) -> Result<Payload, BatchError> {
        let payload = self.rows.encode(&self.schema, first_sequence, options)?;
        self.rows.clear();
        Ok(payload)
    }

    /// Forgets the waiting events.
    pub fn clear(&mut self) {
        self.rows.clear();
    }
}

/// Plain columns that grow.
#[derive(Debug)]
pub(super) struct Rows {
    count: usize,
    times: AlignedVec<16>,
    columns: Vec<ColumnBuffer>,
    size: SizeBound,
    /// By column, the event times first: batches to come in which pco is not tried, because it did not pay.
    untried: Vec<u8>,
}

/// Whether `rows` rows of `schema`, with `variable` bytes of texts and byte strings, fit plain into one payload: then
/// [`encode`](super::encode) takes them.
#[must_use]
pub fn fits_plain(schema: &Schema, rows: usize, variable: usize) -> bool {
    Rows::new(schema).check_room(rows, variable).is_ok()
}

/// Fewer rows than this are not worth the try: pco's own metadata are most of what it writes.
const ROWS_THAT_PAY: usize = 16;
/// A column pays if pco saves at least this part of it.
const PART_SAVED: usize = 8;
/// For how many batches a column that did not pay is left alone.
const BATCHES_UNTRIED: u8 = 64;

/// What bounds the size of the payload without looking at the columns.
#[derive(Debug, Clone, Copy)]
struct SizeBound {
    /// Archive entries, alignment and last offsets.
    fixed: usize,
    /// Whole bytes of every row.
    per_row: usize,
    /// Columns of bits: validity and truth values.
    bit_columns: usize,
    /// Bytes of texts and byte strings so far.
    variable: usize,
}

impl Rows {
    pub(super) fn new(schema: &Schema) -> Self {
        let columns: Vec<ColumnBuffer> = schema.fields().iter().map(ColumnBuffer::new).collect();
        let entries = columns.len() + 1;
        let mut size = SizeBound {
            // Three vectors a column, each aligned; an offset after the last row.
            fixed: ROOT_BYTES
                + VECTOR_ALIGNMENT
                + entries * (COLUMN_BYTES + 3 * VECTOR_ALIGNMENT + size_of::<u32>()),
            per_row: size_of::<i64>(),
            bit_columns: 0,
            variable: 0,
        };
        for field in schema.fields() {
            size.bit_columns +=
                usize::from(field.is_nullable()) + usize::from(field.ty() == ColumnType::Bool);
            size.per_row += fixed_width(field.ty());
        }
        Self { count: 0, times: AlignedVec::new(), columns, size, untried: vec![0; entries] }
    }

    /// The most bytes the payload takes after `rows` more, with `variable` bytes of texts and byte strings.
    fn bytes(&self, rows: usize, variable: usize) -> usize {
        let rows = self.count + rows;
        let size = &self.size;
        size.fixed + rows * size.per_row + size.bit_columns * rows.div_ceil(8) + size.variable + variable
    }

    fn check_room(&self, rows: usize, variable: usize) -> Result<(), BatchError> {
        if self.count + rows > MAX_ROWS {
            return Err(BatchError::RowCount(self.count + rows));
        }
        match self.bytes(rows, variable) {
            bytes if bytes > MAX_BATCH_BYTES => Err(BatchError::TooLarge(bytes)),
            _ => Ok(()),
        }
    }

    fn push_row(&mut self, schema: &Schema, time: i64, values: &[Value<'_>]) -> Result<(), BatchError> {
        check_count(schema, values.len())?;
        let mut variable = 0;
        for (field, value) in schema.fields().iter().zip(values) {
            variable += check_value(field, value).map_err(|error| error.of(field.name()))?;
        }
        self.check_room(1, variable)?;
        self.times.extend_from_slice(&time.to_le_bytes());
        for (column, value) in self.columns.iter_mut().zip(values) {
            column.push(self.count, *value);
        }
        self.count += 1;
        self.size.variable += variable;
        Ok(())
    }

    pub(super) fn push_columns(
        &mut self,
        schema: &Schema,
        times: &[i64],
        columns: &[Column<'_>],
    ) -> Result<(), BatchError> {
        check_count(schema, columns.len())?;
        let mut variable = 0;
        for (field, column) in schema.fields().iter().zip(columns) {
            check_column(field, column, times.len()).map_err(|error| error.of(field.name()))?;
            variable += match column.data {
                ColumnData::Text(texts) => texts.iter().map(|text| text.len()).sum(),
                ColumnData::Bytes(strings) => strings.iter().map(|bytes| bytes.len()).sum(),
                _ => 0,
            };
        }
        self.check_room(times.len(), variable)?;
        self.times.extend_from_slice(bytemuck::cast_slice(times));
        for (buffer, column) in self.columns.iter_mut().zip(columns) {
            buffer.extend(self.count, column, times.len());
        }
        self.count += times.len();
        self.size.variable += variable;
        Ok(())
    }

    pub(super) fn encode(
        &mut self,
        schema: &Schema,
        first_sequence: u64,
        options: EncodeOptions,
    ) -> Result<Payload, BatchError> {
        if self.count == 0 {
            return Err(BatchError::RowCount(0));
        }
        let count = self.count as u32;
        if first_sequence > MAX_SEQUENCE - u64::from(count) {
            return Err(BatchError::SequenceOverflow { first_sequence, count });
        }
        let packed = self.pack(schema, options);
        let mut columns = Vec::with_capacity(self.columns.len() + 1);
        columns.push(ColumnV1::new(ColumnType::Timestamp, &[], &[], &self.times, packed.first()));
        for (i, (field, column)) in schema.fields().iter().zip(&self.columns).enumerate() {
            let offsets = bytemuck::cast_slice(&column.offsets);
            columns.push(ColumnV1::new(
                field.ty(),
                &column.validity,
                offsets,
                &column.data,
                packed.get(i + 1),
            ));
        }
        let batch = BatchV1 {
            schema: *schema.id().as_bytes(),
            first_sequence,
            count,
            flags: if options.time_uncertain { FLAG_TIME_UNCERTAIN } else { 0 },
            columns: &columns,
        };
        Ok(archive::write(&batch, self.bytes(0, 0)))
    }

    /// The columns that pco made smaller, by column; empty when pco is not wanted.
    fn pack(&mut self, schema: &Schema, options: EncodeOptions) -> Vec<Option<Vec<u8>>> {
        let Some(level) = options.pco else {
            return Vec::new();
        };
        if options.only_where_it_pays && self.count < ROWS_THAT_PAY {
            return Vec::new();
        }
        let level = level.min(packed::MAX_LEVEL);
        let fields =
            schema.fields().iter().map(Field::ty).zip(self.columns.iter().map(|column| &column.data));
        let columns = std::iter::once((ColumnType::Timestamp, &self.times)).chain(fields);
        let mut packed = Vec::with_capacity(self.untried.len());
        for (index, ((ty, data), untried)) in columns.zip(&mut self.untried).enumerate() {
            packed.push(if index == 0 && options.plain_times {
                None
            } else if options.only_where_it_pays {
                pack_if_it_pays(ty, data, level, untried)
            } else {
                packed::compress(ty, data, level)
            });
        }
        packed
    }

    fn clear(&mut self) {
        self.count = 0;
        self.size.variable = 0;
        self.times.clear();
        for column in &mut self.columns {
            column.clear();
        }
    }
}

fn pack_if_it_pays(ty: ColumnType, data: &[u8], level: u8, untried: &mut u8) -> Option<Vec<u8>> {
    if *untried > 0 {
        *untried -= 1;
        return None;
    }
    let most = data.len() - data.len() / PART_SAVED;
    let packed = packed::compress(ty, data, level).filter(|packed| packed.len() <= most);
    if packed.is_none() {
        *untried = BATCHES_UNTRIED;
    }
    packed
}

impl<'a> ColumnV1<'a> {
    fn new(
        ty: ColumnType,
        validity: &'a [u8],
        offsets: &'a [u8],
        plain: &'a [u8],
        packed: Option<&'a Option<Vec<u8>>>,
    ) -> Self {
        let (encoding, data) = match packed {
            Some(Some(packed)) => (Encoding::Pco, packed.as_slice()),
            _ => (Encoding::Plain, plain),
        };
        Self { ty: ty.tag(), encoding: encoding as u8, validity, offsets, data }
    }
}

/// One plain column that grows.
#[derive(Debug)]
struct ColumnBuffer {
    /// Bytes that a null takes.
    width: usize,
    /// Empty as long as there is no null.
    validity: Vec<u8>,
    /// Only of texts and byte strings: 0 and every end.
    offsets: Vec<u32>,
    /// Aligned, so that pco reads numbers where they lie.
    data: AlignedVec<16>,
    ty: ColumnType,
}

impl ColumnBuffer {
    fn new(field: &Field) -> Self {
        let ty = field.ty();
        let mut buffer = Self {
            width: value_width(ty),
            validity: Vec::new(),
            offsets: Vec::new(),
            data: AlignedVec::new(),
            ty,
        };
        buffer.clear();
        buffer
    }

    fn clear(&mut self) {
        self.validity.clear();
        self.data.clear();
        self.offsets.clear();
        if matches!(self.ty, ColumnType::Text | ColumnType::Bytes) {
            self.offsets.push(0);
        }
    }

    /// Adds the value of row `row`; its type was checked.
    fn push(&mut self, row: usize, value: Value<'_>) {
        let valid = !matches!(value, Value::Null);
        if !valid || !self.validity.is_empty() {
            self.push_validity(row, valid);
        }
        match value {
            Value::Null => self.push_null(row),
            Value::F64(value) => self.data.extend_from_slice(&value.to_le_bytes()),
            Value::F32(value) => self.data.extend_from_slice(&value.to_le_bytes()),
            Value::I64(value) | Value::Timestamp(value) => self.data.extend_from_slice(&value.to_le_bytes()),
            Value::U64(value) => self.data.extend_from_slice(&value.to_le_bytes()),
            Value::Bool(value) => push_bit(&mut self.data, row, value),
            Value::Text(value) => self.push_bytes(value.as_bytes()),
            Value::Bytes(value) => self.push_bytes(value),
            Value::F32List(values) => self.data.extend_from_slice(bytemuck::cast_slice(values)),
            Value::I16List(values) => self.data.extend_from_slice(bytemuck::cast_slice(values)),
        }
    }

    /// Adds the values of `count` rows from `row` on; everything about them was checked.
    fn extend(&mut self, row: usize, column: &Column<'_>, count: usize) {
        self.extend_validity(row, column.validity, count);
        match column.data {
            ColumnData::F64(values) => self.data.extend_from_slice(bytemuck::cast_slice(values)),
            ColumnData::F32(values) | ColumnData::F32List(values) => {
                self.data.extend_from_slice(bytemuck::cast_slice(values));
            }
            ColumnData::I64(values) | ColumnData::Timestamp(values) => {
                self.data.extend_from_slice(bytemuck::cast_slice(values));
            }
            ColumnData::U64(values) => self.data.extend_from_slice(bytemuck::cast_slice(values)),
            ColumnData::I16List(values) => self.data.extend_from_slice(bytemuck::cast_slice(values)),
            ColumnData::Bool(values) => {
                for (i, value) in values.iter().enumerate() {
                    push_bit(&mut self.data, row + i, *value);
                }
            }
            ColumnData::Text(values) => values.iter().for_each(|text| self.push_bytes(text.as_bytes())),
            ColumnData::Bytes(values) => values.iter().for_each(|bytes| self.push_bytes(bytes)),
        }
    }

    fn extend_validity(&mut self, row: usize, validity: Option<&[bool]>, count: usize) {
        let has_nulls = validity.is_some_and(|validity| validity.contains(&false));
        if self.validity.is_empty() && !has_nulls {
            return;
        }
        for i in 0..count {
            self.push_validity(row + i, validity.is_none_or(|validity| validity[i]));
        }
    }

    fn push_null(&mut self, row: usize) {
        match self.ty {
            ColumnType::Bool => push_bit(&mut self.data, row, false),
            ColumnType::Text | ColumnType::Bytes => self.push_bytes(&[]),
            _ => self.data.resize(self.data.len() + self.width, 0),
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        // A payload is far smaller than 4 GiB; `check_room` saw to that.
        self.offsets.push(self.data.len() as u32);
    }

    fn push_validity(&mut self, row: usize, valid: bool) {
        if self.validity.is_empty() {
            // The first null: all rows before it have values.
            self.validity.resize(row / 8, 0xff);
            if !row.is_multiple_of(8) {
                self.validity.push((1 << (row % 8)) - 1);
            }
        }
        if row.is_multiple_of(8) {
            self.validity.push(0);
        }
        self.validity[row / 8] |= u8::from(valid) << (row % 8);
    }
}

fn push_bit(bits: &mut AlignedVec<16>, row: usize, bit: bool) {
    if row.is_multiple_of(8) {
        bits.push(0);
    }
    bits[row / 8] |= u8::from(bit) << (row % 8);
}

/// Bytes of a value where it stands in `data`; 0 for bits and for what `offsets` point to.
fn value_width(ty: ColumnType) -> usize {
    packed::number_bytes(ty).map_or(0, |bytes| bytes * usize::from(ty.list_length().max(1)))
}

/// Whole bytes that every row takes, offsets included.
fn fixed_width(ty: ColumnType) -> usize {
    match ty {
        ColumnType::Text | ColumnType::Bytes => size_of::<u32>(),
        _ => value_width(ty),
    }
}

fn check_count(schema: &Schema, found: usize) -> Result<(), BatchError> {
    match schema.fields().len() {
        expected if expected != found => Err(BatchError::ColumnCount { expected, found }),
        _ => Ok(()),
    }
}

/// Checks one value; gives the bytes it takes beside the fixed width.
fn check_value(field: &Field, value: &Value<'_>) -> Result<usize, ColumnError> {
    let expected = field.ty();
    let list = |found: usize| match usize::from(expected.list_length()) {
        expected if expected != found => Err(ColumnError::Length { part: "the list", expected, found }),
        _ => Ok(0),
    };
    match (value, expected) {
        (Value::Null, _) if field.is_nullable() => Ok(0),
        (Value::Null, _) => Err(ColumnError::NotNullable),
        (Value::F64(_), ColumnType::F64)
        | (Value::F32(_), ColumnType::F32)
        | (Value::I64(_), ColumnType::I64)
        | (Value::U64(_), ColumnType::U64)
        | (Value::Bool(_), ColumnType::Bool)
        | (Value::Timestamp(_), ColumnType::Timestamp) => Ok(0),
        (Value::Text(text), ColumnType::Text) => Ok(text.len()),
        (Value::Bytes(bytes), ColumnType::Bytes) => Ok(bytes.len()),
        (Value::F32List(values), ColumnType::F32List(_)) => list(values.len()),
        (Value::I16List(values), ColumnType::I16List(_)) => list(values.len()),
        _ => Err(ColumnError::Type { expected, found: value.type_name().to_owned() }),
    }
}

fn check_column(field: &Field, column: &Column<'_>, rows: usize) -> Result<(), ColumnError> {
    let ty = field.ty();
    if !column.data.is_of(ty) {
        return Err(ColumnError::Type { expected: ty, found: column.data.type_name().to_owned() });
    }
    let (expected, found) = (rows * usize::from(ty.list_length().max(1)), column.data.len());
    if expected != found {
        return Err(ColumnError::Length { part: "values", expected, found });
    }
    if let Some(validity) = column.validity {
        if validity.len() != rows {
            return Err(ColumnError::Length { part: "validity", expected: rows, found: validity.len() });
        }
        if !field.is_nullable() && validity.contains(&false) {
            return Err(ColumnError::NotNullable);
        }
    }
    Ok(())
}
