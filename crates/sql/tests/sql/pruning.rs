//! What is not read changes no answer.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use icecore_wire::Value;
use proptest::prelude::*;

use crate::log::{Log, SECOND, weather};

const FLOATS: [f64; 10] = [
    f64::NAN,
    -f64::NAN,
    0.0,
    -0.0,
    1.0,
    -1.0,
    1.5,
    f64::INFINITY,
    f64::NEG_INFINITY,
    9_007_199_254_740_993.0,
];
const INTEGERS: [i64; 8] =
    [0, 1, -1, i64::MIN, i64::MAX, 9_007_199_254_740_992, 9_007_199_254_740_993, -9_007_199_254_740_993];
const NUMBERS: [&str; 9] = [
    "0",
    "-1",
    "1.5",
    "0.0",
    "-0.0",
    "9007199254740993",
    "9223372036854775807",
    "CAST('NaN' AS DOUBLE)",
    "CAST('inf' AS DOUBLE)",
];

fn float() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![1 => Just(None), 5 => proptest::sample::select(&FLOATS[..]).prop_map(Some)]
}

fn integer() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![1 => Just(None), 5 => proptest::sample::select(&INTEGERS[..]).prop_map(Some)]
}

/// A row: a time in seconds, a float, an integer.
type Row = (i64, Option<f64>, Option<i64>);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    proptest::collection::vec((0_i64..20, float(), integer()), 1..4)
}

fn condition() -> impl Strategy<Value = String> {
    let operator = proptest::sample::select(&["<", "<=", "=", "<>", ">=", ">"][..]);
    let column = proptest::sample::select(&["\"Temp\"", "gust", "turns", "level"][..]);
    let number = (column, operator.clone(), proptest::sample::select(&NUMBERS[..]))
        .prop_map(|(column, operator, number)| format!("{column} {operator} {number}"));
    let time = (operator.clone(), 0_i64..20)
        .prop_map(|(operator, second)| format!("event_time {operator} '1970-01-01T00:00:{second:02}Z'"));
    let received = (operator.clone(), 0_i64..8)
        .prop_map(|(operator, second)| format!("received_time {operator} '1970-01-01T00:00:{second:02}Z'"));
    let position = (operator, 0_u64..20).prop_map(|(operator, at)| format!("position {operator} {at}"));
    let device = proptest::sample::select(
        &[
            "device = 'a/1'",
            "device <> 'a/1'",
            "'b' = device",
            "device IN ('a/1', 'b', 'nobody')",
            "device IN ('b', 'c', 'd', 'e', '')",
            "device NOT IN ('b')",
            "device LIKE 'a/%'",
            "device LIKE '_'",
            "device NOT LIKE 'a%'",
            "device BETWEEN 'a' AND 'b'",
            "device = 'a/1' OR \"Temp\" > 0",
            "\"Temp\" IS NULL",
            "level BETWEEN -1 AND 9007199254740992",
            "NOT (event_time < '1970-01-01T00:00:10Z')",
            "event_time BETWEEN '1970-01-01T00:00:05Z' AND '1970-01-01T00:00:09Z'",
            "event_time >= TIMESTAMP '1970-01-01T00:00:05' AND event_time < '1970-01-02'",
        ][..],
    )
    .prop_map(str::to_owned);
    prop_oneof![4 => number, 2 => time, 1 => received, 1 => position, 2 => device]
}

/// Segments of two devices, some not sealed.
fn log(segments: &[Vec<Row>], hot: usize) -> Log {
    let mut log = Log::new();
    let schema = weather();
    for (number, rows) in segments.iter().enumerate() {
        let row = |(second, float, integer): &Row| {
            let of = |value: Option<Value<'static>>| value.unwrap_or(Value::Null);
            let values = vec![
                of(float.map(Value::F64)),
                of(float.map(|float| Value::F32(float as f32))),
                of(integer.map(|integer| Value::U64(integer.cast_unsigned()))),
                of(integer.map(Value::I64)),
                Value::Null,
            ];
            (second * SECOND, values)
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        log.add(if number % 2 == 0 { "a/1" } else { "b" }, &schema, &rows);
        if number + hot < segments.len() {
            log.seal();
        }
    }
    log
}

fn positions(rows: &[RecordBatch]) -> Vec<u64> {
    let of = |batch: &RecordBatch| batch.column(0).as_primitive::<UInt64Type>().values().to_vec();
    let mut positions: Vec<u64> = rows.iter().flat_map(of).collect();
    positions.sort_unstable();
    positions
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_not_read_changes_no_answer(
        segments in proptest::collection::vec(rows(), 1..6),
        hot in 0_usize..2,
        conditions in proptest::collection::vec(condition(), 6..12),
    ) {
        let log = log(&segments, hot);
        let (all, _) = log.ask("SELECT * FROM weather").unwrap();
        let plain = SessionContext::new();
        let table = MemTable::try_new(all[0].schema(), vec![all]).unwrap();
        plain.register_table("weather", Arc::new(table)).unwrap();
        for pair in conditions.chunks(2) {
            let statement = format!("SELECT position FROM weather WHERE {}", pair.join(" AND "));
            let expected = log.run(async { plain.sql(&statement).await?.collect().await });
            let answer = log.ask(&statement);
            match expected {
                Ok(expected) => {
                    let (rows, _) = answer.unwrap();
                    prop_assert_eq!(positions(&rows), positions(&expected), "{}", statement);
                    let counted = log.csv(&statement.replace("position FROM", "count(*) FROM"));
                    prop_assert_eq!(counted, format!("{}\n", positions(&expected).len()), "{}", statement);
                }
                Err(_) => prop_assert!(answer.is_err(), "{}", statement),
            }
        }
    }
}
