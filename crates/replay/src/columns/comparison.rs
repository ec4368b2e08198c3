//! Comparisons of fields with numbers: which row groups they rule out, and which rows they keep.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type, TimestampNanosecondType, UInt64Type};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::DataType;
use icecore_log::sealed::{Extremes, Statistics};

/// A comparison of a column with a number. A row without a value never holds; NaN is greater than every number.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The name of the column.
    pub column: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what: nanoseconds since the Unix epoch where the column holds times.
    pub number: f64,
}

/// How a value is compared with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
}

/// A text that is no comparison.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a comparison: write a field, one of < <= = != >= >, and a number, such as temp>=30")]
pub struct InvalidComparison(String);

const OPERATORS: [(&str, Operator); 6] = [
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("!=", Operator::NotEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("=", Operator::Equal),
];

impl FromStr for Comparison {
    type Err = InvalidComparison;

    fn from_str(text: &str) -> Result<Self, InvalidComparison> {
        let invalid = || InvalidComparison(text.to_owned());
        let at = text.find(['<', '>', '=', '!']).ok_or_else(invalid)?;
        let (column, rest) = (text[..at].trim(), &text[at..]);
        let found = OPERATORS.iter().find_map(|(sign, operator)| Some((operator, rest.strip_prefix(sign)?)));
        let (operator, number) = found.ok_or_else(invalid)?;
        let number = number.trim().parse().map_err(|_| invalid())?;
        if column.is_empty() {
            return Err(invalid());
        }
        Ok(Self { column: column.to_owned(), operator: *operator, number })
    }
}

/// `temp >= 30`
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign =
            OPERATORS.iter().find(|(_, operator)| *operator == self.operator).map_or("", |(sign, _)| sign);
        write!(f, "{} {sign} {}", self.column, self.number)
    }
}

impl Operator {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Greater => ordering.is_gt(),
        }
    }
}

impl Comparison {
    /// Whether a column with these statistics may have a value for which this holds.
    pub(crate) fn may_hold(&self, statistics: &Statistics) -> bool {
        let (min, max) = match statistics.extremes {
            Some(Extremes::Float(min, max)) => (compare(min, self.number), compare(max, self.number)),
            Some(Extremes::Signed(min, max)) => {
                (compare_signed(min, self.number), compare_signed(max, self.number))
            }
            Some(Extremes::Unsigned(min, max)) => {
                (compare_unsigned(min, self.number), compare_unsigned(max, self.number))
            }
            _ => return true,
        };
        // All values lie between the two; NaN is beyond them.
        let nan = statistics.nans > 0 && self.operator.holds(compare(f64::NAN, self.number));
        let between = match self.operator {
            Operator::Less | Operator::LessOrEqual => self.operator.holds(min),
            Operator::Equal => min.is_le() && max.is_ge(),
            Operator::NotEqual => min.is_ne() || max.is_ne(),
            Operator::GreaterOrEqual | Operator::Greater => self.operator.holds(max),
        };
        between || nan
    }

    /// For which rows of a column this holds; `None` if the column holds no numbers.
    pub(crate) fn mask(&self, batch: &RecordBatch, column: usize) -> Option<BooleanBuffer> {
        let array = batch.column(column);
        let (operator, number) = (self.operator, self.number);
        let rows = array.len();
        let mask = match array.data_type() {
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>().values();
                BooleanBuffer::collect_bool(rows, |row| operator.holds(compare(values[row], number)))
            }
            DataType::Float32 => {
                let values = array.as_primitive::<Float32Type>().values();
                BooleanBuffer::collect_bool(rows, |row| operator.holds(compare(values[row].into(), number)))
            }
            DataType::Int64 => {
                let values = array.as_primitive::<Int64Type>().values();
                BooleanBuffer::collect_bool(rows, |row| operator.holds(compare_signed(values[row], number)))
            }
            DataType::Timestamp(..) => {
                let values = array.as_primitive::<TimestampNanosecondType>().values();
                BooleanBuffer::collect_bool(rows, |row| operator.holds(compare_signed(values[row], number)))
            }
            DataType::UInt64 => {
                let values = array.as_primitive::<UInt64Type>().values();
                BooleanBuffer::collect_bool(rows, |row| operator.holds(compare_unsigned(values[row], number)))
            }
            _ => return None,
        };
        Some(match array.nulls().map(NullBuffer::inner) {
            Some(valid) => &mask & valid,
            None => mask,
        })
    }
}

/// NaN is equal to itself and greater than every number.
fn compare(value: f64, number: f64) -> Ordering {
    value.partial_cmp(&number).unwrap_or_else(|| value.is_nan().cmp(&number.is_nan()))
}

/// The order of an integer and a double, without rounding the integer.
fn compare_signed(value: i64, number: f64) -> Ordering {
    compare_wide(value.into(), number)
}

fn compare_unsigned(value: u64, number: f64) -> Ordering {
    compare_wide(value.into(), number)
}

fn compare_wide(value: i128, number: f64) -> Ordering {
    if number.is_nan() {
        return Ordering::Less;
    }
    // What is beyond 128 bits becomes their end, which is beyond every value.
    let whole = number.floor();
    value.cmp(&(whole as i128)).then(if number > whole { Ordering::Less } else { Ordering::Equal })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn comparisons_are_read() {
        let comparison = |text: &str| text.parse::<Comparison>();
        let expected =
            Comparison { column: "wind gust".into(), operator: Operator::GreaterOrEqual, number: 3.5 };
        assert_eq!(comparison("wind gust >= 3.5"), Ok(expected));
        assert_eq!(comparison("a!=-1e3").unwrap().operator, Operator::NotEqual);
        for text in ["", "a", "a>", "a>b", ">3", "a=>3", "a!3"] {
            assert!(comparison(text).is_err(), "{text}");
        }
    }

    #[test]
    fn integers_are_not_rounded() {
        let large = (1_i64 << 53) + 1;
        assert_eq!(compare_signed(large, (1_i64 << 53) as f64), Ordering::Greater);
        assert_eq!(compare_signed(-1, -0.5), Ordering::Less);
        assert_eq!(compare_signed(0, -0.5), Ordering::Greater);
        assert_eq!(compare_unsigned(u64::MAX, f64::INFINITY), Ordering::Less);
        assert_eq!(compare_unsigned(0, f64::NEG_INFINITY), Ordering::Greater);
    }

    proptest! {
        #[test]
        fn what_statistics_rule_out_does_not_hold(values in proptest::collection::vec(-3_i64..3, 1..6), number in -4_i64..4, half: bool, nan: bool) {
            let number = number as f64 + if half { 0.5 } else { 0.0 };
            let (min, max) = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
            for (_, operator) in OPERATORS {
                let comparison = Comparison { column: "a".into(), operator, number };
                let statistics = |extremes, nans| Statistics { extremes: Some(extremes), nans, ..Statistics::default() };
                if values.iter().any(|value| operator.holds(compare_signed(*value, number))) {
                    prop_assert!(comparison.may_hold(&statistics(Extremes::Signed(min, max), 0)));
                }
                let mut floats: Vec<f64> = values.iter().map(|value| *value as f64).collect();
                floats.extend(nan.then_some(f64::NAN));
                if floats.iter().any(|value| operator.holds(compare(*value, number))) {
                    prop_assert!(comparison.may_hold(&statistics(Extremes::Float(min as f64, max as f64), nan.into())));
                }
            }
        }
    }
}
