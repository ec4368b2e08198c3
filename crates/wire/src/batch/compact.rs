//! The compact form, in which small batches travel: what is left of an archive when everything goes that follows from
//! the schema and the number of rows. The receiver writes the archive anew, the same to the byte.
//!
//! An archive is made to be read where it lies, and pays for it with pointers, types and alignment: 40 bytes and 28 a
//! column. Of a hundred compressed events that is a fifth, of ten plain ones a third.

use super::archive::{self, ArchivedColumn, BatchV1, COLUMN_BYTES, ColumnV1, ROOT_BYTES, VECTOR_ALIGNMENT};
use super::view::Shape;
use super::{BatchError, BatchHeader, Encoding};
use crate::{ColumnType, Payload, Schema, varint};

/// Bits of a column's first byte: its encoding, and whether a validity follows.
const PCO: u8 = Encoding::Pco as u8;
const VALIDITY: u8 = 2;

/// An archive is sent in the compact form where its pointers and types are at least this part of it. A larger one is
/// better read where it lies than copied once more.
const PART_SPARED: usize = 8;

/// The compact form of a batch of `schema`; `None` when it would not pay, or would not give back the same bytes, as with a
/// payload that another encoder wrote.
pub(crate) fn compact(payload: &Payload, schema: &Schema) -> Option<Vec<u8>> {
    let (header, batch) = BatchHeader::read(payload).ok()?;
    let entries = ROOT_BYTES + batch.columns.len() * COLUMN_BYTES;
    if header.schema != schema.id() || payload.len() / PART_SPARED > entries {
        return None;
    }
    let mut out = Vec::with_capacity(payload.len());
    varint::put(&mut out, header.first_sequence);
    varint::put(&mut out, header.count.into());
    varint::put(&mut out, header.flags.into());
    for (shape, column) in shapes(schema).zip(batch.columns.iter()) {
        put_column(&mut out, &shape, column);
    }
    // Seen, not assumed: a resend that is not the same to the byte is a conflict.
    expand(&out, schema, payload.len()).is_ok_and(|archive| archive == *payload).then_some(out)
}

fn put_column(out: &mut Vec<u8>, shape: &Shape<'_>, column: &ArchivedColumn) {
    out.push(column.encoding | if column.validity.is_empty() { 0 } else { VALIDITY });
    out.extend_from_slice(&column.validity);
    match Length::of(column.encoding == PCO, shape.ty) {
        Length::Known => {}
        Length::InFront => varint::put(out, column.data.len() as u64),
        Length::OfEach => {
            let (offsets, _) = column.offsets.as_chunks::<4>();
            let offset = |at: usize| u32::from_le_bytes(offsets[at]);
            (1..offsets.len())
                .for_each(|at| varint::put(out, offset(at).wrapping_sub(offset(at - 1)).into()));
        }
    }
    out.extend_from_slice(&column.data);
}

/// The event times', then the fields'.
fn shapes(schema: &Schema) -> impl Iterator<Item = Shape<'_>> {
    (0..=schema.fields().len()).map(|index| Shape::of(schema, index))
}

/// Writes the archive that a compact form stands for; at most `max_bytes` long. Its columns are not checked yet.
pub(crate) fn expand(compact: &[u8], schema: &Schema, max_bytes: usize) -> Result<Payload, BatchError> {
    let mut input = Input(compact);
    let header = input.header(schema)?;
    let rows = header.count as usize;
    let mut parts = Vec::with_capacity(schema.fields().len() + 1);
    let mut vectors_end = 0;
    for shape in shapes(schema) {
        let part = input.column(&shape, rows)?;
        vectors_end = part.archived_after(vectors_end);
        let bytes = archive::bytes(vectors_end, parts.len() + 1);
        if bytes > max_bytes {
            return Err(BatchError::TooLarge(bytes));
        }
        parts.push(part);
    }
    if !input.0.is_empty() {
        return Err(BatchError::Compact("has bytes after the last column"));
    }
    let columns = shapes(schema).zip(&parts).map(|(shape, part)| ColumnV1 {
        ty: shape.ty.tag(),
        encoding: part.encoding,
        validity: part.validity,
        offsets: bytemuck::cast_slice(&part.offsets),
        data: part.data,
    });
    let batch = BatchV1 {
        schema: *schema.id().as_bytes(),
        first_sequence: header.first_sequence,
        count: header.count,
        flags: header.flags,
        columns: &columns.collect::<Vec<_>>(),
    };
    Ok(archive::write(&batch, archive::bytes(vectors_end, parts.len())))
}

/// The header of a compact form that [`expand`] refused, if that much can be read.
pub(crate) fn header(compact: &[u8], schema: &Schema) -> Option<BatchHeader> {
    Input(compact).header(schema).ok()
}

/// How the length of a column's data is known.
enum Length {
    /// By the number of rows.
    Known,
    /// It stands in front of them.
    InFront,
    /// So does every row's.
    OfEach,
}

impl Length {
    fn of(is_pco: bool, ty: ColumnType) -> Self {
        match ty {
            _ if is_pco => Self::InFront,
            ColumnType::Text | ColumnType::Bytes => Self::OfEach,
            _ => Self::Known,
        }
    }
}

/// What a column of the archive is made of.
struct Part<'a> {
    encoding: u8,
    validity: &'a [u8],
    offsets: Vec<u32>,
    data: &'a [u8],
}

impl Part<'_> {
    /// Where its vectors end in an archive in which those before them end at `start`.
    fn archived_after(&self, start: usize) -> usize {
        let vectors = [self.validity.len(), self.offsets.len() * size_of::<u32>(), self.data.len()];
        vectors.iter().fold(start, |end, length| end.next_multiple_of(VECTOR_ALIGNMENT) + length)
    }
}

/// What is still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn header(&mut self, schema: &Schema) -> Result<BatchHeader, BatchError> {
        let first_sequence = self.varint()?;
        let (count, flags) = (self.small_varint()?, self.small_varint()?);
        BatchHeader { schema: schema.id(), first_sequence, count, flags }.checked()
    }

    fn column(&mut self, shape: &Shape<'_>, rows: usize) -> Result<Part<'a>, BatchError> {
        let head = self.byte()?;
        if head & !(PCO | VALIDITY) != 0 {
            return Err(BatchError::Compact("has a column of an unknown form"));
        }
        let validity = if head & VALIDITY == 0 { &[] } else { self.take(rows.div_ceil(8))? };
        let mut offsets = Vec::new();
        let length = match Length::of(head & PCO != 0, shape.ty) {
            Length::Known => shape.plain_bytes(rows),
            Length::InFront => self.small_varint()? as usize,
            Length::OfEach => {
                offsets = self.offsets(rows)?;
                offsets[rows] as usize
            }
        };
        Ok(Part { encoding: head & PCO, validity, offsets, data: self.take(length)? })
    }

    fn offsets(&mut self, rows: usize) -> Result<Vec<u32>, BatchError> {
        // Every row takes a byte at least: no more is allocated than five times what came.
        let mut offsets = Vec::with_capacity(rows.min(self.0.len()) + 1);
        let mut end = 0u32;
        offsets.push(end);
        for _ in 0..rows {
            let next = end.checked_add(self.small_varint()?);
            end = next.ok_or(BatchError::Compact("has values longer than a batch"))?;
            offsets.push(end);
        }
        Ok(offsets)
    }

    fn byte(&mut self) -> Result<u8, BatchError> {
        self.take(1).map(|byte| byte[0])
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], BatchError> {
        let (part, rest) = self.0.split_at_checked(count).ok_or(BatchError::Compact("ends too early"))?;
        self.0 = rest;
        Ok(part)
    }

    fn varint(&mut self) -> Result<u64, BatchError> {
        varint::take(&mut self.0).ok_or(BatchError::Compact("has a number that ends too late"))
    }

    fn small_varint(&mut self) -> Result<u32, BatchError> {
        u32::try_from(self.varint()?).map_err(|_| BatchError::Compact("has a number above 32 bits"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::limits::{MAX_BATCH_BYTES, MAX_ROWS};
    use crate::{Batch, BatchBuilder, EncodeOptions, Field, Value};

    /// A nullable number, text and flag, and a list.
    fn schema() -> Arc<Schema> {
        let fields = vec![
            Field::new("number", ColumnType::I64).nullable(),
            Field::new("text", ColumnType::Text).nullable(),
            Field::new("flag", ColumnType::Bool).nullable(),
            Field::new("wave", ColumnType::I16List(3)),
        ];
        Arc::new(Schema::new("mixed", 1, fields).unwrap())
    }

    fn batch(first_sequence: u64, rows: &[Option<(i64, String)>], options: EncodeOptions) -> Payload {
        let mut builder = BatchBuilder::new(schema());
        for (at, row) in rows.iter().enumerate() {
            let wave = Value::I16List(&[at as i16, -1, 1]);
            let values = match row {
                Some((number, text)) => {
                    [Value::I64(*number), Value::Text(text), Value::Bool(number % 2 == 0), wave]
                }
                None => [Value::Null, Value::Null, Value::Null, wave],
            };
            builder.row(at as i64 * 1_000_000, &values).unwrap();
        }
        builder.finish(first_sequence, options).unwrap()
    }

    fn rows(count: usize) -> Vec<Option<(i64, String)>> {
        (0..count as i64).map(|at| (at % 5 != 3).then(|| (at, "é".repeat(at as usize % 7)))).collect()
    }

    #[test]
    fn little_is_left_of_an_archive_but_its_columns() {
        let payload = batch(300, &rows(5), EncodeOptions::PLAIN);
        let compact = compact(&payload, &schema()).unwrap();
        // Sequence, rows, flags; a byte a column; times, numbers, lengths, waves; three validities and the flags; texts.
        let texts: usize = [0, 1, 2, 4].iter().map(|length| length * "é".len()).sum();
        assert_eq!(compact.len(), 4 + 5 + 5 * (8 + 8 + 1 + 6) + 4 + texts);
        assert_eq!(expand(&compact, &schema(), payload.len()), Ok(payload.clone()));
        let small = payload.len() - 1;
        assert_eq!(expand(&compact, &schema(), small), Err(BatchError::TooLarge(payload.len())));
    }

    #[test]
    fn what_would_not_pay_or_not_come_back_stays_an_archive() {
        let schema = schema();
        let options = EncodeOptions { pco: Some(8), ..EncodeOptions::PLAIN };
        assert!(compact(&batch(0, &rows(400), EncodeOptions::PLAIN), &schema).is_none());
        assert!(compact(&batch(0, &rows(40), options), &schema).is_some());
        let payload = batch(0, &rows(4), EncodeOptions::PLAIN);
        let renamed = Schema::new("other", 1, schema.fields().to_vec()).unwrap();
        assert!(compact(&payload, &renamed).is_none());
        assert!(compact(&Payload::copy_from(&[7; 200]), &schema).is_none());
        // Alignment's zero after the validity of the numbers, which is read by nobody.
        let mut other = payload.to_vec();
        let after_times_and_validity = 4 * size_of::<i64>() + 1;
        assert_eq!(other[after_times_and_validity], 0);
        other[after_times_and_validity] = 1;
        let other = Payload::copy_from(&other);
        assert!(Batch::validate(other.clone(), Arc::clone(&schema)).is_ok());
        assert!(compact(&other, &schema).is_none(), "it would come back with a zero there");
    }

    #[test]
    fn every_broken_rule_has_its_error() {
        let schema = Schema::new("text", 1, vec![Field::new("text", ColumnType::Text)]).unwrap();
        // Sequence 5, one row, no flags; the time plain; the text "ab".
        let valid = [[5, 1, 0, 0].as_slice(), &[0; 8], &[0, 2], b"ab"].concat();
        let text = valid.len() - 4;
        let refused = |spoil: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = valid.clone();
            spoil(&mut bytes);
            (expand(&bytes, &schema, MAX_BATCH_BYTES).unwrap_err(), header(&bytes, &schema).is_some())
        };
        assert!(
            Batch::validate(expand(&valid, &schema, MAX_BATCH_BYTES).unwrap(), schema.clone().into()).is_ok()
        );
        let compact = BatchError::Compact;
        assert_eq!(refused(&|bytes| bytes.truncate(2)), (compact("has a number that ends too late"), false));
        assert_eq!(refused(&|bytes| bytes[1] = 0), (BatchError::RowCount(0), false));
        assert_eq!(refused(&|bytes| bytes[2] = 2), (BatchError::UnknownFlags(2), false));
        assert_eq!(refused(&|bytes| bytes.push(0)), (compact("has bytes after the last column"), true));
        assert_eq!(refused(&|bytes| bytes.truncate(valid.len() - 1)), (compact("ends too early"), true));
        assert_eq!(refused(&|bytes| bytes[text] = 4), (compact("has a column of an unknown form"), true));
        let long = |bytes: &mut Vec<u8>| drop(bytes.splice(text + 1.., [0xff, 0xff, 0xff, 0xff, 0x1f]));
        assert_eq!(refused(&long), (compact("has a number above 32 bits"), true));
        let longest: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x0f];
        let two = |bytes: &mut Vec<u8>| {
            bytes[1] = 2;
            bytes.splice(text.., [&[0; 9], longest, longest].concat());
        };
        assert_eq!(refused(&two), (compact("has values longer than a batch"), true));
    }

    #[test]
    fn many_offsets_of_few_bytes_do_not_pass_the_limit() {
        let fields = (0..40).map(|i| Field::new(format!("text {i}"), ColumnType::Text)).collect();
        let schema = Schema::new("texts", 1, fields).unwrap();
        let mut bytes = vec![0];
        varint::put(&mut bytes, MAX_ROWS as u64);
        bytes.push(0);
        bytes.resize(bytes.len() + 1 + 8 * MAX_ROWS + 40 * (1 + MAX_ROWS), 0);
        assert!(matches!(expand(&bytes, &schema, MAX_BATCH_BYTES), Err(BatchError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn archives_come_back_to_the_byte(
            rows in prop::collection::vec(prop::option::of((any::<i64>(), ".{0,9}")), 1..24),
            first_sequence in 0..u64::MAX / 2,
            pco in prop::option::of(0u8..12),
            time_uncertain: bool,
        ) {
            let payload = batch(first_sequence, &rows, EncodeOptions { pco, time_uncertain, ..EncodeOptions::PLAIN });
            let compact = compact(&payload, &schema());
            prop_assert!(compact.is_some() || payload.len() > 1_400);
            if let Some(compact) = compact {
                prop_assert!(compact.len() + 100 < payload.len());
                prop_assert_eq!(expand(&compact, &schema(), MAX_BATCH_BYTES), Ok(payload));
            }
        }

        #[test]
        fn random_bytes_never_panic(head in 1u8..9, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let bytes = [&[0, head, 0], &bytes[..]].concat();
            if let Ok(payload) = expand(&bytes, &schema(), MAX_BATCH_BYTES) {
                let _ = Batch::validate(payload, schema());
            }
        }

        #[test]
        fn damaged_forms_never_panic(at in 0usize..1000, to: u8) {
            let options = EncodeOptions { pco: Some(8), ..EncodeOptions::PLAIN };
            let mut bytes = compact(&batch(0, &rows(20), options), &schema()).unwrap();
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(payload) = expand(&bytes, &schema(), MAX_BATCH_BYTES) {
                let _ = Batch::validate(payload, schema());
            }
        }
    }
}
