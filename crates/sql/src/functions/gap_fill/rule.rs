//! Where the SQL asks for gaps to be filled, a node that does it.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::plan_err;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Aggregate, Expr, Extension, LogicalPlan, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;

use super::Fill;
use super::node::{Filled, GapFill};
use super::range::bounds;
use crate::functions::time_bucket::GAP_FILL;

/// Puts a [`GapFill`] above each aggregate that is grouped by `time_bucket_gapfill`.
#[derive(Debug)]
pub(in crate::functions) struct FillGaps {
    /// What groups rows instead of the call.
    bucket: Arc<ScalarUDF>,
}

impl FillGaps {
    pub(in crate::functions) fn new(bucket: Arc<ScalarUDF>) -> Self {
        Self { bucket }
    }

    fn rewrite(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Aggregate(aggregate) => self.above(aggregate),
            plan => filled(plan),
        }
    }

    fn above(&self, mut aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
        let calls: Vec<_> = aggregate
            .group_expr
            .iter()
            .enumerate()
            .filter_map(|(at, expr)| Some((at, call(expr)?)))
            .collect();
        let (at, call) = match calls[..] {
            [] if !aggregate.group_expr.iter().any(inside_a_set) => {
                return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
            }
            [(at, call)] => (at, call.clone()),
            [] => return plan_err!("{GAP_FILL} does not go with GROUPING SETS, ROLLUP or CUBE"),
            _ => return plan_err!("a query is grouped by one {GAP_FILL} at most"),
        };
        let (width, time) = (call.args[0].clone(), &call.args[1]);
        let bounds = bounds(&aggregate.input, time);
        let name = aggregate.group_expr[at].schema_name().to_string();
        let bucket = ScalarFunction::new_udf(Arc::clone(&self.bucket), call.args);
        aggregate.group_expr[at] = Expr::ScalarFunction(bucket).alias(name);
        let keys = aggregate.group_expr.len();
        let aggregate = Aggregate::try_new(aggregate.input, aggregate.group_expr, aggregate.aggr_expr)?;
        let node = GapFill::new(LogicalPlan::Aggregate(aggregate), keys, at, width, bounds)?;
        Ok(Transformed::yes(extension(node)))
    }
}

impl AnalyzerRule for FillGaps {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(|plan| self.rewrite(plan))?.data)
    }

    fn name(&self) -> &'static str {
        "fill_gaps"
    }
}

fn extension(node: GapFill) -> LogicalPlan {
    LogicalPlan::Extension(Extension { node: Arc::new(node) })
}

fn call(expr: &Expr) -> Option<&ScalarFunction> {
    match expr {
        Expr::Alias(alias) => call(&alias.expr),
        Expr::ScalarFunction(call) if call.func.name() == GAP_FILL => Some(call),
        _ => None,
    }
}

fn inside_a_set(expr: &Expr) -> bool {
    matches!(expr, Expr::GroupingSet(_)) && expr.exists(|expr| Ok(call(expr).is_some())).unwrap_or(false)
}

/// The node whose rows a plan is made of, through what keeps its columns.
fn gap_fill(plan: &LogicalPlan) -> Option<&GapFill> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        LogicalPlan::Filter(filter) => gap_fill(&filter.input),
        LogicalPlan::Window(window) => gap_fill(&window.input),
        _ => None,
    }
}

/// Makes columns of the node below out of the calls of `locf` and `interpolate` in a plan's expressions.
fn filled(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let below = match plan.inputs()[..] {
        [input] => gap_fill(input).map(|node| Arc::clone(node.input.schema())),
        _ => None,
    };
    let Some(below) = below else { return Ok(Transformed::no(plan)) };
    let mut fills = Vec::new();
    let exprs = plan.expressions().into_iter().map(|expr| {
        let replaced = expr.transform_down(|expr| {
            let Some(filled) = fill(&expr) else { return Ok(Transformed::no(expr)) };
            if !filled.value.column_refs().into_iter().all(|column| below.has_column(column)) {
                return Ok(Transformed::no(expr));
            }
            let column = Expr::Column(datafusion::common::Column::new_unqualified(&filled.name));
            fills.push(filled);
            Ok(Transformed::yes(column))
        });
        Ok(replaced?.data)
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    if fills.is_empty() {
        return Ok(Transformed::no(plan));
    }
    let input = with_fills(plan.inputs()[0], fills)?;
    Ok(Transformed::yes(plan.with_new_exprs(exprs, vec![input])?))
}

fn fill(expr: &Expr) -> Option<Filled> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let fill = Fill::named(call.func.name())?;
    Some(Filled { fill, value: call.args.first()?.clone(), name: expr.schema_name().to_string() })
}

fn with_fills(plan: &LogicalPlan, fills: Vec<Filled>) -> Result<LogicalPlan> {
    if let LogicalPlan::Extension(found) = plan
        && let Some(node) = found.node.as_any().downcast_ref::<GapFill>()
    {
        return Ok(extension(node.clone().with_fills(fills)?));
    }
    let exprs = plan.expressions();
    let inputs = plan.inputs().into_iter().map(|input| with_fills(input, fills.clone()));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    plan.with_new_exprs(exprs, inputs)
}
