//! Tables about the log, and the log as it was known.

use std::sync::Arc;

use icecore_sql::TableKind;
use icecore_wire::{ColumnType, Field, Kind, Schema, Value};

use crate::log::{Log, SECOND, row, station, weather};

#[test]
fn tables_are_listed() {
    let log = station();
    let listed =
        log.csv("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1");
    assert_eq!(listed, "Weather\ncoverage\ndevices\ngaps\nsegments\n");
    assert!(log.csv("SHOW TABLES").contains("icecore,public,Weather,BASE TABLE\n"));
    let columns = log.csv("DESCRIBE weather");
    assert!(columns.contains("Temp,Float64,YES\n") && columns.contains("position,UInt64,NO\n"), "{columns}");
    let tables = log.run(log.database().tables()).unwrap();
    let of = |kind| tables.iter().filter(|table| table.kind == kind).count();
    assert_eq!([of(TableKind::Events), of(TableKind::View), of(TableKind::System)], [1, 0, 8]);
}

#[test]
fn the_log_tells_of_itself() {
    let mut log = station();
    log.skip("yard", 3);
    log.add("yard", &weather(), &[row(30 * SECOND, 1.0)]);
    assert_eq!(
        log.csv("SELECT device, epochs, events, not_arrived, first_received FROM devices ORDER BY device"),
        "hall/a,1,20,0,1970-01-01T00:00:01Z\nyard,1,21,3,1970-01-01T00:00:02Z\n"
    );
    assert_eq!(log.csv("SELECT * FROM gaps"), "yard,0,not_arrived,20,22,3,\n");
    assert_eq!(
        log.csv("SELECT tier, events, first_position, last_position FROM segments ORDER BY first_position"),
        "warm,10,0,9\nwarm,10,10,19\nhot,21,20,40\n"
    );
    assert_eq!(
        log.csv("SELECT kind, why, sum(events) FROM coverage GROUP BY kind, why ORDER BY kind, why"),
        "not_arrived,,3\npresent,hot,21\npresent,warm,20\n"
    );
    assert_eq!(log.csv("SELECT count(*) FROM system.devices WHERE device = 'yard'"), "1\n");
}

#[test]
fn a_table_may_be_read_as_it_was_known() {
    let log = station();
    let known = |at: &str| log.csv(&format!("SELECT count(*), max(temp) FROM known_at('weather', {at})"));
    assert_eq!(known("NULL"), "40,119.0\n");
    assert_eq!(known("'1970-01-01T00:00:03Z'"), "15,104.0\n");
    assert_eq!(known("TIMESTAMP '1970-01-01T00:00:01'"), "5,4.0\n");
    assert_eq!(known("0"), "0,\n");
    assert!(log.error("SELECT * FROM known_at('weather')").contains("known_at takes a table and a time"));
    assert!(log.error("SELECT * FROM known_at('weather', 'soon')").contains("\"soon\" is not a time"));
}

#[test]
fn states_are_told_as_of_an_instant() {
    let log = station();
    let state = |arguments: &str| {
        log.csv(&format!(
            "SELECT device, last, last_time, count, max FROM state_at({arguments}) \
             WHERE schema = 'Weather' AND field = 'Temp' AND device = 'yard'"
        ))
    };
    assert_eq!(state(""), "yard,119.0,1970-01-01T00:00:19Z,20,119.0\n");
    assert_eq!(state("NULL, NULL"), state(""));
    assert_eq!(state("'1970-01-01T00:00:07Z', NULL"), "yard,107.0,1970-01-01T00:00:07Z,8,107.0\n");
    // The second batch of the yard was received at the fourth second.
    assert_eq!(state("NULL, '1970-01-01T00:00:03Z'"), "yard,104.0,1970-01-01T00:00:04Z,5,104.0\n");
    assert_eq!(
        log.csv("SELECT states[1]['value'], states[1]['time_ns'], late FROM state_at() WHERE field = 'note' AND device = 'yard'"),
        "calm,19000000000,0\n"
    );
    assert_eq!(log.csv("SELECT count(DISTINCT device), count(*) FROM state_at()"), "2,10\n");
    assert!(log.error("SELECT * FROM state_at('1', '2', '3')").contains("state_at takes"));
}

#[test]
fn of_a_window_the_row_counts_that_was_corrected_last() {
    let mut log = Log::new();
    let window = |version, more: bool| {
        let mut fields =
            vec![Field::new("revision", ColumnType::U64), Field::new("x_mean", ColumnType::F64).nullable()];
        fields.extend(more.then(|| Field::new("y_mean", ColumnType::F64).with_kind(Kind::Gauge).nullable()));
        Arc::new(Schema::new("x@1m", version, fields).unwrap())
    };
    let minute = 60 * SECOND;
    let add = |log: &mut Log, version, start: i64, revision, mean| {
        let mut values = vec![Value::U64(revision), Value::F64(mean)];
        values.extend((version > 1).then_some(Value::Null));
        log.add("a", &window(version, version > 1), &[(start, values)]);
    };
    add(&mut log, 1, 0, 10, 1.0);
    add(&mut log, 1, minute, 10, 2.0);
    log.seal();
    add(&mut log, 1, 0, 20, 1.5);
    add(&mut log, 2, 0, 20, 7.0);
    add(&mut log, 2, 0, 30, 8.0);
    let rows = "SELECT event_time, version, revision, x_mean FROM \"x@1m\"";
    let expected =
        "1970-01-01T00:00:00Z,1,20,1.5\n1970-01-01T00:00:00Z,2,30,8.0\n1970-01-01T00:01:00Z,1,10,2.0\n";
    assert_eq!(log.csv(&format!("{rows} ORDER BY event_time, version")), expected);
    let known = rows.replace("\"x@1m\"", "known_at('x@1m', '1970-01-01T00:00:03Z')");
    assert_eq!(
        log.csv(&format!("{known} ORDER BY event_time")),
        "1970-01-01T00:00:00Z,1,20,1.5\n1970-01-01T00:01:00Z,1,10,2.0\n"
    );
    let plan = log.csv(&format!("EXPLAIN {rows} WHERE event_time = '1970-01-01T00:01:00Z'"));
    assert!(plan.contains("times=1970-01-01T00:01:00"), "{plan}");
}
