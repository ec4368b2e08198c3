//! Which buckets a query asks for: what its `WHERE` says of the time.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};

/// One end of the times that pass a filter: they compare so with a value in which there are no columns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Bound {
    pub(super) operator: Operator,
    pub(super) value: Expr,
}

/// All bounds of a time column in the filters below an aggregate.
pub(super) fn bounds(mut plan: &LogicalPlan, time: &Expr) -> Vec<Bound> {
    let mut bounds = Vec::new();
    let Some(mut column) = column(time, plan.schema()) else { return bounds };
    loop {
        match plan {
            LogicalPlan::Filter(filter) => {
                let is_time = |expr: &Expr| self::column(expr, plan.schema()) == Some(column);
                split_conjunction(&filter.predicate)
                    .into_iter()
                    .for_each(|part| add(part, is_time, &mut bounds));
                plan = &filter.input;
            }
            LogicalPlan::SubqueryAlias(alias) => plan = &alias.input,
            LogicalPlan::Sort(sort) => plan = &sort.input,
            LogicalPlan::Projection(projection) => {
                // Only what is passed on as it is can be followed further.
                let from = self::column(&projection.expr[column], projection.input.schema());
                let Some(from) = from else { return bounds };
                column = from;
                plan = &projection.input;
            }
            _ => return bounds,
        }
    }
}

/// Which column an expression passes on.
fn column(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        Expr::Alias(alias) => column(&alias.expr, schema),
        Expr::Cast(cast) => {
            let from = cast.expr.get_type(schema).ok()?;
            is_same_time(&from, cast.field.data_type()).then(|| column(&cast.expr, schema))?
        }
        _ => None,
    }
}

/// Whether a cast leaves the nanoseconds as they are: days and seconds round, and a time that gets a zone is that of its clocks.
fn is_same_time(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Timestamp(TimeUnit::Nanosecond, from), DataType::Timestamp(TimeUnit::Nanosecond, to)) => {
            from.is_some() || to.as_deref().is_none_or(|zone| zone == "UTC")
        }
        _ => false,
    }
}

/// Adds what one part of a filter says of the time.
fn add(part: &Expr, is_time: impl Fn(&Expr) -> bool, bounds: &mut Vec<Bound>) {
    let mut bound = |operator, value: &Expr| {
        if is_constant(value) {
            bounds.push(Bound { operator, value: value.clone() });
        }
    };
    match part {
        Expr::Between(Between { expr, negated: false, low, high }) if is_time(expr) => {
            bound(Operator::GtEq, low);
            bound(Operator::LtEq, high);
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (operator, value) = match (is_time(left), is_time(right), op.swap()) {
                (true, false, _) => (*op, right),
                (false, true, Some(swapped)) => (swapped, left),
                _ => return,
            };
            match operator {
                Operator::Eq => {
                    bound(Operator::GtEq, value);
                    bound(Operator::LtEq, value);
                }
                Operator::Gt | Operator::GtEq | Operator::Lt | Operator::LtEq => bound(operator, value),
                _ => {}
            }
        }
        _ => {}
    }
}

/// Whether the planner can tell the value.
fn is_constant(value: &Expr) -> bool {
    let depends = |expr: &Expr| {
        matches!(
            expr,
            Expr::Column(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::ScalarSubquery(_)
                | Expr::Placeholder(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
        )
    };
    !value.is_volatile() && !value.exists(|expr| Ok(depends(expr))).unwrap_or(true)
}
