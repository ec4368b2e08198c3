use icecore_wire::{ColumnType, Value};
use proptest::prelude::*;

use super::*;
use crate::sample;

/// Runs so small that a few thousand events make more than [`FAN_IN`] of them.
const SMALL_RUN: usize = 1000;

type Place = (i64, String, u32, u64);

fn place(event: &Event<'_>) -> Place {
    let source = event.source;
    (event.event_time, source.device.as_str().to_owned(), source.number, event.sequence)
}

fn sorted_places(mut sort: Sort, batches: &[crate::Selection]) -> Vec<Place> {
    for batch in batches {
        batch.for_each(|event| sort.push(event)).unwrap();
    }
    let mut sorted = sort.finish().unwrap();
    let mut places = Vec::new();
    while let Some(event) = sorted.next().unwrap() {
        let value = event.values().next().unwrap();
        assert_eq!(
            value,
            Value::I64(event.event_time * 3 + event.sequence as i64),
            "values follow their event"
        );
        places.push(place(&event));
    }
    places
}

/// Batches of devices in rotation, sequences going on per device, with the given event times.
fn batches(times: &[i64], rows: usize) -> Vec<crate::Selection> {
    let schema = sample::schema("flow", 1, &[("rate", ColumnType::I64)]);
    let names = [("b", 0), ("a/long name", 1), ("b", 1), ("a", 0)];
    let sources: Vec<_> = names.iter().map(|&(name, number)| sample::source(name, number)).collect();
    let mut next_sequence = vec![0; sources.len()];
    let mut batches = Vec::new();
    for (i, times) in times.chunks(rows).enumerate() {
        let at = i % sources.len();
        let first = next_sequence[at];
        next_sequence[at] += times.len() as u64;
        let value =
            |(row, &time): (usize, &i64)| (time, vec![Value::I64(time * 3 + (first + row as u64) as i64)]);
        let rows: Vec<_> = times.iter().enumerate().map(value).collect();
        batches.push(sample::selection(&sources[at], &schema, first, &rows));
    }
    batches
}

fn expected(batches: &[crate::Selection]) -> Vec<Place> {
    let mut places = Vec::new();
    for batch in batches {
        batch
            .for_each(|event| {
                places.push(place(event));
                Ok::<_, ()>(())
            })
            .unwrap();
    }
    places.sort();
    places
}

#[test]
fn many_runs_are_merged_in_stages() {
    let directory = tempfile::tempdir().unwrap();
    // Few distinct times, so that most of the order comes from names and sequences.
    let times: Vec<i64> = (0..20_000i64).map(|i| (i * 7919) % 97 - 40).collect();
    let batches = batches(&times, 50);
    let sort = Sort::with_run_bytes(Order::Time, directory.path(), SMALL_RUN);
    assert_eq!(sorted_places(sort, &batches), expected(&batches));
}

#[test]
fn what_fits_in_memory_needs_no_directory() {
    let batches = batches(&[5, 3, 9, 3], 2);
    let sort = Sort::new(Order::Time, "/nonexistent".as_ref());
    assert_eq!(sorted_places(sort, &batches), expected(&batches));
}

#[test]
fn a_directory_that_takes_no_files_is_named() {
    let mut sort = Sort::with_run_bytes(Order::Time, "/nonexistent".as_ref(), SMALL_RUN);
    let result: Result<(), _> =
        batches(&[0; 100], 50).iter().try_for_each(|batch| batch.for_each(|event| sort.push(event)));
    let message = result.unwrap_err().to_string();
    assert!(message.contains("/nonexistent") && message.contains("TMPDIR"), "{message}");
}

#[test]
fn values_of_every_type_survive() {
    let directory = tempfile::tempdir().unwrap();
    let schema = sample::every_type();
    let row = vec![
        Value::F64(-0.0),
        Value::F32(f32::MIN_POSITIVE),
        Value::I64(i64::MIN),
        Value::U64(u64::MAX),
        Value::Bool(true),
        Value::Text("søppel 🦀"),
        Value::Bytes(&[0, 255, 7]),
        Value::Timestamp(-1),
        Value::F32List(&[1.5, f32::INFINITY, -2.0]),
        Value::I16List(&[i16::MIN, 3]),
    ];
    let nulls = vec![Value::Null; row.len()];
    let batch =
        sample::selection(&sample::source("d", 0), &schema, 7, &[(2, row.clone()), (1, nulls.clone())]);
    let mut sort = Sort::with_run_bytes(Order::Time, directory.path(), 1);
    batch.for_each(|event| sort.push(event)).unwrap();
    let mut sorted = sort.finish().unwrap();
    for (sequence, expected) in [(8, nulls), (7, row)] {
        let event = sorted.next().unwrap().unwrap();
        assert_eq!(
            (event.sequence, event.position, event.received_time),
            (sequence, 100 + sequence, 1_000_000_000)
        );
        assert_eq!(event.schema, &schema);
        assert_eq!(event.values().collect::<Vec<_>>(), expected);
    }
    assert!(sorted.next().unwrap().is_none());
}

proptest! {
    #[test]
    fn agrees_with_a_sort_in_memory(times in prop::collection::vec(-3i64..3, 1..300), rows in 1usize..20) {
        let directory = tempfile::tempdir().unwrap();
        let batches = batches(&times, rows);
        let sort = Sort::with_run_bytes(Order::Time, directory.path(), SMALL_RUN);
        prop_assert_eq!(sorted_places(sort, &batches), expected(&batches));
        let sort = Sort::with_run_bytes(Order::Device, directory.path(), SMALL_RUN);
        let mut by_device = expected(&batches);
        by_device.sort_by(|(_, a, b, c), (_, d, e, f)| (a, b, c).cmp(&(d, e, f)));
        prop_assert_eq!(sorted_places(sort, &batches), by_device);
    }
}
