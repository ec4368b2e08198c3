//! Payloads, checked and read where they lie.

use std::ops::Range;
use std::sync::Arc;

use rkyv::util::AlignedVec;

use super::archive::{self, ArchivedBatch, ArchivedColumn, VECTOR_ALIGNMENT};
use super::{
    BatchError, Bitmap, BytesValues, ColumnError, ColumnView, Encoding, FLAG_TIME_UNCERTAIN, TIME_COLUMN,
    TextValues, Values, packed,
};
use crate::limits::{MAX_BATCH_BYTES, MAX_DECODED_BATCH_BYTES, MAX_ROWS, MAX_SEQUENCE};
use crate::{ColumnType, Digest, Payload, Schema, SchemaId};

/// What stands in front of a batch's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The schema of the events.
    pub schema: SchemaId,
    /// The sequence of the first event.
    pub first_sequence: u64,
    /// How many events.
    pub count: u32,
    /// See `docs/protocol.md`; bit 0 = the event times are uncertain.
    pub flags: u32,
}

impl BatchHeader {
    /// Reads the header after checking that the archive is well formed and the sequences do not overflow. The columns'
    /// content is left to [`Batch::validate`].
    pub fn peek(payload: &Payload) -> Result<Self, BatchError> {
        Self::read(payload).map(|(header, _)| header)
    }

    pub(super) fn read(payload: &Payload) -> Result<(Self, &ArchivedBatch), BatchError> {
        if payload.len() > MAX_BATCH_BYTES {
            return Err(BatchError::TooLarge(payload.len()));
        }
        let batch = archive::check(payload)?;
        let header = Self {
            schema: SchemaId::from_bytes(batch.schema),
            first_sequence: batch.first_sequence.to_native(),
            count: batch.count.to_native(),
            flags: batch.flags.to_native(),
        };
        Ok((header.checked()?, batch))
    }

    /// This header, if there can be such a batch.
    pub(super) fn checked(self) -> Result<Self, BatchError> {
        let Self { first_sequence, count, flags, .. } = self;
        if count == 0 || count as usize > MAX_ROWS {
            return Err(BatchError::RowCount(count as usize));
        }
        if first_sequence > MAX_SEQUENCE - u64::from(count) {
            return Err(BatchError::SequenceOverflow { first_sequence, count });
        }
        if flags & !FLAG_TIME_UNCERTAIN != 0 {
            return Err(BatchError::UnknownFlags(flags));
        }
        Ok(self)
    }

    /// The sequences of the batch.
    pub fn range(&self) -> Range<u64> {
        self.first_sequence..self.first_sequence + u64::from(self.count)
    }

    /// Whether the device had no trustworthy clock.
    pub fn time_uncertain(&self) -> bool {
        self.flags & FLAG_TIME_UNCERTAIN != 0
    }
}

/// A validated batch. Plain columns are read where they lie in the payload; pco columns were decoded once.
pub struct Batch {
    payload: Payload,
    schema: Arc<Schema>,
    header: BatchHeader,
    /// By column, the event times first: what pco columns decoded to, nothing for plain ones. Empty when all are plain.
    decoded: Vec<AlignedVec<16>>,
}

impl Batch {
    /// Checks everything about `payload` as a batch of `schema`; hostile bytes are refused, never a panic, and never
    /// make it allocate more than [`MAX_DECODED_BATCH_BYTES`] and a fixed working set.
    pub fn validate(payload: Payload, schema: Arc<Schema>) -> Result<Self, BatchError> {
        let (header, batch) = BatchHeader::read(&payload)?;
        if header.schema != schema.id() {
            return Err(BatchError::WrongSchema { expected: schema.id(), found: header.schema });
        }
        let (expected, found) = (schema.fields().len() + 1, batch.columns.len());
        if expected != found {
            return Err(BatchError::ColumnCount { expected: expected - 1, found: found.saturating_sub(1) });
        }
        let rows = header.count as usize;
        let mut decoded_bytes = 0;
        for (i, column) in batch.columns.iter().enumerate() {
            let shape = Shape::of(&schema, i);
            decoded_bytes += shape.check(column, rows).map_err(|error| error.of(shape.name))?;
        }
        let decoded = match decoded_bytes {
            0 => Vec::new(),
            bytes if bytes > MAX_DECODED_BATCH_BYTES => return Err(BatchError::DecodedTooLarge(bytes)),
            _ => decode(batch, &schema, rows)?,
        };
        Ok(Self { payload, schema, header, decoded })
    }

    /// The header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The schema.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The sequence of the first event.
    pub fn first_sequence(&self) -> u64 {
        self.header.first_sequence
    }

    /// How many events (at least one).
    pub fn count(&self) -> u32 {
        self.header.count
    }

    /// The sequences of the batch.
    pub fn range(&self) -> Range<u64> {
        self.header.range()
    }

    /// Whether any column came compressed.
    pub fn is_compressed(&self) -> bool {
        !self.decoded.is_empty()
    }

    /// The digest of the payload, computed on each call.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// The bytes.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Bytes that decoded columns take beside the payload.
    pub fn decoded_bytes(&self) -> usize {
        self.decoded.iter().map(AlignedVec::len).sum()
    }

    /// The bytes, letting go of decoded columns.
    pub fn into_payload(self) -> Payload {
        self.payload
    }

    /// Event times, nanoseconds since the Unix epoch, one a row.
    pub fn times(&self) -> &[i64] {
        bytemuck::cast_slice(self.data(0))
    }

    /// The column of field `field`. Panics when the schema has no such field.
    pub fn column(&self, field: usize) -> ColumnView<'_> {
        let ty = self.schema.fields()[field].ty();
        let column = &self.archive().columns[field + 1];
        let validity = (!column.validity.is_empty()).then_some(Bitmap { bytes: &column.validity });
        ColumnView { ty, validity, values: self.values(ty, field + 1) }
    }

    fn archive(&self) -> &ArchivedBatch {
        // SAFETY: `validate` checked this payload, and payloads never change.
        unsafe { archive::access_checked(&self.payload) }
    }

    /// The data of column `index` (0 = event times), uncompressed.
    fn data(&self, index: usize) -> &[u8] {
        match self.decoded.get(index) {
            Some(decoded) if !decoded.is_empty() => decoded,
            _ => &self.archive().columns[index].data,
        }
    }

    fn values(&self, ty: ColumnType, index: usize) -> Values<'_> {
        let data = self.data(index);
        let offsets = || bytemuck::cast_slice(&self.archive().columns[index].offsets);
        match ty {
            ColumnType::F64 => Values::F64(bytemuck::cast_slice(data)),
            ColumnType::F32 => Values::F32(bytemuck::cast_slice(data)),
            ColumnType::I64 => Values::I64(bytemuck::cast_slice(data)),
            ColumnType::U64 => Values::U64(bytemuck::cast_slice(data)),
            ColumnType::Bool => Values::Bool(Bitmap { bytes: data }),
            ColumnType::Text => {
                // SAFETY: `validate` checked that the data are UTF-8, and payloads never change.
                let data = unsafe { std::str::from_utf8_unchecked(data) };
                Values::Text(TextValues { offsets: offsets(), data })
            }
            ColumnType::Bytes => Values::Bytes(BytesValues { offsets: offsets(), data }),
            ColumnType::Timestamp => Values::Timestamp(bytemuck::cast_slice(data)),
            ColumnType::F32List(length) => {
                Values::F32List { length: length.into(), values: bytemuck::cast_slice(data) }
            }
            ColumnType::I16List(length) => {
                Values::I16List { length: length.into(), values: bytemuck::cast_slice(data) }
            }
        }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("header", &self.header)
            .field("payload", &self.payload)
            .finish_non_exhaustive()
    }
}

fn decode(batch: &ArchivedBatch, schema: &Schema, rows: usize) -> Result<Vec<AlignedVec<16>>, BatchError> {
    let mut decoded = Vec::with_capacity(batch.columns.len());
    for (i, column) in batch.columns.iter().enumerate() {
        let shape = Shape::of(schema, i);
        decoded.push(match Encoding::from_tag(column.encoding) {
            Some(Encoding::Pco) => packed::decompress(shape.ty, &column.data, shape.numbers(rows))
                .map_err(|error| error.of(shape.name))?,
            _ => AlignedVec::new(),
        });
    }
    Ok(decoded)
}

/// What a column must look like.
pub(super) struct Shape<'a> {
    name: &'a str,
    pub(super) ty: ColumnType,
    nullable: bool,
}

impl<'a> Shape<'a> {
    /// Of column `index`: the event times, then the schema's fields.
    pub(super) fn of(schema: &'a Schema, index: usize) -> Self {
        match index.checked_sub(1) {
            None => Self { name: TIME_COLUMN, ty: ColumnType::Timestamp, nullable: false },
            Some(field) => {
                let field = &schema.fields()[field];
                Self { name: field.name(), ty: field.ty(), nullable: field.is_nullable() }
            }
        }
    }

    /// Numbers that `rows` values have.
    fn numbers(&self, rows: usize) -> usize {
        rows * usize::from(self.ty.list_length().max(1))
    }

    /// Bytes that the plain data of `rows` values take; not for texts and byte strings, which are as long as they are.
    pub(super) fn plain_bytes(&self, rows: usize) -> usize {
        match packed::number_bytes(self.ty) {
            Some(bytes) => self.numbers(rows) * bytes,
            None => rows.div_ceil(8),
        }
    }

    /// Checks everything but the inside of pco data; gives the bytes that those must decode to.
    fn check(&self, column: &ArchivedColumn, rows: usize) -> Result<usize, ColumnError> {
        if column.ty != self.ty.tag() {
            return Err(ColumnError::Type { expected: self.ty, found: format!("type {}", column.ty) });
        }
        for vector in [&column.validity, &column.offsets, &column.data] {
            if !vector.is_empty() && !(vector.as_ptr() as usize).is_multiple_of(VECTOR_ALIGNMENT) {
                return Err(ColumnError::Misaligned);
            }
        }
        if !column.validity.is_empty() {
            if !self.nullable {
                return Err(ColumnError::NotNullable);
            }
            check_bitmap("validity", &column.validity, rows)?;
        }
        let number_bytes = packed::number_bytes(self.ty);
        match (Encoding::from_tag(column.encoding), number_bytes) {
            (Some(Encoding::Plain), _) => self.check_plain(column, rows).map(|()| 0),
            (Some(Encoding::Pco), Some(number_bytes)) => {
                check_length("offsets", column.offsets.len(), 0)?;
                Ok(self.numbers(rows) * number_bytes)
            }
            _ => Err(ColumnError::Encoding(column.encoding)),
        }
    }

    fn check_plain(&self, column: &ArchivedColumn, rows: usize) -> Result<(), ColumnError> {
        if matches!(self.ty, ColumnType::Text | ColumnType::Bytes) {
            check_length("offsets", column.offsets.len(), (rows + 1) * size_of::<u32>())?;
            let offsets: &[u32] = bytemuck::cast_slice(&column.offsets);
            check_offsets(offsets, column.data.len())?;
            return if self.ty == ColumnType::Text { check_text(offsets, &column.data) } else { Ok(()) };
        }
        check_length("offsets", column.offsets.len(), 0)?;
        match self.ty {
            ColumnType::Bool => check_bitmap("data", &column.data, rows),
            _ => check_length("data", column.data.len(), self.plain_bytes(rows)),
        }
    }
}

fn check_length(part: &'static str, found: usize, expected: usize) -> Result<(), ColumnError> {
    if found == expected { Ok(()) } else { Err(ColumnError::Length { part, expected, found }) }
}

fn check_bitmap(part: &'static str, bits: &[u8], rows: usize) -> Result<(), ColumnError> {
    check_length(part, bits.len(), rows.div_ceil(8))?;
    match bits.last() {
        Some(last) if !rows.is_multiple_of(8) && last >> (rows % 8) != 0 => {
            Err(ColumnError::BitmapTail(part))
        }
        _ => Ok(()),
    }
}

fn check_offsets(offsets: &[u32], length: usize) -> Result<(), ColumnError> {
    if offsets.first() != Some(&0) {
        return Err(ColumnError::Offsets { row: 0 });
    }
    if let Some(row) = offsets.windows(2).position(|pair| pair[0] > pair[1]) {
        return Err(ColumnError::Offsets { row });
    }
    match offsets.last() {
        Some(last) if *last as usize == length => Ok(()),
        _ => Err(ColumnError::Offsets { row: offsets.len() - 2 }),
    }
}

/// Checks ascending offsets into `data`: all of it is UTF-8, and every text starts and ends between characters.
fn check_text(offsets: &[u32], data: &[u8]) -> Result<(), ColumnError> {
    let row_of = |byte: usize| offsets.partition_point(|end| *end as usize <= byte).saturating_sub(1);
    let text =
        std::str::from_utf8(data).map_err(|error| ColumnError::Utf8 { row: row_of(error.valid_up_to()) })?;
    match offsets.iter().find(|end| !text.is_char_boundary(**end as usize)) {
        Some(inside) => Err(ColumnError::Utf8 { row: row_of(*inside as usize - 1) }),
        None => Ok(()),
    }
}
