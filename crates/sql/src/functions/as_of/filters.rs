//! What of a filter above a join as of a time may be checked below it, where it saves reading.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, LogicalPlan, Operator};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::AsOf;

/// Moves conditions on the left side below the join. All rows of the left side come through it, so that changes nothing.
#[derive(Debug)]
pub(in crate::functions) struct AsOfFilters;

impl OptimizerRule for AsOfFilters {
    fn name(&self) -> &'static str {
        "as_of_filters"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
        let LogicalPlan::Extension(extension) = filter.input.as_ref() else {
            return Ok(Transformed::no(plan));
        };
        let Some(node) = extension.node.as_any().downcast_ref::<AsOf>() else {
            return Ok(Transformed::no(plan));
        };
        let parts = split_conjunction_owned(filter.predicate.clone());
        let (below, above): (Vec<_>, Vec<_>) =
            parts.into_iter().partition(|part| is_of(part, node.left.schema()));
        if below.is_empty() {
            return Ok(Transformed::no(plan));
        }
        let right: Vec<_> = below.iter().filter_map(|part| beside(part, node)).collect();
        let left = filtered(node.left.clone(), below)?;
        let right = filtered(node.right.clone(), right)?;
        let node = AsOf::new(left, right, node.keys.clone(), node.times.clone(), node.strict)?;
        Ok(Transformed::yes(filtered(node.into_plan(), above)?))
    }
}

fn is_of(part: &Expr, schema: &DFSchema) -> bool {
    let columns = part.column_refs();
    !columns.is_empty()
        && columns.into_iter().all(|column| schema.has_column(column))
        && !part.is_volatile()
        && !part.contains_outer()
}

fn filtered(plan: LogicalPlan, parts: Vec<Expr>) -> Result<LogicalPlan> {
    Ok(match conjunction(parts) {
        Some(predicate) => LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(plan))?),
        None => plan,
    })
}

/// What follows for the right side's rows: they have the same keys, and are not later.
fn beside(part: &Expr, node: &AsOf) -> Option<Expr> {
    if let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Lt | Operator::LtEq, right }) = part
        && left.as_ref() == &node.times.0
        && !right.any_column_refs()
    {
        return replaced(part, std::slice::from_ref(&node.times));
    }
    replaced(part, &node.keys)
}

/// The same of the other side; `None` if it speaks of more than what both have.
fn replaced(part: &Expr, pairs: &[(Expr, Expr)]) -> Option<Expr> {
    let mut all = true;
    let other = part.clone().transform_down(|expr| {
        if !matches!(expr, Expr::Column(_)) {
            return Ok(Transformed::no(expr));
        }
        match pairs.iter().find(|(left, _)| *left == expr) {
            Some((_, right @ Expr::Column(_))) => Ok(Transformed::yes(right.clone())),
            _ => {
                all = false;
                Ok(Transformed::no(expr))
            }
        }
    });
    other.ok().filter(|_| all).map(|other| other.data)
}
