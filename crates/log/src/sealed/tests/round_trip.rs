//! What was sealed comes back, whichever way it is asked for.

use std::sync::Arc;

use icecore_wire::Values;
use proptest::prelude::*;

use super::{Arrivals, is_time_uncertain, open, packed_batch, rows, seal, shown};
use crate::reader::DeviceFilter;
use crate::record::StoredBatch;
use crate::sealed::{Extremes, RowQuery, SealedSegment};

/// Everything about a batch but the bytes of its payload.
fn about(batch: &StoredBatch) -> impl PartialEq + std::fmt::Debug {
    (
        (Arc::clone(&batch.source), batch.schema.id(), batch.first_sequence, batch.count),
        (batch.position, batch.received, batch.digest, is_time_uncertain(batch)),
        rows(batch),
    )
}

fn check_log_order(segment: &SealedSegment, batches: &[StoredBatch]) {
    let read: Vec<_> = segment.in_log_order(&RowQuery::default()).unwrap().map(Result::unwrap).collect();
    assert_eq!(read.len(), batches.len());
    for (read, sealed) in read.iter().zip(batches) {
        assert_eq!(about(read), about(sealed));
    }
}

/// The rows of a query as (device, epoch number, sequence, position, received, time, values).
fn read_rows(segment: &SealedSegment, query: RowQuery<'_>) -> Vec<(String, u64, u64, i64, i64, Vec<String>)> {
    let mut all = Vec::new();
    for group in segment.rows(query) {
        let group = group.unwrap();
        let open = group.open().unwrap();
        let fields = group.schema().fields().len();
        let columns: Vec<_> = (0..fields).map(|field| open.column(field).unwrap()).collect();
        let times = open.times().unwrap();
        let Values::Timestamp(times) = times.view().values else { unreachable!() };
        assert_eq!(times.len(), open.len());
        assert!(times.len() as u64 <= group.rows());
        let mut row = 0;
        for part in open.parts() {
            for offset in 0..u64::from(part.count) {
                let values = columns.iter().map(|column| shown(column.view().value(row))).collect();
                let source = &part.source;
                let name = format!("{} {} {}", group.schema().id(), source.device.as_str(), source.number);
                let (sequence, position) = (part.first_sequence + offset, part.position + offset);
                all.push((name, sequence, position, part.received, times[row], values));
                row += 1;
            }
        }
        assert_eq!(row, times.len());
    }
    all
}

/// The same, from the batches that were sealed.
fn expected_rows(batches: &[StoredBatch]) -> Vec<(String, u64, u64, i64, i64, Vec<String>)> {
    let mut sorted: Vec<&StoredBatch> = batches.iter().collect();
    sorted.sort_by_key(|batch| {
        let (schema, source) = (&batch.schema, &batch.source);
        let schema = (schema.name().to_owned(), schema.version());
        (schema, source.device.clone(), source.number, batch.first_sequence)
    });
    let mut all = Vec::new();
    for batch in sorted {
        let (schema, source) = (&batch.schema, &batch.source);
        let name = format!("{} {} {}", schema.id(), source.device.as_str(), source.number);
        for (offset, (time, values)) in rows(batch).into_iter().enumerate() {
            let offset = offset as u64;
            let (sequence, position) = (batch.first_sequence + offset, batch.position + offset);
            all.push((name.clone(), sequence, position, batch.received, time, values));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn hot_and_sealed_are_the_same(seed in any::<u64>(), count in 1_usize..60, most_rows in 1_usize..120) {
        let batches = Arrivals::new(seed, most_rows).batches(count);
        let (file, summary) = seal(&batches);
        let segment = open(file);
        prop_assert_eq!(segment.summary(), &summary);
        prop_assert_eq!(summary.rows, batches.iter().map(|batch| u64::from(batch.count)).sum::<u64>());
        check_log_order(&segment, &batches);
        prop_assert_eq!(read_rows(&segment, RowQuery::default()), expected_rows(&batches));
        prop_assert_eq!(segment.verify().unwrap(), vec![]);
        for batch in &batches {
            let source = &batch.source;
            let found = segment.find(&source.device, &source.epoch, batch.first_sequence).unwrap();
            prop_assert_eq!(found, Some(batch.entry()));
            let inside = segment.find(&source.device, &source.epoch, batch.first_sequence + u64::from(batch.count));
            let next = batches.iter().find(|b| b.source == *source && b.first_sequence == batch.first_sequence + u64::from(batch.count));
            prop_assert_eq!(inside.unwrap(), next.map(StoredBatch::entry));
        }
        let entries: Vec<_> = segment.entries().map(Result::unwrap).collect();
        prop_assert_eq!(entries.len(), batches.len());
        for batch in &batches {
            let entry = entries.iter().find(|entry| entry.batch.position == batch.position).unwrap();
            prop_assert_eq!(&entry.source, &batch.source);
            prop_assert_eq!(entry.schema.id(), batch.schema.id());
            prop_assert_eq!(entry.batch, batch.entry());
            prop_assert_eq!((entry.received, entry.time_uncertain), (batch.received, is_time_uncertain(batch)));
        }
    }

    #[test]
    fn a_query_yields_what_it_asks_for(
        seed in any::<u64>(),
        from in 0_u64..3_000,
        count in 1_u64..2_000,
        sequences in any::<bool>(),
    ) {
        let batches = Arrivals::new(seed, 100).batches(50);
        let segment = open(seal(&batches).0);
        let range = from..from + count;
        let devices: DeviceFilter<'_> = Box::new(|device| device.as_str() != "press/1");
        let query = RowQuery {
            devices: Some(devices),
            schemas: Some(Box::new(|schema| schema.version() == 1)),
            sequences: sequences.then(|| range.clone()),
            positions: (!sequences).then(|| range.clone()),
            ..RowQuery::default()
        };
        let wanted: Vec<StoredBatch> = batches
            .iter()
            .filter(|batch| batch.source.device.as_str() != "press/1" && batch.schema.version() == 1)
            .cloned()
            .collect();
        let mut expected = expected_rows(&wanted);
        expected.retain(|(_, sequence, position, ..)| range.contains(if sequences { sequence } else { position }));
        prop_assert_eq!(read_rows(&segment, query), expected);
        let overlapping = wanted.iter().filter(|b| b.position < range.end && range.start < b.position + u64::from(b.count));
        let query = RowQuery {
            devices: Some(Box::new(|device| device.as_str() != "press/1")),
            schemas: Some(Box::new(|schema| schema.version() == 1)),
            positions: Some(range.clone()),
            ..RowQuery::default()
        };
        let read = segment.in_log_order(&query).unwrap().map(|batch| batch.unwrap().position);
        let read: Vec<u64> = read.collect();
        prop_assert_eq!(read, overlapping.map(|batch| batch.position).collect::<Vec<_>>());
    }
}

/// Large enough for several row groups, pages, and windows.
#[test]
fn many_rows_come_back() {
    let mut arrivals = Arrivals::new(7, 4_000);
    let batches = arrivals.batches(25);
    let (file, summary) = seal(&batches);
    let segment = open(file);
    assert!(segment.footer.tables.iter().any(|table| table.groups.len() > 1));
    check_log_order(&segment, &batches);
    assert_eq!(read_rows(&segment, RowQuery::default()), expected_rows(&batches));
    assert_eq!(segment.verify().unwrap(), vec![]);
    let shares: u64 = summary.runs.iter().map(|run| run.bytes).sum();
    let groups = segment.footer.tables.iter().flat_map(|table| &table.groups);
    let bytes: u64 = groups.map(|group| group.entry.len).sum();
    assert!(shares <= bytes && shares + summary.runs.len() as u64 * 2 >= bytes);
}

#[test]
fn a_payload_that_cannot_be_made_anew_is_kept() {
    let mut arrivals = Arrivals::new(1, 20);
    let (schema, source) = (Arc::clone(&arrivals.schemas[1]), Arc::clone(&arrivals.sources[3].0));
    let large = packed_batch(&schema, &source, icecore_wire::limits::MAX_ROWS);
    arrivals.sources.truncate(3);
    arrivals.position = 70_000;
    let mut batches = arrivals.batches(20);
    batches.insert(0, large);
    let segment = open(seal(&batches).0);
    check_log_order(&segment, &batches);
    let first = segment
        .in_log_order(&RowQuery { positions: Some(0..1), ..RowQuery::default() })
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(first.payload, batches[0].payload);
    assert!(first.compressed);
    assert_eq!(read_rows(&segment, RowQuery::default()).len() as u64, segment.summary().rows);
    assert_eq!(segment.verify().unwrap(), vec![]);
}

#[test]
fn times_that_cannot_match_are_not_read() {
    let mut arrivals = Arrivals::new(3, 1);
    let mut batches = arrivals.batches(1);
    batches.clear();
    let schema = Arc::clone(&arrivals.schemas[1]);
    let source = Arc::clone(&arrivals.sources[0].0);
    for index in 0..100_u64 {
        let first = index * 1_000;
        let times: Vec<i64> = (0..1_000).map(|row| (first as i64 + row) * 1_000).collect();
        let values = vec![1.5; 1_000];
        let columns = [icecore_wire::Column::new(icecore_wire::ColumnData::F64(&values))];
        let payload = icecore_wire::encode(&schema, first, &times, &columns, Default::default()).unwrap();
        batches.push(StoredBatch {
            source: Arc::clone(&source),
            schema: Arc::clone(&schema),
            first_sequence: first,
            count: 1_000,
            position: first,
            received: first as i64,
            digest: icecore_wire::Digest::of(&payload),
            payload,
            compressed: false,
        });
    }
    let segment = open(seal(&batches).0);
    let query = RowQuery { times: Some(50_000_000..=50_000_999), ..RowQuery::default() };
    let rows = read_rows(&segment, query);
    assert!(rows.len() <= 8_192, "one page, not {} rows", rows.len());
    assert!(rows.iter().any(|(_, sequence, ..)| *sequence == 50_000));
    let none = RowQuery { times: Some(-5..=-1), ..RowQuery::default() };
    assert_eq!(segment.rows(none).count(), 0);
    let whole = |times| RowQuery { times: Some(times), ..RowQuery::default() };
    let read = segment.in_log_order(&whole(50_000_000..=50_000_999)).unwrap();
    let read: Vec<u64> = read.map(|batch| batch.unwrap().position).collect();
    assert!(read.len() <= 10 && read.contains(&50_000), "the batches of one page, not {read:?}");
    assert_eq!(segment.in_log_order(&whole(-5..=-1)).unwrap().count(), 0);
    let (rows, statistics) = segment.statistics(&schema).next().unwrap();
    assert_eq!(rows, 100_000);
    assert_eq!(statistics[0].extremes, Some(Extremes::Signed(0, 99_999_000)));
    assert_eq!(statistics[1].extremes, Some(Extremes::Float(1.5, 1.5)));
}
