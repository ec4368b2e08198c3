//! The operator that fills gaps.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::{BatchCoalescer, SortOptions, concat_batches};
use datafusion::arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
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
use futures_util::{StreamExt, stream};

use super::series::{Filling, Series};

/// Adds missing buckets to the rows of an aggregate, series by series: it holds one series at a time.
#[derive(Debug)]
pub(in crate::functions) struct GapFillExec {
    input: Arc<dyn ExecutionPlan>,
    filling: Arc<Filling>,
    /// What is to be filled, over the input's columns.
    values: Vec<Arc<dyn PhysicalExpr>>,
    properties: Arc<PlanProperties>,
}

impl GapFillExec {
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        filling: Arc<Filling>,
        values: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&filling.schema)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, filling, values, properties: Arc::new(properties) }
    }

    fn column(&self, at: usize) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(self.input.schema().field(at).name(), at))
    }

    /// The columns that tell one series from another.
    fn series_keys(&self) -> Vec<usize> {
        (0..self.filling.keys).filter(|key| *key != self.filling.time).collect()
    }
}

impl DisplayAs for GapFillExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "GapFillExec: {:?}", self.filling.buckets)?;
        if let Some(first) = self.filling.first {
            write!(f, ", first={first}")?;
        }
        if let Some(last) = self.filling.last {
            write!(f, ", last={last}")?;
        }
        self.filling
            .fills
            .iter()
            .zip(&self.values)
            .try_for_each(|(fill, value)| write!(f, ", {}({value})", fill.name()))
    }
}

impl ExecutionPlan for GapFillExec {
    fn name(&self) -> &'static str {
        "GapFillExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let keys: Vec<_> = self.series_keys().into_iter().map(|key| self.column(key)).collect();
        let whole_series =
            if keys.is_empty() { Distribution::SinglePartition } else { Distribution::KeyPartitioned(keys) };
        InputDistributionRequirements::new(vec![whole_series])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let columns = self.series_keys().into_iter().chain([self.filling.time]);
        let order = columns.map(|at| PhysicalSortExpr::new(self.column(at), SortOptions::default()));
        vec![LexOrdering::new(order).map(OrderingRequirements::from)]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(&self.values, f)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return internal_err!("GapFillExec has one child") };
        Ok(Arc::new(Self::new(input, Arc::clone(&self.filling), self.values.clone())))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let most = context.session_config().batch_size();
        let keys = self.series_keys();
        let fields = keys.iter().map(|key| SortField::new(input.schema().field(*key).data_type().clone()));
        let state = State {
            keys: Keys { converter: RowConverter::new(fields.collect())?, columns: keys },
            values: self.values.clone(),
            runs: VecDeque::new(),
            ended: false,
            series: None,
            filled: BatchCoalescer::new(Arc::clone(&self.filling.schema), most),
            reservation: MemoryConsumer::new("GapFill").register(context.memory_pool()),
            filling: Arc::clone(&self.filling),
            most,
            input,
        };
        let batches = stream::try_unfold(state, State::next);
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.filling.schema), batches)))
    }
}

/// The columns that tell series apart.
struct Keys {
    converter: RowConverter,
    columns: Vec<usize>,
}

/// Rows of one series, side by side in a batch, with the values to be filled behind their columns.
struct Run {
    /// `None` where there is one series only.
    key: Option<OwnedRow>,
    rows: RecordBatch,
    bytes: usize,
}

struct State {
    input: SendableRecordBatchStream,
    keys: Keys,
    values: Vec<Arc<dyn PhysicalExpr>>,
    /// What was read and not filled, in order.
    runs: VecDeque<Run>,
    ended: bool,
    series: Option<(Series, usize)>,
    filled: BatchCoalescer,
    reservation: MemoryReservation,
    filling: Arc<Filling>,
    most: usize,
}

impl State {
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        loop {
            if let Some(batch) = self.filled.next_completed_batch() {
                return Ok(Some((batch, self)));
            }
            if let Some((series, bytes)) = &mut self.series {
                match series.next(&self.filling, self.most)? {
                    Some(batch) => self.filled.push_batch(batch)?,
                    None => {
                        self.reservation.shrink(*bytes);
                        self.series = None;
                    }
                }
            } else if let Some(series) = self.whole_series()? {
                self.series = Some(series);
            } else if self.ended {
                self.filled.finish_buffered_batch()?;
                return Ok(self.filled.next_completed_batch().map(|batch| (batch, self)));
            } else {
                match self.input.next().await {
                    Some(batch) => self.read(&batch?)?,
                    None => self.ended = true,
                }
            }
        }
    }

    /// Cuts a batch where one series ends and another begins.
    fn read(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut rows = batch.columns().to_vec();
        for value in &self.values {
            rows.push(value.evaluate(batch)?.into_array(batch.num_rows())?);
        }
        let bytes = batch.get_array_memory_size();
        self.reservation.try_grow(bytes)?;
        let rows = RecordBatch::try_new(Arc::clone(&self.filling.schema), rows)?;
        let mut push = |key: Option<OwnedRow>, from: usize, to: usize| {
            let share = bytes * to / batch.num_rows() - bytes * from / batch.num_rows();
            self.runs.push_back(Run { key, rows: rows.slice(from, to - from), bytes: share });
        };
        if self.keys.columns.is_empty() {
            push(None, 0, batch.num_rows());
            return Ok(());
        }
        let keys: Vec<ArrayRef> =
            self.keys.columns.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        let keys = self.keys.converter.convert_columns(&keys)?;
        let mut from = 0;
        for row in 1..=batch.num_rows() {
            if row == batch.num_rows() || keys.row(row) != keys.row(from) {
                push(Some(keys.row(from).owned()), from, row);
                from = row;
            }
        }
        Ok(())
    }

    /// The first series that was read, once it is known to be whole, and how much memory it takes.
    fn whole_series(&mut self) -> Result<Option<(Series, usize)>> {
        let (Some(first), Some(last)) = (self.runs.front(), self.runs.back()) else { return Ok(None) };
        if first.key == last.key && !self.ended {
            return Ok(None);
        }
        let key = first.key.clone();
        let of_it = self.runs.iter().take_while(|run| run.key == key).count();
        let runs: Vec<Run> = self.runs.drain(..of_it).collect();
        let schema = runs[0].rows.schema();
        let rows = concat_batches(&schema, runs.iter().map(|run| &run.rows))?;
        let series = Series::new(&self.filling, rows)?;
        Ok(Some((series, runs.iter().map(|run| run.bytes).sum())))
    }
}
