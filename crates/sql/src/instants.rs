//! Times that functions of tables are given.

use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use icecore_replay::parse_instant;

use crate::SqlError;

/// The system clock in nanoseconds since the Unix epoch.
fn now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}

/// The time that an argument of `function` says: a timestamp, nanoseconds since the Unix epoch, or a text as the command line takes it, or a
/// date, which is its midnight in UTC; `None` of `NULL`.
pub(crate) fn argument(function: &str, argument: &Expr) -> Result<Option<i64>, SqlError> {
    let wrong = |what: String| SqlError::statement(format!("{function}: {what}"));
    let Expr::Literal(value, _) = argument else {
        return Err(wrong(format!("{argument} is no time that is known before the statement runs")));
    };
    let scaled = |time: &Option<i64>, nanoseconds: i64| {
        let scale = |time: i64| {
            time.checked_mul(nanoseconds)
                .ok_or_else(|| wrong(format!("{value} is outside of the years 1677 to 2262")))
        };
        time.map(scale).transpose()
    };
    match value {
        ScalarValue::TimestampNanosecond(time, _) | ScalarValue::Int64(time) => Ok(*time),
        ScalarValue::TimestampMicrosecond(time, _) => scaled(time, 1_000),
        ScalarValue::TimestampMillisecond(time, _) => scaled(time, 1_000_000),
        ScalarValue::TimestampSecond(time, _) => scaled(time, 1_000_000_000),
        ScalarValue::Date32(day) => scaled(&day.map(i64::from), 86_400_000_000_000),
        ScalarValue::Utf8(Some(text))
        | ScalarValue::Utf8View(Some(text))
        | ScalarValue::LargeUtf8(Some(text)) => parse(text).map(Some).map_err(wrong),
        value if value.is_null() => Ok(None),
        value => Err(wrong(format!("{value} is no time"))),
    }
}

/// As the command line takes times, and dates.
fn parse(text: &str) -> Result<i64, String> {
    let midnight = text.parse::<jiff::civil::Date>().ok().filter(|_| !text.contains(['T', ' ', ':']));
    let midnight = midnight.map(|date| format!("{date}T00:00:00Z"));
    parse_instant(midnight.as_deref().unwrap_or(text), now()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_in_every_form() {
        let text = |text: &str| argument("f", &Expr::Literal(ScalarValue::from(text), None));
        let day = 1_359_590_400_000_000_000;
        assert_eq!(text("2013-01-31").unwrap(), Some(day));
        assert_eq!(text("2013-01-31T00:00:01Z").unwrap(), Some(day + 1_000_000_000));
        assert_eq!(text("1359590400000000000").unwrap(), Some(day));
        let literal = |value| argument("f", &Expr::Literal(value, None));
        assert_eq!(literal(ScalarValue::TimestampSecond(Some(1), None)).unwrap(), Some(1_000_000_000));
        assert_eq!(literal(ScalarValue::Date32(Some(1))).unwrap(), Some(86_400_000_000_000));
        assert_eq!(literal(ScalarValue::Null).unwrap(), None);
        let said = text("last March").unwrap_err().to_string();
        assert!(said.starts_with("f: \"last March\" is not a time"), "{said}");
    }
}
