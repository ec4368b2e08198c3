use std::sync::Arc;

use super::archive::{BatchV1, ColumnV1};
use super::*;
use crate::{Field, Payload, Schema};

/// A schema with a nullable field of every type, in an order that leaves odd lengths between them.
fn all_types() -> Arc<Schema> {
    let types = [
        ("bool", ColumnType::Bool),
        ("f64", ColumnType::F64),
        ("text", ColumnType::Text),
        ("f32", ColumnType::F32),
        ("i64", ColumnType::I64),
        ("bytes", ColumnType::Bytes),
        ("u64", ColumnType::U64),
        ("time", ColumnType::Timestamp),
        ("f32s", ColumnType::F32List(3)),
        ("i16s", ColumnType::I16List(5)),
    ];
    let fields = types.map(|(name, ty)| Field::new(name, ty).nullable());
    Arc::new(Schema::new("all", 1, fields.to_vec()).unwrap())
}

fn readings(rows: usize) -> (Arc<Schema>, Vec<i64>, Vec<f64>, Vec<i64>) {
    let fields = vec![Field::new("t", ColumnType::F64), Field::new("n", ColumnType::I64)];
    let schema = Arc::new(Schema::new("readings", 1, fields).unwrap());
    let times = (0..rows as i64).map(|i| 1_700_000_000_000_000_000 + i * 1_000_000).collect();
    let t = (0..rows).map(|i| 20.0 + (i as f64 / 10.0).sin()).collect();
    let n = (0..rows as i64).map(|i| i * i).collect();
    (schema, times, t, n)
}

#[test]
fn whole_columns_and_rows_make_the_same_payload() {
    for (rows, pco) in [(1, None), (100, None), (100, Some(8)), (1000, Some(4))] {
        let (schema, times, t, n) = readings(rows);
        let options = EncodeOptions { pco, time_uncertain: true, ..EncodeOptions::PLAIN };
        let columns = [ColumnData::F64(&t).into(), ColumnData::I64(&n).into()];
        let payload = encode(&schema, 7, &times, &columns, options).unwrap();

        let mut builder = BatchBuilder::new(Arc::clone(&schema));
        for i in 0..rows {
            builder.row(times[i], &[Value::F64(t[i]), Value::I64(n[i])]).unwrap();
        }
        assert!(payload.len() <= builder.bytes());
        assert_eq!(builder.finish(7, options).unwrap(), payload);
        assert!(builder.is_empty());

        let batch = Batch::validate(payload.clone(), schema).unwrap();
        assert_eq!(batch.range(), 7..7 + rows as u64);
        assert!(batch.header().time_uncertain());
        assert_eq!(batch.is_compressed(), pco.is_some());
        assert_eq!(batch.times(), times);
        let (Values::F64(read_t), Values::I64(read_n)) = (batch.column(0).values, batch.column(1).values)
        else {
            panic!("wrong types");
        };
        assert_eq!((read_t, read_n), (&t[..], &n[..]));
        assert_eq!(BatchHeader::peek(&payload).as_ref(), Ok(batch.header()));
    }
}

#[test]
fn a_plain_batch_costs_little_more_than_its_numbers() {
    let (schema, times, t, n) = readings(100);
    let columns = [ColumnData::F64(&t).into(), ColumnData::I64(&n).into()];
    let payload = encode(&schema, 0, &times, &columns, EncodeOptions::default()).unwrap();
    assert_eq!(payload.len(), 3 * 800 + 3 * 28 + 4 + 40);
}

#[test]
fn nulls_of_every_type() {
    let schema = all_types();
    let mut builder = BatchBuilder::new(Arc::clone(&schema));
    let full = [
        Value::Bool(true),
        Value::F64(-0.0),
        Value::Text("🌡"),
        Value::F32(1.5),
        Value::I64(i64::MIN),
        Value::Bytes(&[0, 255]),
        Value::U64(u64::MAX),
        Value::Timestamp(i64::MAX),
        Value::F32List(&[1.0, 2.0, 3.0]),
        Value::I16List(&[i16::MIN, 0, 1, 2, i16::MAX]),
    ];
    for row in 0..20usize {
        let values: Vec<_> = full
            .iter()
            .enumerate()
            .map(|(i, v)| if (row + i).is_multiple_of(3) { Value::Null } else { *v })
            .collect();
        builder.row(row as i64, &values).unwrap();
    }
    for pco in [None, Some(8)] {
        let payload = builder
            .rows
            .encode(&schema, 0, EncodeOptions { pco, time_uncertain: false, ..EncodeOptions::PLAIN })
            .unwrap();
        let batch = Batch::validate(payload, Arc::clone(&schema)).unwrap();
        for row in 0..20usize {
            for (i, value) in full.iter().enumerate() {
                let expected = if (row + i).is_multiple_of(3) { Value::Null } else { *value };
                assert_eq!(batch.column(i).value(row), expected);
            }
        }
    }
}

/// Columns of all types with and without nulls, added in two parts, are what single rows make of them.
#[test]
fn parts_of_columns_join_into_what_rows_make() {
    let schema = all_types();
    let valid: Vec<bool> = (0..21).map(|row| row % 5 != 3).collect();
    let flags: Vec<bool> = (0..21).map(|row| valid[row] && row % 2 == 0).collect();
    let ints: Vec<i64> = (0..21).map(|row| if valid[row as usize] { row - 10 } else { 0 }).collect();
    let u64s: Vec<u64> = ints.iter().map(|n| *n as u64).collect();
    let f64s: Vec<f64> = ints.iter().map(|n| *n as f64).collect();
    let f32s: Vec<f32> = ints.iter().map(|n| *n as f32).collect();
    let texts: Vec<String> =
        (0..21).map(|row| if valid[row] { "é".repeat(row) } else { String::new() }).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let bytes: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
    let f32_lists: Vec<f32> = f32s.iter().flat_map(|n| [*n; 3]).collect();
    let i16_lists: Vec<i16> = ints.iter().flat_map(|n| [*n as i16; 5]).collect();

    let mut whole = BatchBuilder::new(Arc::clone(&schema));
    for part in [0..9, 9..9, 9..21usize] {
        let lists = |length: usize| part.start * length..part.end * length;
        let columns = [
            ColumnData::Bool(&flags[part.clone()]),
            ColumnData::F64(&f64s[part.clone()]),
            ColumnData::Text(&texts[part.clone()]),
            ColumnData::F32(&f32s[part.clone()]),
            ColumnData::I64(&ints[part.clone()]),
            ColumnData::Bytes(&bytes[part.clone()]),
            ColumnData::U64(&u64s[part.clone()]),
            ColumnData::Timestamp(&ints[part.clone()]),
            ColumnData::F32List(&f32_lists[lists(3)]),
            ColumnData::I16List(&i16_lists[lists(5)]),
        ];
        let columns = columns.map(|data| Column::with_validity(data, &valid[part.clone()]));
        whole.columns(&ints[part], &columns).unwrap();
    }
    let mut single = BatchBuilder::new(schema);
    for row in 0..21 {
        let values = [
            Value::Bool(flags[row]),
            Value::F64(f64s[row]),
            Value::Text(texts[row]),
            Value::F32(f32s[row]),
            Value::I64(ints[row]),
            Value::Bytes(bytes[row]),
            Value::U64(u64s[row]),
            Value::Timestamp(ints[row]),
            Value::F32List(&f32_lists[row * 3..][..3]),
            Value::I16List(&i16_lists[row * 5..][..5]),
        ];
        single.row(ints[row], &values.map(|value| if valid[row] { value } else { Value::Null })).unwrap();
    }
    assert_eq!(whole.finish(0, EncodeOptions::default()), single.finish(0, EncodeOptions::default()));
}

#[test]
fn what_does_not_fit_the_schema_is_refused_and_nothing_is_added() {
    let fields = vec![
        Field::new("t", ColumnType::F64),
        Field::new("s", ColumnType::Text).nullable(),
        Field::new("w", ColumnType::I16List(2)),
    ];
    let schema = Arc::new(Schema::new("strict", 1, fields).unwrap());
    let mut builder = BatchBuilder::new(schema);
    let wave = Value::I16List(&[1, 2]);
    let bad_rows: [(&[Value<'_>], &str); 5] = [
        (&[Value::F64(1.0), Value::Null], "2 columns where the schema has 3 fields"),
        (&[Value::Null, Value::Null, wave], r#"column "t": has nulls, but the field is not nullable"#),
        (&[Value::F32(1.0), Value::Null, wave], r#"column "t": holds f32, the schema says f64"#),
        (&[Value::F64(1.0), Value::Bytes(b""), wave], r#"column "s": holds bytes, the schema says text"#),
        (
            &[Value::F64(1.0), Value::Null, Value::I16List(&[1])],
            r#"column "w": the list has length 1, not 2"#,
        ),
    ];
    for (row, message) in bad_rows {
        assert_eq!(builder.row(0, row).unwrap_err().to_string(), message);
    }
    let columns = [ColumnData::F64(&[1.0]), ColumnData::Text(&["a", "b"]), ColumnData::I16List(&[1, 2])];
    let error = builder.columns(&[0], &columns.map(Column::new)).unwrap_err().to_string();
    assert_eq!(error, r#"column "s": values has length 2, not 1"#);
    assert!(builder.is_empty());
    assert_eq!(builder.finish(0, EncodeOptions::default()), Err(BatchError::RowCount(0)));
}

#[test]
fn a_full_builder_says_so_and_goes_on_after_finish() {
    let schema = Arc::new(Schema::new("text", 1, vec![Field::new("s", ColumnType::Text)]).unwrap());
    let mut builder = BatchBuilder::new(Arc::clone(&schema));
    let text = "x".repeat(100_000);
    let rows =
        std::iter::repeat_with(|| builder.row(0, &[Value::Text(&text)])).take_while(Result::is_ok).count();
    assert_eq!(rows, 10);
    assert!(matches!(builder.row(0, &[Value::Text(&text)]), Err(BatchError::TooLarge(_))));
    let payload = builder.finish(0, EncodeOptions::default()).unwrap();
    assert!(Batch::validate(payload, schema).is_ok());
    builder.row(0, &[Value::Text(&text)]).unwrap();

    let flags = Arc::new(Schema::new("flags", 1, vec![Field::new("b", ColumnType::Bool)]).unwrap());
    let mut builder = BatchBuilder::new(flags);
    builder.columns(&vec![0; MAX_ROWS], &[ColumnData::Bool(&vec![true; MAX_ROWS]).into()]).unwrap();
    assert_eq!(builder.row(0, &[Value::Bool(true)]), Err(BatchError::RowCount(MAX_ROWS + 1)));
    assert!(builder.finish(0, EncodeOptions::default()).is_ok());
}

#[test]
fn the_last_sequences_can_be_used() {
    let (schema, times, t, n) = readings(3);
    let columns = [ColumnData::F64(&t).into(), ColumnData::I64(&n).into()];
    let encode_at = |first| encode(&schema, first, &times, &columns, EncodeOptions::default());
    let last = Batch::validate(encode_at(MAX_SEQUENCE - 3).unwrap(), Arc::clone(&schema)).unwrap();
    assert_eq!(last.range().end, MAX_SEQUENCE);
    assert!(matches!(encode_at(MAX_SEQUENCE - 2), Err(BatchError::SequenceOverflow { count: 3, .. })));
}

/// Validates a batch of three rows with the columns f64, nullable text and bool, as `spoil` leaves it.
fn validate_spoilt(
    spoil: impl FnOnce(&mut BatchV1<'_>, &mut [ColumnV1<'static>; 4]),
) -> Result<Batch, BatchError> {
    const ZEROS: &[u8] = &[0; 24];
    const OFFSETS: &[u8] = &[0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0];
    let fields = vec![
        Field::new("number", ColumnType::F64),
        Field::new("text", ColumnType::Text).nullable(),
        Field::new("flag", ColumnType::Bool),
    ];
    let schema = Arc::new(Schema::new("spoilt", 1, fields).unwrap());
    let column =
        |ty: ColumnType, data| ColumnV1 { ty: ty.tag(), encoding: 0, validity: &[], offsets: &[], data };
    let mut columns = [
        column(ColumnType::Timestamp, ZEROS),
        column(ColumnType::F64, ZEROS),
        ColumnV1 { validity: &[0b101], offsets: OFFSETS, ..column(ColumnType::Text, "aé".as_bytes()) },
        column(ColumnType::Bool, &[0b110]),
    ];
    let mut batch =
        BatchV1 { schema: *schema.id().as_bytes(), first_sequence: 0, count: 3, flags: 0, columns: &[] };
    spoil(&mut batch, &mut columns);
    Batch::validate(archive::write(&BatchV1 { columns: &columns, ..batch }, 0), schema)
}

#[test]
fn every_broken_rule_has_its_error() {
    let valid = validate_spoilt(|_, _| {}).unwrap();
    assert_eq!(
        [0, 1, 2].map(|row| valid.column(1).value(row)),
        [Value::Text("a"), Value::Null, Value::Text("é")]
    );

    let header = |spoil: fn(&mut BatchV1<'_>)| validate_spoilt(|batch, _| spoil(batch)).unwrap_err();
    assert!(matches!(header(|batch| batch.schema[0] ^= 1), BatchError::WrongSchema { .. }));
    assert_eq!(header(|batch| batch.count = 0), BatchError::RowCount(0));
    assert_eq!(header(|batch| batch.count = 65_537), BatchError::RowCount(65_537));
    assert_eq!(header(|batch| batch.flags = 2), BatchError::UnknownFlags(2));
    assert!(matches!(
        header(|batch| batch.first_sequence = u64::MAX - 3),
        BatchError::SequenceOverflow { .. }
    ));

    let column = |at: usize, spoil: fn(&mut ColumnV1<'static>)| {
        let refused = validate_spoilt(|_, columns| spoil(&mut columns[at]));
        match refused.unwrap_err() {
            BatchError::Column { error, .. } => error,
            other => panic!("{other}"),
        }
    };
    let length = |part, expected, found| ColumnError::Length { part, expected, found };
    assert!(matches!(column(1, |c| c.ty = 3), ColumnError::Type { expected: ColumnType::F64, .. }));
    assert_eq!(column(1, |c| c.encoding = 2), ColumnError::Encoding(2));
    assert_eq!(column(2, |c| c.encoding = 1), ColumnError::Encoding(1), "text is never compressed");
    assert_eq!(column(0, |c| c.validity = &[0b111]), ColumnError::NotNullable);
    assert_eq!(column(1, |c| c.validity = &[0b111]), ColumnError::NotNullable);
    assert_eq!(column(1, |c| c.data = &[0; 25]), length("data", 24, 25));
    assert_eq!(column(1, |c| c.offsets = &[0; 16]), length("offsets", 0, 16));
    assert_eq!(column(2, |c| c.validity = &[0b101, 0]), length("validity", 1, 2));
    assert_eq!(column(2, |c| c.validity = &[0b1101]), ColumnError::BitmapTail("validity"));
    assert_eq!(column(3, |c| c.data = &[0b1110]), ColumnError::BitmapTail("data"));
    assert_eq!(column(3, |c| c.data = &[]), length("data", 1, 0));
    assert_eq!(column(2, |c| c.offsets = &[0; 12]), length("offsets", 16, 12));
    assert_eq!(
        column(2, |c| c.offsets = &[1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0]),
        ColumnError::Offsets { row: 0 }
    );
    assert_eq!(
        column(2, |c| c.offsets = &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]),
        ColumnError::Offsets { row: 1 }
    );
    assert_eq!(
        column(2, |c| c.offsets = &[0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]),
        ColumnError::Offsets { row: 2 }
    );
    assert_eq!(
        column(2, |c| c.offsets = &[0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]),
        ColumnError::Utf8 { row: 1 }
    );
    assert_eq!(column(2, |c| c.data = b"a\xc3\x28"), ColumnError::Utf8 { row: 2 });
}

#[test]
fn vectors_off_their_alignment_are_refused() {
    let (schema, times, t, n) = readings(4);
    let columns = [ColumnData::F64(&t).into(), ColumnData::I64(&n).into()];
    let mut bytes = encode(&schema, 0, &times, &columns, EncodeOptions::default()).unwrap().to_vec();
    // The first column entry's pointer to its data, moved by four bytes.
    let entries = bytes.len() - archive::ROOT_BYTES - 4 - 3 * archive::COLUMN_BYTES;
    let pointer = entries + 20;
    assert_eq!(bytes[pointer..pointer + 4], (-(pointer as i32)).to_le_bytes());
    bytes[pointer..pointer + 4].copy_from_slice(&(4 - pointer as i32).to_le_bytes());
    bytes[pointer + 4..pointer + 8].copy_from_slice(&28u32.to_le_bytes());
    let error = Batch::validate(Payload::copy_from(&bytes), schema).unwrap_err();
    assert_eq!(error, BatchError::Column { column: "event time".into(), error: ColumnError::Misaligned });
}

/// The plain column's encoding after each of `batches` batches of `rows` rows, where `value` makes the numbers.
fn encodings(batches: u64, rows: u64, value: impl Fn(u64) -> u64) -> Vec<bool> {
    let schema = Arc::new(Schema::new("s", 1, vec![Field::new("n", ColumnType::U64)]).unwrap());
    let mut builder = BatchBuilder::new(Arc::clone(&schema));
    let options = EncodeOptions { pco: Some(8), only_where_it_pays: true, ..EncodeOptions::PLAIN };
    let mut packed = Vec::new();
    for batch in 0..batches {
        for n in batch * rows..(batch + 1) * rows {
            builder.row(n as i64, &[Value::U64(value(n))]).unwrap();
        }
        let payload = builder.finish(batch * rows, options).unwrap();
        let archive = super::archive::check(&payload).unwrap();
        packed.push(archive.columns[1].encoding == Encoding::Pco as u8);
        Batch::validate(payload, Arc::clone(&schema)).unwrap();
    }
    packed
}

#[test]
fn columns_are_compressed_where_it_pays_and_left_alone_for_a_while_where_not() {
    assert_eq!(encodings(3, 100, |n| n), [true; 3]);
    assert_eq!(encodings(3, 15, |n| n), [false; 3], "a few rows stay plain");
    let noise = |n: u64| (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23).wrapping_mul(n | 1);
    // Noise first, then numbers that would pay: noticed at the next try, after 64 batches.
    let turned = encodings(70, 100, |n| if n < 100 { noise(n) } else { n });
    assert_eq!(turned.iter().position(|packed| *packed), Some(65));
    assert!(turned[65..].iter().all(|packed| *packed));
}

#[test]
fn times_are_rebased_in_place() {
    let schema = Arc::new(Schema::new("s", 1, vec![Field::new("n", ColumnType::I64)]).unwrap());
    let times: Vec<i64> = (0..100).chain([i64::MAX]).collect();
    let numbers: Vec<i64> = times.clone();
    let columns = [Column::new(ColumnData::I64(&numbers))];
    let options =
        EncodeOptions { pco: Some(8), plain_times: true, time_uncertain: true, ..EncodeOptions::PLAIN };
    let payload = encode(&schema, 5, &times, &columns, options).unwrap();
    let rebased = rebase(&payload, 1_000, false).unwrap();
    assert_eq!(rebased, rebase(&payload, 1_000, false).unwrap());
    assert_eq!(rebased.len(), payload.len());
    let batch = Batch::validate(rebased, Arc::clone(&schema)).unwrap();
    assert!(batch.is_compressed() && !batch.header().time_uncertain());
    let expected: Vec<i64> = times.iter().map(|time| time.saturating_add(1_000)).collect();
    assert_eq!(batch.times(), expected);
    assert_eq!(batch.range(), 5..106);
    let again = rebase(&payload, -7, true).unwrap();
    assert!(Batch::validate(again, Arc::clone(&schema)).unwrap().header().time_uncertain());
    let packed =
        encode(&schema, 5, &times, &columns, EncodeOptions { plain_times: false, ..options }).unwrap();
    rebase(&packed, 1_000, false).unwrap_err();
    rebase(&Payload::copy_from(&[0; 64]), 1, false).unwrap_err();
}
