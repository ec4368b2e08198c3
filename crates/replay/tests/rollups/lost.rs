//! Late events of a window whose earlier events are not there any more.

use icecore_state::fold::Kept;
use icecore_state::rollup::Cell;
use icecore_wire::{BatchBuilder, Value};

use super::history::{Event, Log, Row, SECOND, event, named, number, rollup};

/// The first row of the next manifest that gives any.
fn row(log: &Log) -> Option<(i64, Vec<Cell>)> {
    std::iter::from_fn(|| log.seal())
        .find_map(|manifest| log.roll(&manifest, &rollup(60), None).into_iter().next())
}

/// The rows of one window: as it was, and with late events when the earlier ones are gone.
fn late(before: Vec<Event>, late: Vec<Event>, is_stored: bool) -> (Row, Row) {
    let rollup = rollup(60);
    let mut log = Log::new();
    log.block(&[before]);
    log.fill();
    let (start, first) = row(&log).unwrap();
    if is_stored {
        let mut batch = BatchBuilder::new(rollup.schema().clone());
        let values: Vec<Value<'_>> =
            first.iter().map(|cell| cell.as_ref().map_or(Value::Null, Kept::value)).collect();
        batch.row(start, &values).unwrap();
        log.batch(7, 0, &mut batch);
        log.commit();
    }
    let sealed = log.reader().sealed().next().unwrap().0;
    // Without a copy elsewhere it is gone, but for its tail.
    log.committer.sealer().drop_pages(sealed).unwrap();
    log.block(&[late]);
    log.fill();
    while let Some((at, second)) = row(&log) {
        if at == start {
            return (named(&rollup, first), named(&rollup, second));
        }
    }
    panic!("no row of the late events");
}

fn events(epoch: u32, times: impl Iterator<Item = i64>) -> Vec<Event> {
    let event = |(sequence, n): (u64, i64)| Event {
        level: Some(n as f64),
        count: 10 * n as u64,
        mode: if n % 2 == 0 { "run" } else { "idle" },
        heading: 350.0 + 5.0 * n as f64,
        ..event(epoch, sequence, n * SECOND)
    };
    (0..).zip(times).map(event).collect()
}

#[test]
fn what_was_stored_stands_for_what_is_gone() {
    let (first, second) = late(events(0, 0..4), events(1, 4..6), true);
    assert_eq!(first["partial"], Some(Kept::Bool(false)));
    assert_eq!(second["partial"], Some(Kept::Bool(true)));
    let all = late(events(0, 0..1), events(1, 0..6), false).1;
    for column in ["events", "level_count", "level_mean", "level_variance", "heading_count", "mode_changes"] {
        let (found, of_all) = (number(&second, column), number(&all, column));
        // What happened between the last early and the first late event is unknown.
        let unknown = f64::from(u8::from(column == "mode_changes"));
        assert!((found + unknown - of_all).abs() < 1e-9, "{column}: {found} {of_all}");
    }
    for column in
        ["level_min", "level_max", "level_last", "count_first", "count_last", "mode_last", "last_time"]
    {
        assert_eq!(second[column], all[column], "{column}");
    }
    assert!((number(&second, "heading_mean") - number(&all, "heading_mean")).abs() < 1e-9);
    assert!((number(&second, "level_p90") - number(&all, "level_p90")).abs() < 1e-9);
    assert_eq!(number(&second, "count_increase") + 10.0, number(&all, "count_increase"));
    let Some(Kept::Text { start, .. }) = &second["mode_times"] else { panic!() };
    assert_eq!(start, r#"[["run",3,3000000000],["idle",3,1000000000]]"#);
}

#[test]
fn a_window_of_which_nothing_is_left_says_so() {
    let (_, second) = late(events(0, 0..4), events(1, 4..6), false);
    assert_eq!((number(&second, "events"), &second["partial"]), (2.0, &Some(Kept::Bool(true))));
}
