use std::sync::Arc;

use super::*;
use crate::{Field, Schema};

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
        let options = EncodeOptions { pco, time_uncertain: true };
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
        let payload = builder.rows.encode(&schema, 0, EncodeOptions { pco, time_uncertain: false }).unwrap();
        let batch = Batch::validate(payload, Arc::clone(&schema)).unwrap();
        for row in 0..20usize {
            for (i, value) in full.iter().enumerate() {
                let expected = if (row + i).is_multiple_of(3) { Value::Null } else { *value };
                assert_eq!(batch.column(i).value(row), expected);
            }
        }
    }
}
