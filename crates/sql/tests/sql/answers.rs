//! Answers: what they cover, how they are prepared, and that each sees the log as it is.

use std::sync::Arc;

use arrow_schema::DataType;
use datafusion::common::ScalarValue;
use futures_util::TryStreamExt;
use icecore_sql::{ParamValues, SqlError};
use icecore_wire::{ColumnType, Field, Schema, Value};

use crate::log::{SECOND, row, station, weather};

#[test]
fn each_statement_sees_what_there_is_then() {
    let mut log = station();
    let database = log.database();
    let count = |log: &crate::log::Log| {
        log.run(async {
            let answer = database.query("SELECT count(*) FROM weather").await.unwrap();
            let rows: Vec<_> = answer.rows.try_collect().await.unwrap();
            arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Int64Type>(rows[0].column(0))
                .value(0)
        })
    };
    assert_eq!(count(&log), 40);
    log.add("yard", &weather(), &[row(100 * SECOND, 1.0)]);
    assert_eq!(count(&log), 41);
    log.seal();
    assert_eq!(count(&log), 41);
}

#[test]
fn parameters_are_known_before_they_are_given() {
    let log = station();
    let database = log.database();
    log.run(async {
        let prepared = database
            .prepare("SELECT device, temp FROM weather WHERE device = $1 AND temp > $2")
            .await
            .unwrap();
        assert_eq!(prepared.schema().field(1).name(), "Temp");
        let parameters = prepared.parameters().unwrap();
        assert_eq!(parameters.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["$1", "$2"]);
        assert_eq!(parameters[1].1, Some(DataType::Float64));
        let values: Vec<ScalarValue> = vec!["yard".into(), 117.5.into()];
        let answer = prepared.with_parameters(ParamValues::from(values)).unwrap().answer().await.unwrap();
        let rows: Vec<_> = answer.rows.try_collect().await.unwrap();
        assert_eq!(rows.iter().map(arrow_array::RecordBatch::num_rows).sum::<usize>(), 2);
        let unbound = database.prepare("SELECT temp FROM weather WHERE temp > $1").await.unwrap();
        let failed = match unbound.answer().await {
            Ok(answer) => answer.rows.try_collect::<Vec<_>>().await.map_err(SqlError::from).map(|_| ()),
            Err(error) => Err(error),
        };
        assert!(failed.is_err());
    });
}

#[test]
fn what_is_missing_is_told_once() {
    let mut log = station();
    let air = Arc::new(Schema::new("air", 1, vec![Field::new("co2", ColumnType::F64)]).unwrap());
    log.skip("yard", 3);
    log.add("yard", &air, &[(SECOND, vec![Value::F64(400.0)])]);
    log.skip("cellar", 2);
    log.add("cellar", &air, &[(SECOND, vec![Value::F64(500.0)])]);
    let missing = |statement: &str| {
        let (_, coverage) = log.ask(statement).unwrap();
        coverage.unstored.map(|unstored| unstored.not_arrived)
    };
    assert_eq!(missing("SELECT * FROM air"), Some(5));
    assert_eq!(missing("SELECT * FROM air WHERE device = 'yard'"), Some(3));
    assert_eq!(missing("SELECT * FROM air a JOIN weather b ON a.device = b.device"), Some(5));
    assert_eq!(missing("SELECT 1"), Some(0));
    let union = "SELECT device FROM air WHERE device = 'yard' UNION ALL SELECT device FROM air WHERE device = 'cellar'";
    assert_eq!(missing(union), Some(5));
}

#[test]
fn who_goes_away_ends_the_reading() {
    let log = station();
    let database = log.database();
    let coverage = log.run(async {
        let answer = database.query("SELECT temp FROM weather").await.unwrap();
        drop(answer.rows);
        answer.covered.coverage().await.unwrap()
    });
    assert!(coverage.present <= 40);
}

#[test]
fn nothing_is_written() {
    let log = station();
    for statement in ["DROP TABLE weather", "CREATE TABLE t AS SELECT 1", "INSERT INTO weather VALUES (1)"] {
        assert!(log.error(statement).contains("is refused: events are only read here"), "{statement}");
    }
    assert!(log.error("SELECT 1 INTO t").contains("is refused"));
    let said = log.error("SELEC 1");
    assert!(said.starts_with("this is no SQL that is understood") && said.contains("(at line 1"), "{said}");
}

#[test]
fn groups_of_devices_are_told_by_name() {
    let log = station();
    let expected = "hall/a,20,9.5\nyard,20,109.5\n";
    assert_eq!(
        log.csv("SELECT device, count(*), avg(temp) FROM weather GROUP BY device ORDER BY device"),
        expected
    );
    let by_minute = "SELECT device, date_trunc('minute', event_time) AS minute, count(*) FROM weather \
                     GROUP BY device, minute ORDER BY device DESC, minute";
    assert_eq!(log.csv(by_minute), "yard,1970-01-01T00:00:00Z,20\nhall/a,1970-01-01T00:00:00Z,20\n");
    assert_eq!(log.csv("SELECT DISTINCT device FROM weather ORDER BY 1"), "hall/a\nyard\n");
    assert_eq!(log.csv("SELECT count(DISTINCT device) FROM weather"), "2\n");
    let havings =
        "SELECT w.device FROM weather w GROUP BY w.device HAVING max(w.temp) > 100 AND w.device LIKE 'y%'";
    assert_eq!(log.csv(havings), "yard\n");
    let joined = "SELECT d.device, sum(w.turns) > 0 FROM devices d JOIN weather w ON d.device = w.device \
                  GROUP BY d.device, w.device ORDER BY 1";
    assert_eq!(log.csv(joined), "hall/a,true\nyard,true\n");
    let rolled = "SELECT device, count(*) FROM weather GROUP BY ROLLUP (device) ORDER BY device NULLS LAST";
    assert_eq!(log.csv(rolled), "hall/a,20\nyard,20\n,40\n");
    let plan = log.csv("EXPLAIN SELECT device, avg(temp) FROM weather GROUP BY device");
    assert!(plan.contains("code_of"), "{plan}");
}
