//! Names in whatever case, and what is said of those that are not there.

use std::sync::Arc;

use icecore_wire::{ColumnType, Field, Schema, Value};

use crate::log::{Log, station};

#[test]
fn names_are_found_in_whatever_case() {
    let log = station();
    let expected = "119.0\n";
    for statement in [
        "SELECT max(Temp) FROM Weather",
        "select MAX(temp) from WEATHER",
        "SELECT max(\"Temp\") FROM \"Weather\"",
        "SELECT max(w.TEMP) FROM weather w WHERE w.temp > 0",
        "SELECT max(weather.temp) FROM weather",
        "SELECT max(t) FROM (SELECT temp AS T FROM weather)",
        "SELECT temp FROM weather ORDER BY temp DESC LIMIT 1",
        "SELECT max(a.temp) FROM weather a JOIN weather b ON a.POSITION = b.position AND a.Temp = b.temp",
        "WITH hot AS (SELECT temp AS temp FROM weather) SELECT max(temp) FROM hot",
        "SELECT Temp FROM weather GROUP BY temp HAVING temp > 118",
        "SELECT max(x) AS temp FROM (SELECT temp + 0 AS x FROM weather) ORDER BY temp",
    ] {
        assert_eq!(log.csv(statement), expected, "{statement}");
    }
    assert_eq!(log.csv("SELECT count(*) FROM weather WHERE \"Temp\" = 119 AND temp = 119"), "1\n");
    let header = log.ask("SELECT TEMP, gust AS Gust FROM weather").unwrap().0[0].schema();
    assert_eq!([header.field(0).name(), header.field(1).name()], ["Temp", "gust"]);
    assert_eq!(header.field(0).metadata()["icecore.unit"], "Cel");
}

#[test]
fn what_is_not_there_is_told_with_the_nearest() {
    let log = station();
    let said = log.error("SELECT 1,\n  tmep FROM weather");
    assert_eq!(said, "there is no column tmep here; did you mean \"Temp\"? (at line 2, column 3)");
    let said = log.error("SELECT w.gusts FROM weather w");
    assert!(said.starts_with("there is no column w.gusts here; did you mean gust? (at line 1"), "{said}");
    let said = log.error("SELECT * FROM whether");
    assert_eq!(said, "there is no table whether; did you mean \"Weather\"? SHOW TABLES lists all");
    assert!(log.error("SELECT \"temp\" FROM weather").contains("it is written \"Temp\""));
    assert!(log.error("SELECT * FROM known_at('whether', NULL)").contains("did you mean \"Weather\"?"));
    assert!(log.error("SELECT nofunction(temp) FROM weather").contains("nofunction"));
    assert!(Log::new().error("SELECT * FROM weather").contains("there is no table weather"));
}

#[test]
fn schemas_that_differ_in_case_only_are_told_apart() {
    let mut log = Log::new();
    for (name, field) in [("Pump", "A"), ("PUMP", "a")] {
        let schema = Schema::new(name, 1, vec![Field::new(field, ColumnType::I64)]).unwrap();
        log.add("d", &Arc::new(schema), &[(0, vec![Value::I64(field.len() as i64)])]);
    }
    assert_eq!(
        log.error("SELECT * FROM pump"),
        "pump may be \"PUMP\" or \"Pump\"; quote the one that is meant"
    );
    assert_eq!(log.csv("SELECT \"A\" FROM \"Pump\""), "1\n");
}

#[test]
fn a_field_may_be_called_as_what_every_event_has() {
    let mut log = Log::new();
    let fields = vec![Field::new("Time_Uncertain", ColumnType::I64), Field::new("version", ColumnType::I64)];
    let schema = Arc::new(Schema::new("odd", 1, fields).unwrap());
    log.add("d", &schema, &[(5, vec![Value::I64(7), Value::I64(1)])]);
    log.seal();
    log.add("d", &schema, &[(6, vec![Value::I64(8), Value::I64(2)])]);
    assert_eq!(log.csv("SELECT time_uncertain, version FROM odd WHERE time_uncertain > 7"), "8,2\n");
}
