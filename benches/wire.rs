//! The wire: encoding, framing and validating batches. Throughput is in events.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use icecore_benches::{ENCODINGS, Readings, batch, schema};
use icecore_wire::{Batch, BatchHeader, Digest, FrameKind, FrameReader, append_frame, encode, write_header};

/// Events in a batch: the performance figures', and where compression gets most of what it can.
const ROWS: [usize; 2] = [100, 1_000];

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let schema = schema();
    for (name, options) in ENCODINGS {
        for rows in ROWS {
            let readings = Readings::new(0, rows);
            group.throughput(Throughput::Elements(rows as u64));
            group.bench_function(BenchmarkId::new(name, rows), |b| {
                b.iter(|| {
                    encode(&schema, 0, black_box(readings.times()), &readings.columns(), options).unwrap()
                });
            });
        }
    }
    group.finish();
}

fn validating(c: &mut Criterion) {
    let mut group = c.benchmark_group("validate");
    let schema = schema();
    for (name, options) in ENCODINGS {
        for rows in ROWS {
            let payload = batch(0, rows, options);
            group.throughput(Throughput::Elements(rows as u64));
            group.bench_function(BenchmarkId::new(name, rows), |b| {
                b.iter(|| Batch::validate(black_box(payload.clone()), schema.clone()).unwrap());
            });
        }
    }
    group.finish();
}

fn without_columns(c: &mut Criterion) {
    let payload = batch(0, 100, ENCODINGS[0].1);
    c.bench_function("peek/100", |b| b.iter(|| BatchHeader::peek(black_box(&payload)).unwrap()));
    c.bench_function("digest/100", |b| b.iter(|| Digest::of(black_box(&payload))));
}

fn framing(c: &mut Criterion) {
    let payload = batch(0, 100, ENCODINGS[0].1);
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Elements(100));
    group.bench_function("write/100", |b| {
        b.iter(|| write_header(FrameKind::Batch, 1, black_box(&payload)));
    });

    let mut stream = Vec::new();
    append_frame(FrameKind::Batch, 1, &mut stream, |stream| stream.extend_from_slice(&payload));
    let mut reader = FrameReader::batches(icecore_wire::limits::MAX_BATCH_BYTES);
    group.bench_function("read/100", |b| {
        b.iter(|| {
            // As QUIC hands it over: datagram by datagram.
            for chunk in stream.chunks(1_200) {
                reader.push(black_box(chunk));
            }
            reader.next().unwrap().unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, encoding, validating, without_columns, framing);
criterion_main!(benches);
