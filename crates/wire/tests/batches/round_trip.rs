use std::sync::Arc;

use icecore_wire::limits::MAX_SEQUENCE;
use icecore_wire::{Batch, BatchHeader, ColumnData, ColumnType, EncodeOptions, Field, Schema, Value, encode};
use proptest::prelude::*;

use super::generate::{Events, events, options};
use super::memory::taken_by;

/// Equal to the last bit, where `==` would let 0.0 be -0.0 and no NaN be itself.
fn same_bits(left: Value<'_>, right: Value<'_>) -> bool {
    match (left, right) {
        (Value::F64(left), Value::F64(right)) => left.to_bits() == right.to_bits(),
        (Value::F32(left), Value::F32(right)) => left.to_bits() == right.to_bits(),
        (Value::F32List(left), Value::F32List(right)) => {
            left.iter().map(|value| value.to_bits()).eq(right.iter().map(|value| value.to_bits()))
        }
        (left, right) => left == right,
    }
}

fn assert_same(events: &Events, batch: &Batch) -> Result<(), TestCaseError> {
    prop_assert_eq!(batch.times(), &events.times[..]);
    for row in 0..events.times.len() {
        for (field, expected) in events.row(row).into_iter().enumerate() {
            let found = batch.column(field).value(row);
            prop_assert!(same_bits(found, expected), "row {row}, field {field}: {found:?} for {expected:?}");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_batch_round_trips_bit_exactly(
        events in events(),
        options in options(),
        first_sequence in prop_oneof![0..1000u64, Just(MAX_SEQUENCE - 600)],
    ) {
        let payload = events.encode(first_sequence, options);
        let header = BatchHeader::peek(&payload).unwrap();
        prop_assert_eq!(header.time_uncertain(), options.time_uncertain);
        prop_assert_eq!(header.range(), first_sequence..first_sequence + events.times.len() as u64);
        let batch = Batch::validate(payload.clone(), Arc::clone(&events.schema)).unwrap();
        assert_same(&events, &batch)?;
        prop_assert_eq!(events.encode(first_sequence, options), payload, "a resend is byte-identical");
    }
}

#[test]
fn a_plain_batch_is_read_without_an_allocation() {
    let schema =
        Schema::new("readings", 1, vec![Field::new("t", ColumnType::F64), Field::new("s", ColumnType::Text)]);
    let schema = Arc::new(schema.unwrap());
    let times: Vec<i64> = (0..1000).collect();
    let columns = [ColumnData::F64(&[1.5; 1000]).into(), ColumnData::Text(&["on"; 1000]).into()];
    let payload = encode(&schema, 0, &times, &columns, EncodeOptions::default()).unwrap();
    let (batch, _, allocations) = taken_by(|| Batch::validate(payload, schema).unwrap());
    assert_eq!(allocations, 0);
    assert_eq!(batch.column(1).value(999), Value::Text("on"));
}
