//! Replay: counting, text, and the sort by event time, from a log on disk to a sink that discards. Throughput is in
//! events.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::io::sink;
use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use icecore_benches::{ENCODINGS, batch, schema};
use icecore_log::{Encoder, HotLog, NewBatch, Options, RealDisk, Source};
use icecore_replay::{Csv, Ndjson, Order, Query, Replay};
use icecore_wire::{Digest, EncodeOptions, Epoch};
use tempfile::TempDir;

const ROWS: u32 = 100;
/// Enough events that the sort by time needs runs on disk.
const BATCHES: u64 = 20_000;
const DEVICES: u64 = 16;
const EVENTS: u64 = BATCHES * ROWS as u64;

/// Writes a log to which `DEVICES` devices sent batches in turn.
fn write_log(data: &Path, options: EncodeOptions) {
    let disk = Arc::new(RealDisk);
    let (mut appender, mut committer, _) =
        HotLog::open(disk, data, Options::default(), 0, &mut |_| {}).unwrap();
    let source = |number| {
        let device = format!("bench/{number}").parse().unwrap();
        Arc::new(Source { device, epoch: Epoch::from_bytes([1; 16]), number: 0 })
    };
    let sources: Vec<_> = (0..DEVICES).map(source).collect();
    let (schema, mut encoder) = (schema(), Encoder::new());
    for number in 0..BATCHES {
        let first_sequence = number / DEVICES * u64::from(ROWS);
        let payload = batch(first_sequence, ROWS as usize, options);
        let digest = Digest::of(&payload);
        let compressed = options.pco.is_some();
        let batch = NewBatch { payload, first_sequence, count: ROWS, digest, compressed };
        appender.batch(&sources[(number % DEVICES) as usize], &schema, batch);
        if appender.is_full() || number + 1 == BATCHES {
            committer.commit(&mut encoder.encode(appender.finish(0), 1)).unwrap();
        }
    }
    committer.close().unwrap();
}

fn replay(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay");
    group.throughput(Throughput::Elements(EVENTS)).sample_size(10);
    for (name, options) in ENCODINGS {
        let directory = TempDir::new().unwrap();
        write_log(directory.path(), options);
        let replay = Replay::open(directory.path()).unwrap();
        let (log, time) = (Query::default(), Query { order: Order::Time, ..Query::default() });
        let schemas = replay.schemas(&log).unwrap();
        group.bench_function(BenchmarkId::new("count", name), |b| {
            b.iter(|| assert_eq!(replay.count(&log).unwrap().coverage.present, EVENTS));
        });
        for (order, query) in [("log", &log), ("time", &time)] {
            group.bench_function(BenchmarkId::new(format!("csv, {order} order"), name), |b| {
                b.iter(|| replay.run(query, &mut Csv::new(sink(), &schemas).unwrap()).unwrap());
            });
        }
        group.bench_function(BenchmarkId::new("ndjson, log order", name), |b| {
            b.iter(|| replay.run(&log, &mut Ndjson::new(sink())).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, replay);
criterion_main!(benches);
