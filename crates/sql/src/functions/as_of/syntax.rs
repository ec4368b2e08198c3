//! From the words of a join as of a time to its node.

use std::ops::ControlFlow;

use datafusion::common::{Column, DFSchema, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::sqlparser::ast::{
    Join, JoinConstraint, JoinOperator, ObjectName, Select, TableFactor, TableWithJoins, VisitMut, VisitorMut,
};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, LogicalPlanBuilder, Operator, when};
use datafusion::sql::parser::Statement;

use super::AsOf;

/// Puts every join as of a time into parentheses of its own, with all that stands before it in its `FROM`.
pub(crate) fn nest(statement: &mut Statement) {
    match statement {
        Statement::Statement(statement) => {
            // It never breaks off.
            let _ = statement.visit(&mut Nesting);
        }
        Statement::Explain(explain) => nest(&mut explain.statement),
        _ => {}
    }
}

struct Nesting;

impl VisitorMut for Nesting {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        select.from.iter_mut().for_each(|from| *from = parenthesized(from));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::NestedJoin { table_with_joins: inside, .. } = factor
            && as_of(inside).is_none()
        {
            **inside = parenthesized(inside);
        }
        ControlFlow::Continue(())
    }
}

/// The join, where it is one as of a time and stands alone.
fn as_of(from: &TableWithJoins) -> Option<&Join> {
    match &from.joins[..] {
        [join] if is_as_of(join) => Some(join),
        _ => None,
    }
}

fn is_as_of(join: &Join) -> bool {
    matches!(join.join_operator, JoinOperator::AsOf { .. })
}

fn parenthesized(from: &TableWithJoins) -> TableWithJoins {
    let nested = |inside| {
        let relation = TableFactor::NestedJoin { table_with_joins: Box::new(inside), alias: None };
        TableWithJoins { relation, joins: Vec::new() }
    };
    let mut whole = TableWithJoins { relation: from.relation.clone(), joins: Vec::new() };
    for join in &from.joins {
        let is_as_of = is_as_of(join);
        if is_as_of && !whole.joins.is_empty() {
            whole = nested(whole);
        }
        whole.joins.push(join.clone());
        if is_as_of {
            whole = nested(whole);
        }
    }
    whole
}

/// Plans the relations that [`nest`] made.
#[derive(Debug)]
pub(in crate::functions) struct AsOfSyntax;

impl RelationPlanner for AsOfSyntax {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::NestedJoin { table_with_joins, alias } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let Some(Join {
            relation: right,
            join_operator: JoinOperator::AsOf { match_condition, constraint },
            ..
        }) = as_of(table_with_joins)
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let left = context.plan(table_with_joins.relation.clone())?;
        let right = context.plan(right.clone())?;
        let both = left.schema().join(right.schema())?;
        let condition = context.sql_to_expr(match_condition.clone(), &both)?;
        let keys = keys(constraint, [left.schema(), right.schema()], &both, context)?;
        let plan = plan(left, right, condition, keys)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

/// What the rows of both sides have in common.
struct Keys {
    pairs: Vec<(Expr, Expr)>,
    /// `USING`: the right side's columns of these do not show.
    using: bool,
}

fn keys(
    constraint: &JoinConstraint,
    [left, right]: [&DFSchema; 2],
    both: &DFSchema,
    context: &mut dyn RelationPlannerContext,
) -> Result<Keys> {
    match constraint {
        JoinConstraint::On(condition) => {
            let condition = context.sql_to_expr(condition.clone(), both)?;
            let pairs = split_conjunction_owned(condition).into_iter().map(|part| match sides(part, left, right) {
                Some((left, Operator::Eq, right)) => Ok((left, right)),
                _ => plan_err!("ON of an ASOF JOIN takes equalities between both sides only; what else must hold goes into MATCH_CONDITION"),
            });
            Ok(Keys { pairs: pairs.collect::<Result<_>>()?, using: false })
        }
        JoinConstraint::Using(names) => {
            let pairs = names.iter().map(|ObjectName(parts)| {
                let Some(name) = parts.last().and_then(|part| part.as_ident()) else {
                    return plan_err!("USING takes names of columns");
                };
                let name = context.normalize_ident(name.clone());
                let column = |of: &DFSchema| {
                    of.qualified_field_with_unqualified_name(&name)
                        .map(|field| Expr::Column(Column::from(field)))
                };
                Ok((column(left)?, column(right)?))
            });
            Ok(Keys { pairs: pairs.collect::<Result<_>>()?, using: true })
        }
        JoinConstraint::None => Ok(Keys { pairs: Vec::new(), using: false }),
        JoinConstraint::Natural => {
            plan_err!("an ASOF JOIN needs ON or USING to say which rows belong together")
        }
    }
}

fn plan(left: LogicalPlan, right: LogicalPlan, condition: Expr, keys: Keys) -> Result<LogicalPlan> {
    let (mut times, mut limits) = (None, Vec::new());
    for part in split_conjunction_owned(condition) {
        match sides(part.clone(), left.schema(), right.schema()) {
            Some((left, operator @ (Operator::GtEq | Operator::Gt), right)) if times.is_none() => {
                times = Some((left, right, operator == Operator::Gt));
            }
            _ => limits.push(part),
        }
    }
    let Some((left_time, right_time, strict)) = times else {
        return plan_err!(
            "MATCH_CONDITION must say that the left side's time is not before the right side's: \
             MATCH_CONDITION (a.event_time >= b.event_time)"
        );
    };
    let hidden: Vec<_> =
        if keys.using { keys.pairs.iter().map(|(_, right)| right.clone()).collect() } else { Vec::new() };
    let from_right = left.schema().fields().len();
    let node = AsOf::new(left, right, keys.pairs, (left_time, right_time), strict)?;
    let plan = node.into_plan();
    if limits.is_empty() && hidden.is_empty() {
        return Ok(plan);
    }
    let near = limits.into_iter().reduce(Expr::and);
    let mut columns = Vec::new();
    for (at, field) in plan.schema().iter().enumerate() {
        let column = Expr::Column(Column::from(field));
        if at >= from_right && hidden.contains(&column) {
            continue;
        }
        columns.push(match &near {
            // Of all rows that would do, the newest is the nearest: if it is too far away, so are all.
            Some(near) if at >= from_right => {
                when(near.clone(), column).end()?.alias_qualified(field.0.cloned(), field.1.name())
            }
            _ => column,
        });
    }
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

/// A comparison of something of the left side with something of the right side, in this order.
fn sides(part: Expr, left: &DFSchema, right: &DFSchema) -> Option<(Expr, Operator, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left: one, op, right: other }) = part else { return None };
    let is_of = |expr: &Expr, schema: &DFSchema| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.into_iter().all(|column| schema.has_column(column))
    };
    if is_of(&one, left) && is_of(&other, right) {
        return Some((*one, op, *other));
    }
    (is_of(&one, right) && is_of(&other, left)).then_some((*other, op.swap()?, *one))
}
