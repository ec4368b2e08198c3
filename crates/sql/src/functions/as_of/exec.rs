//! The operator of a join as of a time.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan,
    ExecutionPlanProperties, InputDistributionRequirements, Partitioning, PlanProperties,
    ReplaceChildrenOptions, apply_expression_roots,
};
use futures_util::stream;

use super::merge::{Cursor, Merge};

/// One side of the join: its rows, and what they are sorted by.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) input: Arc<dyn ExecutionPlan>,
    pub(super) keys: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) time: Arc<dyn PhysicalExpr>,
}

impl Side {
    fn order(&self) -> Option<OrderingRequirements> {
        let columns = self.keys.iter().chain([&self.time]);
        let order = columns.map(|expr| PhysicalSortExpr::new(Arc::clone(expr), SortOptions::default()));
        LexOrdering::new(order).map(OrderingRequirements::from)
    }
}

/// Merges both sides, which come sorted by keys and time.
#[derive(Debug)]
pub(super) struct AsOfExec {
    left: Side,
    right: Side,
    strict: bool,
    properties: Arc<PlanProperties>,
}

impl AsOfExec {
    pub(super) fn new(left: Side, right: Side, strict: bool, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(left.input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { left, right, strict, properties: Arc::new(properties) }
    }
}

impl DisplayAs for AsOfExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let operator = if self.strict { ">" } else { ">=" };
        write!(f, "AsOfExec: {} {operator} {}", self.left.time, self.right.time)?;
        let mut pairs = self.left.keys.iter().zip(&self.right.keys);
        pairs.try_for_each(|(left, right)| write!(f, ", {left} = {right}"))
    }
}

impl ExecutionPlan for AsOfExec {
    fn name(&self) -> &'static str {
        "AsOfExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left.input, &self.right.input]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        if self.left.keys.is_empty() {
            return InputDistributionRequirements::new(vec![Distribution::SinglePartition; 2]);
        }
        let keys = |side: &Side| Distribution::KeyPartitioned(side.keys.clone());
        InputDistributionRequirements::co_partitioned(vec![keys(&self.left), keys(&self.right)])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.left.order(), self.right.order()]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let sides = [&self.left, &self.right].into_iter();
        apply_expression_roots(sides.flat_map(|side| side.keys.iter().chain([&side.time])), f)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(right), Some(left)) = (children.pop(), children.pop()) else {
            return internal_err!("AsOfExec has two children");
        };
        let left = Side { input: left, ..self.left.clone() };
        let right = Side { input: right, ..self.right.clone() };
        Ok(Arc::new(Self::new(left, right, self.strict, self.schema())))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let cursor = |side: &Side| {
            let rows = side.input.execute(partition, Arc::clone(&context))?;
            Cursor::new(rows, side.keys.clone(), Arc::clone(&side.time))
        };
        let merge = Merge::new(cursor(&self.left)?, cursor(&self.right)?, self.strict, self.schema());
        let batches = stream::try_unfold(merge, Merge::next);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}
