//! `max_by` and `min_by`: a value of the row in which another is greatest or least, such as the time of the day's maximum.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::not_impl_err;
use datafusion::error::Result;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Expr, Signature, Volatility};

/// `max_by(value, by)` or `min_by(value, by)`. Rows whose `by` is NULL do not count; of several with the same `by`, the least value wins,
/// which makes the earliest time of a maximum.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Extreme {
    name: &'static str,
    greatest: bool,
    signature: Signature,
}

impl Extreme {
    /// Where `by` is greatest.
    pub(super) fn max_by() -> Self {
        Self { name: "max_by", greatest: true, signature: Signature::any(2, Volatility::Immutable) }
    }

    /// Where `by` is least.
    pub(super) fn min_by() -> Self {
        Self { name: "min_by", greatest: false, signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("{} as a window function: use first_value(value) OVER (… ORDER BY …)", self.name)
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        // The first value in an order: the engine has that already, and fast.
        let greatest = self.greatest;
        Some(Box::new(move |call: AggregateFunction, _| {
            let mut params = call.params;
            let (Some(by), Some(value)) = (params.args.pop(), params.args.pop()) else {
                return not_impl_err!("an extreme of nothing");
            };
            let known = by.clone().is_not_null();
            let filter = match params.filter {
                Some(filter) => filter.and(known),
                None => known,
            };
            let order = vec![Sort::new(by, !greatest, false), Sort::new(value.clone(), true, false)];
            let first = first_value_udaf();
            Ok(Expr::AggregateFunction(AggregateFunction::new_udf(
                first,
                vec![value],
                params.distinct,
                Some(Box::new(filter)),
                order,
                None,
            )))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rows, session, table};

    #[tokio::test]
    async fn a_maximum_comes_with_its_earliest_time() {
        let context = session();
        table(
            &context,
            "weather",
            &[
                ("a", "04:00:00", Some(7.5)),
                ("a", "02:00:00", Some(7.5)),
                ("a", "03:00:00", None),
                ("b", "01:00:00", None),
                ("a", "01:00:00", Some(-1.0)),
                ("a", "05:00:00", Some(3.0)),
                ("a", "06:00:00", Some(7.5)),
            ],
        );
        let sql = "SELECT device, max(value), max_by(event_time, value), min_by(event_time, value) FROM weather GROUP BY device ORDER BY device";
        assert_eq!(rows(&context, sql).await.unwrap(), ["a 7.5 02:00:00Z 01:00:00Z", "b - - -"]);
        let sql = "SELECT max_by(event_time, value) FILTER (WHERE value < 7) AS at, max_by(device, event_time) FROM weather";
        assert_eq!(rows(&context, sql).await.unwrap(), ["05:00:00Z a"]);
    }
}
