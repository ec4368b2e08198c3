//! The cases that statistics by kind exist for, and the ends of time.

use icecore_state::fold::Kept;
use icecore_state::rollup::Sketch;

use super::history::{Event, Log, SECOND, event, number, rollup};

fn row_of(events: Vec<Event>) -> super::history::Row {
    let mut log = Log::new();
    log.block(&[events]);
    let mut newest = log.newest(&rollup(60));
    newest.pop_first().unwrap().1
}

#[test]
fn a_wind_around_north_comes_from_the_north() {
    let headings = [350.0, 10.0, 355.0, 5.0].into_iter().zip(0..);
    let row = row_of(headings.map(|(heading, n)| Event { heading, ..event(0, n, n as i64) }).collect());
    let mean = number(&row, "heading_mean");
    assert!(!(1e-9..=360.0 - 1e-9).contains(&mean), "{mean}");
    assert!(number(&row, "heading_length") > 0.98);
}

#[test]
fn a_counter_that_begins_again_has_counted_on() {
    let counts = [90, 100, 3, 10, 10, 2].into_iter().zip(0..);
    let row = row_of(counts.map(|(count, n)| Event { count, ..event(0, n, n as i64) }).collect());
    assert_eq!((number(&row, "count_increase"), number(&row, "count_resets")), (22.0, 2.0));
    assert_eq!((&row["count_first"], &row["count_last"]), (&Some(Kept::U64(90)), &Some(Kept::U64(2))));
}

#[test]
fn a_reset_that_came_late_counts_where_it_happened() {
    let count = |n, count| Event { count, ..event(0, n, n as i64 * SECOND) };
    let mut log = Log::new();
    log.block(&[vec![count(0, 90), count(1, 100)], vec![count(4, 10)]]);
    log.block(&[vec![count(2, 105), count(3, 1)]]);
    let row = log.newest(&rollup(60)).remove(&0).unwrap();
    assert_eq!((number(&row, "count_increase"), number(&row, "count_resets")), (25.0, 1.0));
}

#[test]
fn windows_at_the_ends_of_time_are_windows() {
    let times = [i64::MIN, i64::MIN + 1, -1, 0, 1 << 59, i64::MAX];
    let events = times.into_iter().zip(0..).map(|(time, n)| event(0, n, time));
    let mut log = Log::new();
    log.block(&[events.collect()]);
    let newest = log.newest(&rollup(60));
    assert!(newest.contains_key(&i64::MIN), "{:?}", newest.keys());
    assert_eq!(newest.values().map(|row| number(row, "events")).sum::<f64>(), 6.0);
}

#[test]
fn a_sketch_is_frozen_and_merges() {
    let row = row_of((1..=4).map(|n| Event { level: Some(n as f64), ..event(0, n, 0) }).collect());
    let Some(Kept::Bytes { start: bytes, .. }) = &row["level_sketch"] else { panic!() };
    let mut sketch = Sketch::from_bytes(bytes).unwrap();
    assert_eq!(&sketch.to_bytes(), bytes);
    sketch.merge(&sketch.clone());
    assert_eq!(sketch.count(), 8);
    assert!((sketch.quantile(1.0).unwrap() - 4.0).abs() < 0.05);
    for hostile in [&[][..], &[9], &bytes[..bytes.len() - 1]] {
        assert!(Sketch::from_bytes(hostile).is_err());
    }
}

/// Batches of so many events, each counting on from the one before, as far apart as `step` says.
fn many(count: u64, step: i64) -> Vec<Vec<Event>> {
    let event = |n: u64| Event { count: n, level: Some(1.0), ..event(0, n, n as i64 * step) };
    let all: Vec<Event> = (0..count).map(event).collect();
    all.chunks(20_000).map(<[Event]>::to_vec).collect()
}

#[test]
fn a_window_of_more_events_than_are_sorted_at_once_is_one_window() {
    let count = 600_000;
    for step in [60 * SECOND / count as i64, 0] {
        let mut log = Log::new();
        log.block(&many(count, step));
        let row = log.newest(&rollup(60)).remove(&0).unwrap();
        assert_eq!(number(&row, "events"), count as f64);
        let counted = (number(&row, "count_increase"), number(&row, "count_resets"));
        assert_eq!(counted, (count as f64 - 1.0, 0.0), "{step} ns apart");
    }
}
