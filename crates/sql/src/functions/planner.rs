//! From logical nodes of this crate to operators.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use super::as_of::AsOf;
use super::gap_fill::GapFill;

/// The planner that knows the nodes of this crate beside all others.
#[derive(Debug)]
pub(super) struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Nodes)]);
        planner.create_physical_plan(plan, session).await
    }
}

struct Nodes;

#[async_trait]
impl ExtensionPlanner for Nodes {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let expression = |expr: &_, schema: &_| planner.create_physical_expr(expr, schema, session, context);
        if let (Some(node), [input]) = (node.as_any().downcast_ref::<GapFill>(), inputs) {
            return node.plan(Arc::clone(input), expression).map(Some);
        }
        if let (Some(node), [left, right]) = (node.as_any().downcast_ref::<AsOf>(), inputs) {
            return node.plan(Arc::clone(left), Arc::clone(right), expression).map(Some);
        }
        Ok(None)
    }
}
