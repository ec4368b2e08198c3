//! A plan over a million segments, its table, and 30 days ahead; and policies looked up for a fleet. Throughput is in
//! segments and in lookups.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use icecore_tier::plan::{Books, Moment, Prices, Stores};
use icecore_tier::policy::{Labels, PolicySet};
use icecore_tier::segment::{Copy, Segment, SegmentId, Share, Span};

const SEGMENTS: u64 = 1_000_000;
const DAY: i64 = 24 * 3_600 * 1_000_000_000;
const NOW: i64 = 19_800 * DAY;
const TEN_MINUTES: Duration = Duration::from_mins(10);

const POLICIES: &str = r#"
[[policy]]
name   = "alarms"
match  = { schema = "alarm*" }
cold   = [{ after = "6h", store = "archive" }]
delete = "never"

[[policy]]
name   = "debug"
match  = { schema = "debug*" }
cold   = [{ after = "6h", store = "archive" }]
local  = { drop_after = "2d", min_free = "50GB" }
delete = { max_bytes = "1TB", undo = "1d" }
importance = 10

[[policy]]
name   = "norway"
match  = { labels = { site = ["oslo", "bergen"] }, not = { device = "lab-*" } }
cold   = [{ after = "6h", store = "archive" }, { after = "30d", store = "archive", class = "GLACIER_IR" }]
local  = { drop_after = "2d", max_bytes = "500GB" }
delete = { after = "180d" }

[[policy]]
name   = "default"
cold   = [{ after = "6h", store = "archive" }]
local  = { drop_after = "2d", min_free = "50GB" }
delete = { after = "90d", undo = "7d" }
"#;

/// A segment of 8 MB every eleven seconds or so for 120 days, the last two of them local; some have two policies.
fn segment(number: u64) -> Segment {
    let time = NOW - (SEGMENTS - number) as i64 * (120 * DAY / SEGMENTS as i64);
    let names = ["alarms", "debug", "norway", "default"];
    let share =
        |place: u64, bytes| Share { policy: names[place as usize % 4].to_owned(), rows: bytes / 8, bytes };
    let shares = match number.is_multiple_of(100) {
        true => vec![share(number, 6_000_000), share(number + 1, 2_000_000)],
        false => vec![share(number, 8_000_000)],
    };
    let is_new = NOW - time < 2 * DAY;
    let copy = Copy { store: "archive".to_owned(), class: None, verified: time };
    Segment {
        id: SegmentId { manifest: number, child: 0 },
        bytes: 8_000_000,
        rows: 1_000_000,
        root: [0; 32],
        positions: number * 1_000_000..(number + 1) * 1_000_000,
        received: Span { first: time, last: time },
        events: Span { first: time, last: time },
        shares,
        local: is_new,
        copies: if is_new { Vec::new() } else { vec![copy] },
        deletion: None,
    }
}

fn books(policies: &PolicySet) -> Books<'_> {
    let mut books = Books::new(policies);
    (0..SEGMENTS).for_each(|number| books.add(&segment(number), false).unwrap());
    books
}

fn plan(c: &mut Criterion) {
    let policies = PolicySet::parse("retention.toml", POLICIES).unwrap();
    let moment = Moment { now: NOW, free: 100_000_000_000, ..Moment::default() };
    let mut group = c.benchmark_group("plan");
    group.throughput(Throughput::Elements(SEGMENTS)).sample_size(10);
    group.bench_function("from segments to the table", |b| {
        b.iter(|| black_box(books(&policies).plan(&moment).to_string()));
    });
    let prices = BTreeMap::from([("archive".to_owned(), Prices::of_s3())]);
    let stores = Stores { prices, journal: Some("archive".to_owned()) };
    group.bench_function("30 days ahead, with what arrives", |b| {
        b.iter(|| {
            let books = books(&policies);
            let arrivals = books.recent_arrivals(NOW, 7);
            black_box(books.rehearse(&moment, 30, TEN_MINUTES, &stores, &arrivals).unwrap().to_string())
        });
    });
    group.finish();
}

fn resolve(c: &mut Criterion) {
    let policies = PolicySet::parse("retention.toml", POLICIES).unwrap();
    let fleet: Vec<(String, Labels)> = (0..100_000)
        .map(|number| {
            let site = ["oslo", "bergen", "turin"][number % 3];
            (
                format!("plant-{}/pump-{number}", number % 50),
                Labels::from([("site".to_owned(), site.to_owned())]),
            )
        })
        .collect();
    let mut group = c.benchmark_group("policy");
    group.throughput(Throughput::Elements(4 * fleet.len() as u64)).sample_size(10);
    group.bench_function("of 100,000 devices in 4 schemas", |b| {
        b.iter(|| {
            for (device, labels) in &fleet {
                for schema in ["alarm/heat", "vibration", "debug/network", "weather"] {
                    black_box(policies.resolve(schema, device, labels));
                }
            }
        });
    });
    group.finish();
}

criterion_group!(benches, plan, resolve);
criterion_main!(benches);
