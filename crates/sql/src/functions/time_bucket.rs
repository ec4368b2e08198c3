//! `time_bucket`: where the stretch of time begins that an instant falls into.

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{
    DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit, TimestampNanosecondType,
};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

/// The function that rows of a gapless answer are grouped by.
pub(super) const GAP_FILL: &str = "time_bucket_gapfill";

const DAY: i64 = 86_400_000_000_000;
/// Monday, 3 January 2000: weeks begin on Mondays.
const MONDAY: i64 = 10_959 * DAY;

/// Buckets of one width, side by side, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Buckets {
    /// So many nanoseconds wide. The phase is what is left of any bucket's start after whole widths.
    Nanoseconds { width: i64, phase: i64 },
    /// So many months wide. `origin` is the month, counted from year 0, that one of them begins with.
    Months { width: i64, origin: i64 },
}

impl Buckets {
    /// Buckets of a width, one of which begins at `origin`.
    pub(super) fn new(width: IntervalMonthDayNano, origin: Option<i64>) -> Result<Self> {
        if width.months != 0 {
            if width.days != 0 || width.nanoseconds != 0 {
                return plan_err!(
                    "a bucket is either months or days and less wide, for months differ in length"
                );
            }
            let width = i64::from(width.months);
            if width <= 0 {
                return plan_err!("a bucket must be wider than nothing");
            }
            let origin = match origin {
                None => 0,
                Some(time) => match Month::of(time) {
                    Some(month) if month.start() == Some(time) => month.0,
                    _ => {
                        return plan_err!(
                            "buckets of months begin with a month: the origin must be midnight UTC of a first day"
                        );
                    }
                },
            };
            return Ok(Self::Months { width, origin });
        }
        let nanoseconds =
            i64::from(width.days).checked_mul(DAY).and_then(|days| days.checked_add(width.nanoseconds));
        match nanoseconds {
            Some(width) if width > 0 => {
                Ok(Self::Nanoseconds { width, phase: origin.unwrap_or(MONDAY).rem_euclid(width) })
            }
            Some(_) => plan_err!("a bucket must be wider than nothing"),
            None => plan_err!("a bucket of {} days is too wide", width.days),
        }
    }

    /// The start of the bucket that a time falls into; `None` if nanoseconds do not reach so far back.
    pub(super) fn start(self, time: i64) -> Option<i64> {
        match self {
            Self::Nanoseconds { width, phase } => {
                let inside = time.rem_euclid(width) - phase;
                time.checked_sub(if inside < 0 { inside + width } else { inside })
            }
            Self::Months { width, origin } => {
                let month = Month::of(time)?.0;
                Month(month - (month - origin).rem_euclid(width)).start()
            }
        }
    }

    /// The start of the bucket after the one that begins at `start`.
    pub(super) fn next(self, start: i64) -> Option<i64> {
        match self {
            Self::Nanoseconds { width, .. } => start.checked_add(width),
            Self::Months { width, .. } => Month(Month::of(start)?.0 + width).start(),
        }
    }
}

/// A month, counted from January of year 0.
struct Month(i64);

impl Month {
    fn of(time: i64) -> Option<Self> {
        let date = Offset::UTC.to_datetime(Timestamp::from_nanosecond(time.into()).ok()?).date();
        Some(Self(12 * i64::from(date.year()) + i64::from(date.month()) - 1))
    }

    fn start(&self) -> Option<i64> {
        let (year, month) = (self.0.div_euclid(12), self.0.rem_euclid(12) + 1);
        let date = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, 1).ok()?;
        let start = Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?;
        start.as_nanosecond().try_into().ok()
    }
}

/// `time_bucket(width, time [, origin])`, and its namesake that asks for empty buckets, too.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TimeBucket {
    name: &'static str,
    signature: Signature,
}

impl TimeBucket {
    /// The start of a time's bucket.
    pub(super) fn start() -> Self {
        Self { name: "time_bucket", signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// The call in `GROUP BY` that the analyzer replaces: see [`super::gap_fill`].
    pub(super) fn gap_fill() -> Self {
        Self { name: GAP_FILL, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn buckets(&self, args: &[ColumnarValue]) -> Result<Buckets> {
        let width = match &args[0] {
            ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(width))) => *width,
            _ => return exec_err!("{}: the width must be a constant, such as INTERVAL '1 hour'", self.name),
        };
        let origin = match args.get(2) {
            None => None,
            Some(ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(Some(origin), _))) => Some(*origin),
            Some(_) => return exec_err!("{}: the origin must be a constant time", self.name),
        };
        Buckets::new(width, origin).map_err(|error| error.context(self.name))
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let most = if self.name == GAP_FILL { 2 } else { 3 };
        if !(2..=most).contains(&types.len()) {
            return plan_err!(
                "{} takes a width and a time{}",
                self.name,
                if most == 3 { ", and an origin if need be" } else { "" }
            );
        }
        let time = match &types[1] {
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()),
            DataType::Date32 | DataType::Date64 => DataType::Timestamp(TimeUnit::Nanosecond, None),
            DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => {
                DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
            }
            other => return plan_err!("{} takes a time behind the width, not {other}", self.name),
        };
        let mut coerced = vec![DataType::Interval(IntervalUnit::MonthDayNano), time.clone()];
        coerced.resize(types.len(), time);
        Ok(coerced)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[1].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.name == GAP_FILL {
            return exec_err!(
                "{GAP_FILL} fills gaps between groups: it must stand in GROUP BY; elsewhere use time_bucket"
            );
        }
        let buckets = self.buckets(&args.args)?;
        // A clock that is wrong by centuries is no reason to answer nothing: a bucket that begins before all times is NULL.
        let start = |time: i64| buckets.start(time);
        match &args.args[1] {
            ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(time, zone)) => {
                let start = time.and_then(start);
                Ok(ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(start, zone.clone())))
            }
            ColumnarValue::Scalar(_) => exec_err!("{} takes a time behind the width", self.name),
            ColumnarValue::Array(times) => {
                let times = times.as_primitive::<TimestampNanosecondType>();
                let starts = times.unary_opt::<_, TimestampNanosecondType>(start);
                let zone = times.timezone().map(Arc::from);
                Ok(ColumnarValue::Array(Arc::new(starts.with_timezone_opt(zone))))
            }
        }
    }

    fn preimage(&self, args: &[Expr], bucket: &Expr, _: &SimplifyContext) -> Result<PreimageResult> {
        // What compares a bucket compares times, which prunes.
        let constants = args.iter().map(|arg| match arg {
            Expr::Literal(value, _) => ColumnarValue::Scalar(value.clone()),
            _ => ColumnarValue::Scalar(ScalarValue::Null),
        });
        let constants: Vec<_> = constants.collect();
        if let Ok(buckets) = self.buckets(&constants)
            && let Expr::Literal(ScalarValue::TimestampNanosecond(Some(start), zone), _) = bucket
            && buckets.start(*start) == Some(*start)
            && let Some(next) = buckets.next(*start)
        {
            let [start, next] =
                [*start, next].map(|time| ScalarValue::TimestampNanosecond(Some(time), zone.clone()));
            let interval = Box::new(Interval::try_new(start, next)?);
            return Ok(PreimageResult::Range { expr: args[1].clone(), interval });
        }
        Ok(PreimageResult::None)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        // Later times are in no earlier buckets, and the earliest have none, which is NULL: that must be sorted to their end.
        let constant = |input: &ExprProperties| input.sort_properties == SortProperties::Singleton;
        let fixed = constant(&inputs[0]) && inputs.get(2).is_none_or(constant);
        Ok(match inputs[1].sort_properties {
            SortProperties::Ordered(by) if by.descending == by.nulls_first => SortProperties::Unordered,
            sorted if fixed => sorted,
            _ => SortProperties::Unordered,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{nanoseconds, refusal, rows, session, table};
    use super::*;

    fn width(months: i32, days: i32, nanoseconds: i64) -> IntervalMonthDayNano {
        IntervalMonthDayNano::new(months, days, nanoseconds)
    }

    #[test]
    fn a_bucket_holds_what_is_between_its_start_and_the_next() {
        let widths = [(width(0, 0, 7), None), (width(0, 7, 0), None), (width(3, 0, 0), None)];
        let origin = Some(nanoseconds("1999-12-01T00:00:00Z"));
        for (width, origin) in
            widths.into_iter().chain([(width(12, 0, 0), origin), (width(0, 0, 3_600), origin)])
        {
            let buckets = Buckets::new(width, origin).unwrap();
            for time in [
                "1970-01-01T00:00:00Z",
                "1969-12-31T23:59:59.999999999Z",
                "2024-02-29T12:00:00.000000001Z",
                "1700-05-05T00:00:00Z",
            ] {
                let time = nanoseconds(time);
                let start = buckets.start(time).unwrap();
                let next = buckets.next(start).unwrap();
                assert!(start <= time && time < next, "{start} {time} {next}");
                assert_eq!(
                    [buckets.start(start), buckets.start(next - 1), buckets.start(next)],
                    [Some(start), Some(start), Some(next)]
                );
            }
        }
    }

    #[test]
    fn weeks_begin_on_mondays_unless_told_otherwise() {
        let week = width(0, 7, 0);
        let thursday = nanoseconds("2013-01-31T10:00:00Z");
        assert_eq!(
            Buckets::new(week, None).unwrap().start(thursday),
            Some(nanoseconds("2013-01-28T00:00:00Z"))
        );
        let sundays = Buckets::new(week, Some(nanoseconds("2013-02-03T00:00:00Z"))).unwrap();
        assert_eq!(sundays.start(thursday), Some(nanoseconds("2013-01-27T00:00:00Z")));
    }

    #[test]
    fn nothing_begins_before_time_or_after_it() {
        let buckets = Buckets::new(width(0, 365, 0), None).unwrap();
        assert_eq!(buckets.start(i64::MIN), None);
        assert_eq!(buckets.next(i64::MAX), None);
    }

    #[tokio::test]
    async fn sql_gives_the_bucket_in_the_type_of_the_time() {
        let context = session();
        let sql = "SELECT time_bucket(INTERVAL '15 minutes', TIMESTAMP '2013-01-31 10:44:59'), time_bucket('1 hour', NULL),
            arrow_typeof(time_bucket('1 month', '2013-01-31T10:44:59Z')), time_bucket('1 month', '2013-01-31T10:44:59Z'),
            time_bucket('1 day', '2013-01-31T10:44:59Z', '2013-01-01T06:00:00Z')";
        assert_eq!(
            rows(&context, sql).await.unwrap(),
            ["10:30:00 - Timestamp(ns, \"UTC\") 2013-01-01T00:00:00Z 06:00:00Z"]
        );
    }

    #[tokio::test]
    async fn a_bucket_that_would_begin_before_all_times_is_null() {
        let context = session();
        let events = ["2013-01-31T01:30:00Z", "1677-09-21T00:12:44Z", "1677-09-22T00:00:00Z"];
        table(&context, "t", &events.map(|time| ("a", time, None)));
        let days =
            "SELECT time_bucket('1 day', event_time) AS day, count(*) FROM t GROUP BY day ORDER BY day";
        assert_eq!(rows(&context, days).await.unwrap(), ["1677-09-22T00:00:00Z 1", "00:00:00Z 1", "- 1"]);
        for (order, sorted) in [
            ("ASC", ["1677-09-22T00:00:00Z", "00:00:00Z", "-"]),
            ("DESC", ["-", "00:00:00Z", "1677-09-22T00:00:00Z"]),
            ("ASC NULLS FIRST", ["-", "1677-09-22T00:00:00Z", "00:00:00Z"]),
        ] {
            // What is sorted by time is not sorted by bucket for that.
            let sql = format!(
                "SELECT time_bucket('1 day', event_time) AS day FROM (SELECT event_time FROM t ORDER BY event_time {order} LIMIT 3) ORDER BY day {order}"
            );
            assert_eq!(rows(&context, &sql).await.unwrap(), sorted, "{order}");
        }
        let one = "SELECT time_bucket('1 year', '1677-12-24T00:00:00Z')";
        assert_eq!(rows(&context, one).await.unwrap(), ["-"]);
        let gaps = "SELECT time_bucket_gapfill('1 day', event_time) FROM t GROUP BY 1";
        assert!(refusal(&context, gaps).await.contains("too early for a bucket"));
    }

    #[tokio::test]
    async fn conditions_on_buckets_are_conditions_on_times() {
        let context = session();
        let events =
            ["00:59:59", "01:00:00", "01:59:59", "02:00:00", "03:30:00"].map(|time| ("a", time, None));
        table(&context, "t", &events);
        for (condition, count, prunes) in [
            ("= '2013-01-31T01:00:00Z'", 2, true),
            ("= '2013-01-31T01:00:01Z'", 0, false),
            ("<= '2013-01-31T01:00:00Z'", 3, true),
            ("> '2013-01-31T01:00:00Z'", 2, true),
            (">= '2013-01-31T01:30:00Z'", 2, false),
            ("<> '2013-01-31T02:00:00Z'", 4, true),
        ] {
            let filter = format!("FROM t WHERE time_bucket('1 hour', event_time) {condition}");
            let counted = rows(&context, &format!("SELECT count(*) {filter}")).await.unwrap();
            assert_eq!(counted, [count.to_string()], "{condition}");
            let plan = rows(&context, &format!("EXPLAIN SELECT event_time {filter}")).await.unwrap();
            assert_eq!(!plan[0].contains("time_bucket"), prunes, "{condition}: {}", plan[0]);
        }
    }

    #[tokio::test]
    async fn widths_that_make_no_buckets_are_refused() {
        let context = session();
        for (width, reason) in [
            ("'0 hours'", "wider than nothing"),
            ("'-1 month'", "wider than nothing"),
            ("'1 month 1 day'", "months differ in length"),
        ] {
            let refusal = refusal(&context, &format!("SELECT time_bucket({width}, now())")).await;
            assert!(refusal.contains(reason), "{refusal}");
        }
        let refusal = refusal(&context, "SELECT time_bucket('1 hour', 3)").await;
        assert!(refusal.contains("time_bucket takes a time"), "{refusal}");
    }
}
