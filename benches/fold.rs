//! The fold: batches of three numbers and a time into the states of their devices, beside a plain sum over the same columns.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use icecore_benches::{Readings, batch, schema};
use icecore_state::DeviceState;
use icecore_wire::{Batch, Column, ColumnData, ColumnType, EncodeOptions, Field, Schema, Values, encode};

/// Devices whose batches take turns, so that states are not always in the nearest cache.
const DEVICES: u64 = 100;
const BATCHES: u64 = 500;
const ROWS: [usize; 2] = [100, 1_000];

/// Makes a batch of so many rows from this sequence on.
type Make = fn(u64, usize, &Arc<Schema>) -> Batch;

/// Three doubles, all gauges.
fn doubles(first: u64, rows: usize, schema: &Arc<Schema>) -> Batch {
    let readings = Readings::new(first, rows);
    let [Column { data: ColumnData::F64(a), .. }, Column { data: ColumnData::F64(b), .. }, _] =
        readings.columns()
    else {
        unreachable!("the first two readings are doubles")
    };
    let columns = [a, b, a].map(|values| Column::new(ColumnData::F64(values)));
    let payload = encode(schema, first, readings.times(), &columns, EncodeOptions::PLAIN).unwrap();
    Batch::validate(payload, Arc::clone(schema)).unwrap()
}

/// Two doubles and a counter.
fn machines(first: u64, rows: usize, schema: &Arc<Schema>) -> Batch {
    Batch::validate(batch(first, rows, EncodeOptions::PLAIN), Arc::clone(schema)).unwrap()
}

fn plain_sum(batch: &Batch) -> f64 {
    let mut sum = batch.times().iter().fold(0, |sum: i64, time| sum.wrapping_add(*time)) as f64;
    for field in 0..batch.schema().fields().len() {
        sum += match batch.column(field).values {
            Values::F64(values) => values.iter().sum::<f64>(),
            Values::I64(values) => values.iter().fold(0, |sum: i64, value| sum.wrapping_add(*value)) as f64,
            _ => unreachable!("all readings are doubles or integers"),
        };
    }
    sum
}

fn fold(c: &mut Criterion) {
    let fields = ["x", "y", "z"].map(|name| Field::new(name, ColumnType::F64)).to_vec();
    let three = Arc::new(Schema::new("doubles", 1, fields).unwrap());
    let kinds: [(&str, Make, Arc<Schema>); 2] =
        [("doubles", doubles, three), ("machines", machines, schema())];
    let mut group = c.benchmark_group("fold");
    for (name, make, schema) in kinds {
        for rows in ROWS {
            let batches: Vec<Batch> =
                (0..BATCHES).map(|n| make(n / DEVICES * rows as u64, rows, &schema)).collect();
            group.throughput(Throughput::Elements(BATCHES * rows as u64));
            group.bench_function(BenchmarkId::new(format!("{name}/sum"), rows), |b| {
                b.iter(|| batches.iter().map(|batch| plain_sum(black_box(batch))).sum::<f64>());
            });
            group.bench_function(BenchmarkId::new(format!("{name}/fold"), rows), |b| {
                b.iter(|| {
                    // New ones each time: the events of the last would not be new to them.
                    let mut devices = vec![DeviceState::default(); DEVICES as usize];
                    for (batch, turn) in batches.iter().zip((0..DEVICES as usize).cycle()) {
                        devices[turn].fold(0, i64::MAX, black_box(batch), 0..rows);
                    }
                    devices
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, fold);
criterion_main!(benches);
