//! The ledger: what the writer asks for every batch, with the fleet of the performance figures in it.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use icecore_benches::schema;
use icecore_log::{Fact, Source};
use icecore_state::Ledger;
use icecore_wire::{Digest, Epoch};

const DEVICES: u64 = 10_000;
const BATCH: u32 = 100;

fn fleet() -> Vec<Arc<Source>> {
    (0..DEVICES)
        .map(|number| {
            let device = format!("load/{number:05}").parse().unwrap();
            Arc::new(Source { device, epoch: Epoch::from_bytes(u128::from(number).to_le_bytes()), number: 0 })
        })
        .collect()
}

fn ledger(c: &mut Criterion) {
    let (fleet, schema) = (fleet(), schema());
    let mut ledger = Ledger::default();
    let mut sequence = 0;
    let mut turn = 0;
    let mut group = c.benchmark_group("ledger");
    group.bench_function("apply", |b| {
        b.iter(|| {
            let source = &fleet[turn];
            ledger.apply(&Fact::Batch {
                source,
                schema: &schema,
                first_sequence: sequence,
                count: BATCH,
                position: 0,
                received: 0,
                digest: Digest::from_bytes([0; 16]),
            });
            turn = (turn + 1) % fleet.len();
            sequence += if turn == 0 { u64::from(BATCH) } else { 0 };
        });
    });
    group.bench_function("classify/new", |b| {
        b.iter(|| {
            turn = (turn + 1) % fleet.len();
            let next = sequence + u64::from(BATCH);
            ledger.classify(
                &fleet[turn].device,
                &fleet[turn].epoch,
                black_box(&(next..next + u64::from(BATCH))),
            )
        });
    });
    group.bench_function("classify/covered", |b| {
        b.iter(|| {
            turn = (turn + 1) % fleet.len();
            ledger.classify(&fleet[turn].device, &fleet[turn].epoch, black_box(&(0..u64::from(BATCH))))
        });
    });
    group.finish();
}

criterion_group!(benches, ledger);
criterion_main!(benches);
