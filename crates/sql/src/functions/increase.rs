//! `rise` and `increase`: how much a counter counted, from row to row and altogether, whenever it began again at zero.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, UInt64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, ScalarValue, not_impl_err, plan_err};
use datafusion::error::Result;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::function::{AccumulatorArgs, PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    Accumulator, Aggregate, AggregateUDFImpl, Expr, LogicalPlan, LogicalPlanBuilder, PartitionEvaluator,
    Signature, Volatility, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
    WindowUDF, WindowUDFImpl, when,
};
use datafusion::optimizer::AnalyzerRule;

const INCREASE: &str = "increase";

/// The types in which counters are looked at: the rise of an integer is exact up to 2⁵³.
fn counted(function: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [ty] if ty.is_signed_integer() => Ok(vec![DataType::Int64]),
        [ty] if ty.is_unsigned_integer() => Ok(vec![DataType::UInt64]),
        [ty] if ty.is_numeric() || ty.is_null() => Ok(vec![DataType::Float64]),
        _ => plan_err!("{function} takes one number"),
    }
}

/// `rise(value) OVER (PARTITION BY device ORDER BY event_time)`: what a counter has counted since the row before that has a value.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct RiseOf {
    signature: Signature,
}

impl Default for RiseOf {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl WindowUDFImpl for RiseOf {
    fn name(&self) -> &'static str {
        "rise"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        counted("rise", types)
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), DataType::Float64, true)))
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::<Counter>::default())
    }
}

/// A counter along its rows.
#[derive(Debug, Default)]
struct Counter {
    last: Option<Number>,
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    /// The number in a row, if it is one that counts: neither NULL, nor infinite, nor NaN.
    fn at(values: &dyn Array, row: usize) -> Option<Self> {
        if values.is_null(row) {
            return None;
        }
        match values.data_type() {
            DataType::Int64 => Some(Self::Integer(values.as_primitive::<Int64Type>().value(row).into())),
            DataType::UInt64 => Some(Self::Integer(values.as_primitive::<UInt64Type>().value(row).into())),
            _ => {
                let value = values.as_primitive::<Float64Type>().value(row);
                value.is_finite().then_some(Self::Float(value))
            }
        }
    }

    /// What was counted from here to `next`. A counter that fell began again at zero.
    fn rise(self, next: Self) -> f64 {
        match (self, next) {
            (Self::Integer(from), Self::Integer(to)) => {
                (if to < from { to.max(0) } else { to - from }) as f64
            }
            (Self::Float(from), Self::Float(to)) => {
                if to < from {
                    to.max(0.0)
                } else {
                    to - from
                }
            }
            // One column has one type.
            _ => 0.0,
        }
    }
}

impl Counter {
    fn rise(&mut self, next: Option<Number>) -> Option<f64> {
        let last = self.last.replace(next.or(self.last)?);
        // The first value has counted nothing yet.
        next.map(|next| last.map_or(0.0, |last| last.rise(next)))
    }
}

impl PartitionEvaluator for Counter {
    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.rise(Number::at(&values[0], range.start))))
    }

    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let rises = (0..rows).map(|row| self.rise(Number::at(&values[0], row)));
        Ok(Arc::new(rises.collect::<Float64Array>()))
    }

    fn is_causal(&self) -> bool {
        true
    }

    fn supports_bounded_execution(&self) -> bool {
        true
    }
}

/// `increase(value ORDER BY event_time)`: what a counter has counted in a group.
///
/// The rows of a group come in any order and from several threads, so they have to be sorted; as an aggregate it would have to keep them
/// all. [`SumRises`] makes it a sum over a window function instead, whose sort goes to disk when it must.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Increase {
    signature: Signature,
}

impl Default for Increase {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Increase {
    fn name(&self) -> &'static str {
        INCREASE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        counted(INCREASE, types)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("increase as a window function: use rise(value) OVER (… ORDER BY …), and sum that")
    }
}

/// Replaces `increase` by the sum of rises within each group.
#[derive(Debug)]
pub(super) struct SumRises {
    rise: Arc<WindowUDF>,
}

impl SumRises {
    pub(super) fn new(rise: Arc<WindowUDF>) -> Self {
        Self { rise }
    }

    fn rewrite(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = plan else { return Ok(Transformed::no(plan)) };
        if !aggregate.aggr_expr.iter().any(|expr| increase(expr).is_some()) {
            return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
        }
        let groups = aggregate.group_expr.iter().map(|expr| match expr {
            Expr::GroupingSet(_) => plan_err!("increase does not go with GROUPING SETS, ROLLUP or CUBE"),
            expr => Ok(expr.clone().unalias()),
        });
        let groups = groups.collect::<Result<Vec<_>>>()?;
        let (mut windows, mut sums) = (Vec::new(), Vec::new());
        for expr in &aggregate.aggr_expr {
            sums.push(match increase(expr) {
                None => expr.clone(),
                Some(call) => {
                    let window = self.window(call, groups.clone())?;
                    let (relation, name) = window.qualified_name();
                    let rises = Expr::Column(Column::new(relation, name));
                    if !windows.contains(&window) {
                        windows.push(window);
                    }
                    let sum = AggregateFunction::new_udf(sum_udaf(), vec![rises], false, None, vec![], None);
                    Expr::AggregateFunction(sum).alias(expr.schema_name().to_string())
                }
            });
        }
        let input = LogicalPlanBuilder::window_plan(Arc::unwrap_or_clone(aggregate.input), windows)?;
        let aggregate = Aggregate::try_new(Arc::new(input), aggregate.group_expr, sums)?;
        Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
    }

    /// The rises along one group's rows.
    fn window(&self, call: &AggregateFunction, groups: Vec<Expr>) -> Result<Expr> {
        let params = &call.params;
        if params.order_by.is_empty() {
            return plan_err!(
                "increase needs to know what comes after what: increase(value ORDER BY event_time)"
            );
        }
        if params.distinct {
            return plan_err!("increase does not go with DISTINCT");
        }
        let value = params.args[0].clone();
        let value = match &params.filter {
            Some(filter) => when(filter.as_ref().clone(), value).end()?,
            None => value,
        };
        let definition = WindowFunctionDefinition::WindowUDF(Arc::clone(&self.rise));
        let mut window = WindowFunction::new(definition, vec![value]);
        window.params.partition_by = groups;
        window.params.order_by.clone_from(&params.order_by);
        window.params.window_frame = WindowFrame::new_bounds(
            WindowFrameUnits::Rows,
            WindowFrameBound::Preceding(ScalarValue::UInt64(None)),
            WindowFrameBound::CurrentRow,
        );
        Ok(Expr::WindowFunction(Box::new(window)))
    }
}

fn increase(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::Alias(alias) => increase(&alias.expr),
        Expr::AggregateFunction(call) if call.func.name() == INCREASE => Some(call),
        _ => None,
    }
}

impl AnalyzerRule for SumRises {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(|plan| self.rewrite(plan))?.data)
    }

    fn name(&self) -> &'static str {
        "sum_rises"
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Event, refusal, rows, session, table};

    /// Two counters, out of order: `a` begins again once.
    const COUNTERS: [Event<'static>; 9] = [
        ("a", "04:00:00", Some(2.0)),
        ("b", "00:00:00", Some(5.0)),
        ("a", "00:00:00", Some(10.0)),
        ("a", "02:00:00", None),
        ("a", "01:00:00", Some(13.0)),
        ("b", "01:00:00", Some(9.0)),
        ("a", "03:00:00", Some(20.0)),
        ("c", "00:00:00", Some(7.0)),
        ("d", "00:00:00", None),
    ];

    #[tokio::test]
    async fn a_counter_that_falls_began_again() {
        let context = session();
        table(&context, "counters", &COUNTERS);
        let sql = "SELECT device, increase(value ORDER BY event_time), count(*) FROM counters GROUP BY device ORDER BY device";
        assert_eq!(rows(&context, sql).await.unwrap(), ["a 12.0 5", "b 4.0 2", "c 0.0 1", "d - 1"]);
        let sql = "SELECT increase(value ORDER BY event_time) AS counted FROM counters WHERE device = 'a'";
        assert_eq!(rows(&context, sql).await.unwrap(), ["12.0"]);
        let sql = "SELECT increase(value ORDER BY event_time) FILTER (WHERE value < 20) / 4 FROM counters WHERE device = 'a'";
        assert_eq!(rows(&context, sql).await.unwrap(), ["1.25"]);
        assert_eq!(
            rows(&context, "SELECT increase(value ORDER BY event_time) FROM counters WHERE false")
                .await
                .unwrap(),
            ["-"]
        );
    }

    #[tokio::test]
    async fn buckets_count_what_happened_inside_them() {
        let context = session();
        table(&context, "counters", &COUNTERS);
        let sql = "SELECT time_bucket('2 hours', event_time) AS t, increase(value ORDER BY event_time) FROM counters
            WHERE device = 'a' GROUP BY t HAVING increase(value ORDER BY event_time) > 1 ORDER BY t";
        assert_eq!(rows(&context, sql).await.unwrap(), ["00:00:00Z 3.0"]);
        let sql = "SELECT event_time, rise(value) OVER (PARTITION BY device ORDER BY event_time) FROM counters WHERE device = 'a' ORDER BY 1";
        assert_eq!(
            rows(&context, sql).await.unwrap(),
            ["00:00:00Z 0.0", "01:00:00Z 3.0", "02:00:00Z -", "03:00:00Z 7.0", "04:00:00Z 2.0"]
        );
    }

    #[tokio::test]
    async fn what_happened_at_one_time_comes_in_a_further_order() {
        let context = session();
        table(
            &context,
            "counters",
            &[("a", "00:00:00", Some(9.0)), ("a", "00:00:00", Some(3.0)), ("a", "00:00:00", Some(5.0))],
        );
        let sql = "SELECT increase(value ORDER BY event_time, value), increase(value ORDER BY event_time, value DESC) FROM counters";
        assert_eq!(rows(&context, sql).await.unwrap(), ["6.0 8.0"]);
    }

    #[tokio::test]
    async fn large_integers_rise_by_one() {
        let context = session();
        let sql = "SELECT increase(n ORDER BY t), increase(u ORDER BY t) FROM (SELECT n, CAST(n AS BIGINT UNSIGNED) AS u, t
            FROM (VALUES (9007199254740993, 2), (9007199254740992, 1), (5, 3)) AS c(n, t))";
        assert_eq!(rows(&context, sql).await.unwrap(), ["6.0 6.0"]);
    }

    #[tokio::test]
    async fn without_an_order_there_is_no_increase() {
        let context = session();
        table(&context, "counters", &COUNTERS);
        let said = refusal(&context, "SELECT increase(value) FROM counters").await;
        assert!(said.contains("increase(value ORDER BY event_time)"), "{said}");
        let said = refusal(&context, "SELECT increase(device ORDER BY event_time) FROM counters").await;
        assert!(said.contains("increase takes one number"), "{said}");
        let said =
            refusal(&context, "SELECT increase(value ORDER BY event_time) OVER () FROM counters").await;
        assert!(!said.is_empty());
    }
}
