//! The log: compressing a full block, committing it with its fsync, and scanning. Throughput is in events.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use icecore_benches::{ENCODINGS, batch, schema};
use icecore_log::{
    Appender, Committer, Encoder, HotLog, LogReader, NewBatch, Options, RawBlock, RealDisk, Scan, Source,
};
use icecore_wire::{Digest, EncodeOptions, Epoch};
use tempfile::TempDir;

const ROWS: u32 = 100;
/// Compression levels of the performance figures.
const LEVELS: [i32; 2] = [1, -3];
/// Blocks in the log that is scanned.
const BLOCKS: usize = 64;

struct Writer {
    directory: TempDir,
    appender: Appender,
    committer: Committer,
    source: Arc<Source>,
    next: u64,
}

impl Writer {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let (appender, committer, _) =
            HotLog::open(Arc::new(RealDisk), directory.path(), Options::default(), 0, &mut |_| {}).unwrap();
        let source =
            Source { device: "bench".parse().unwrap(), epoch: Epoch::from_bytes([1; 16]), number: 0 };
        Self { directory, appender, committer, source: Arc::new(source), next: 0 }
    }

    /// The next full block.
    fn block(&mut self, options: EncodeOptions) -> RawBlock {
        let schema = schema();
        while !self.appender.is_full() {
            let payload = batch(self.next, ROWS as usize, options);
            let digest = Digest::of(&payload);
            let compressed = options.pco.is_some();
            let batch = NewBatch { payload, first_sequence: self.next, count: ROWS, digest, compressed };
            self.appender.batch(&self.source, &schema, batch);
            self.next += u64::from(ROWS);
        }
        self.appender.finish(0)
    }
}

fn events(block: &RawBlock) -> Throughput {
    Throughput::Elements(block.positions().end - block.positions().start)
}

fn compressing(c: &mut Criterion) {
    let mut group = c.benchmark_group("block");
    for (name, options) in ENCODINGS {
        for level in LEVELS {
            let mut writer = Writer::new();
            let mut encoder = Encoder::new();
            group.throughput(events(&writer.block(options)));
            group.bench_function(BenchmarkId::new(name, level), |b| {
                b.iter_batched(
                    || writer.block(options),
                    |block| encoder.encode(block, level),
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

fn committing(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit");
    let (mut writer, mut encoder) = (Writer::new(), Encoder::new());
    let first = writer.block(ENCODINGS[0].1);
    group.throughput(events(&first));
    let mut next = Some(encoder.encode(first, LEVELS[0]));
    group.bench_function("full", |b| {
        b.iter_custom(|iterations| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..iterations {
                let mut block = match next.take() {
                    Some(block) => block,
                    None => encoder.encode(writer.block(ENCODINGS[0].1), LEVELS[0]),
                };
                let begin = std::time::Instant::now();
                writer.committer.commit(&mut block).unwrap();
                spent += begin.elapsed();
            }
            spent
        });
    });
    group.finish();
}

fn scanning(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    for (name, options) in ENCODINGS {
        let (mut writer, mut encoder) = (Writer::new(), Encoder::new());
        for _ in 0..BLOCKS {
            let mut block = encoder.encode(writer.block(options), LEVELS[0]);
            writer.committer.commit(&mut block).unwrap();
        }
        writer.committer.close().unwrap();
        let log = LogReader::open(Arc::new(RealDisk), writer.directory.path()).unwrap();
        group.throughput(Throughput::Elements(log.positions().end));
        group.bench_function(name, |b| {
            b.iter(|| log.scan(Scan::default()).map(Result::unwrap).count());
        });
    }
    group.finish();
}

criterion_group!(benches, compressing, committing, scanning);
criterion_main!(benches);
