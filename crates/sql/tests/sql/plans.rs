//! What a statement has the log read, and what it does not.

use crate::log::{Log, SECOND, row, station, weather};

/// A line of `EXPLAIN ANALYZE` that tells what was read.
fn read(log: &Log, statement: &str) -> String {
    let plan = log.csv(&format!("EXPLAIN ANALYZE {statement}"));
    let line = plan.lines().find(|line| line.contains("Reading:"));
    line.unwrap_or_else(|| panic!("{plan}")).to_owned()
}

#[track_caller]
fn assert_read(log: &Log, statement: &str, expected: &[&str]) {
    let line = read(log, statement);
    for expected in expected {
        assert!(line.contains(expected), "{expected} is not in {line}");
    }
}

#[test]
fn what_cannot_hold_anything_is_not_read() {
    let log = station();
    assert_read(
        &log,
        "SELECT temp FROM weather",
        &["table=Weather, columns=[Temp]", "2 total → 2 matched", "rows_looked_at=40"],
    );
    assert_read(&log, "SELECT count(*) FROM weather", &["columns=[]"]);
    // A time range reaches the second segment only, and nothing of what is hot.
    assert_read(
        &log,
        "SELECT temp FROM weather WHERE event_time >= '1970-01-01T00:00:05Z' AND event_time < '1970-01-01T00:00:07Z'",
        &[
            "times=1970-01-01T00:00:05.000000000Z..1970-01-01T00:00:07.000000000Z",
            "columns=[Temp]",
            "segments_opened=2 total → 1 matched",
            "output_rows=4",
        ],
    );
    assert_read(
        &log,
        "SELECT temp FROM weather WHERE device = 'yard'",
        &["devices=[yard]", "output_rows=20"],
    );
    assert_read(
        &log,
        "SELECT temp FROM weather WHERE device LIKE 'hall/%'",
        &["devices=hall/*", "output_rows=20"],
    );
    assert_read(
        &log,
        "SELECT temp FROM weather WHERE position < 10",
        &["positions=..10", "segments_opened=2 total → 1 matched"],
    );
    // Statistics of row groups.
    assert_read(
        &log,
        "SELECT note FROM weather WHERE level < -7000000000",
        &["where=level <= ", "row_groups_read=2 total → 1 matched"],
    );
    assert_read(
        &log,
        "SELECT note FROM weather WHERE temp > 107.5",
        &["row_groups_read=2 total → 1 matched"],
    );
}

#[test]
fn limits_end_the_reading() {
    let log = station();
    assert_read(&log, "SELECT temp FROM weather LIMIT 3", &["limit=3", "output_rows=3"]);
    assert_read(
        &log,
        "SELECT temp FROM weather WHERE device = 'yard' LIMIT 3",
        &["limit=3", "output_rows=3"],
    );
    // What is inexact is filtered once more, so that a limit cannot be taken over.
    assert!(!read(&log, "SELECT temp FROM weather WHERE temp > 5 LIMIT 3").contains("limit="));
    let (rows, coverage) = log.ask("SELECT temp FROM weather LIMIT 3").unwrap();
    assert_eq!(rows.iter().map(arrow_array::RecordBatch::num_rows).sum::<usize>(), 3);
    assert!(coverage.is_complete(), "{coverage}");
}

#[test]
fn rows_are_handed_over_in_pieces() {
    let mut log = Log::new();
    for part in 0..6_i64 {
        let seconds = part * 10_000..part * 10_000 + 10_000;
        let rows: Vec<_> = seconds.map(|second| row(second * SECOND, 1.0)).collect();
        log.add("a", &weather(), &rows);
    }
    log.seal();
    let (rows, _) = log.ask("SELECT temp FROM weather").unwrap();
    assert_eq!(rows.iter().map(arrow_array::RecordBatch::num_rows).sum::<usize>(), 60_000);
    assert!(rows.iter().all(|batch| (1..=1 << 15).contains(&batch.num_rows())));
}
