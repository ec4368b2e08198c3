//! Sealing: batches of three numeric fields and a time into a sealed segment, and reading it back. Throughput is in
//! events a second of this thread's processor time: what one core does, whatever else the machine does meanwhile.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use icecore_benches::{ENCODINGS, batch, schema};
use icecore_log::sealed::{RowGroup, RowQuery, SealedSegment, SealedWriter};
use icecore_log::{Source, StoredBatch};
use icecore_wire::{Digest, EncodeOptions, Epoch};
use rustix::time::{ClockId, clock_gettime};

/// Rows of a batch, and batches in a segment.
const ROWS: u64 = 100;
const BATCHES: u64 = 10_000;

/// Processor time of the thread that measures.
struct ThreadTime;

impl ThreadTime {
    fn now() -> Duration {
        clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
    }
}

impl Measurement for ThreadTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        Self::now()
    }

    fn end(&self, start: Duration) -> Duration {
        Self::now() - start
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn batches(options: EncodeOptions) -> Vec<StoredBatch> {
    let schema = schema();
    let source = Source { device: "bench".parse().unwrap(), epoch: Epoch::from_bytes([1; 16]), number: 0 };
    let source = Arc::new(source);
    let one = |index: u64| {
        let first_sequence = index * ROWS;
        let payload = batch(first_sequence, ROWS as usize, options);
        StoredBatch {
            source: Arc::clone(&source),
            schema: Arc::clone(&schema),
            first_sequence,
            count: ROWS as u32,
            position: first_sequence,
            received: index as i64 * 1_000_000,
            digest: Digest::of(&payload),
            payload,
            compressed: options.pco.is_some(),
        }
    };
    (0..BATCHES).map(one).collect()
}

fn seal(batches: &[StoredBatch]) -> Vec<u8> {
    let mut writer = SealedWriter::new([7; 16]);
    batches.iter().for_each(|batch| writer.push(batch.clone()));
    let mut file = Vec::new();
    writer.finish(&mut file, PathBuf::from("bench.ice")).unwrap();
    file
}

fn sealing(c: &mut Criterion<ThreadTime>) {
    let mut group = c.benchmark_group("seal");
    group.sample_size(10).throughput(Throughput::Elements(ROWS * BATCHES));
    for (name, options) in ENCODINGS {
        let batches = batches(options);
        group.bench_function(BenchmarkId::new("write", name), |b| b.iter(|| seal(&batches)));
    }
    let file = Arc::new(seal(&batches(ENCODINGS[0].1)));
    let segment = SealedSegment::open(file, PathBuf::from("bench.ice")).unwrap();
    group.bench_function("read rows", |b| {
        b.iter(|| {
            let read = |group: RowGroup| {
                let open = group.open().unwrap();
                (0..3).map(|field| open.column(field).unwrap().len()).sum::<usize>()
            };
            segment.rows(RowQuery::default()).map(|group| read(group.unwrap())).sum::<usize>()
        });
    });
    group.bench_function("read in log order", |b| {
        b.iter(|| segment.in_log_order(&RowQuery::default()).unwrap().map(Result::unwrap).count());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ThreadTime);
    targets = sealing
}
criterion_main!(benches);
