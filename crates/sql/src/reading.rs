//! How what blocks becomes a stream: a thread reads, and whoever asks for rows takes them from it.

use std::any::Any;
use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, PruningMetrics,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures_util::stream;
use icecore_replay::{Looked, ReplayError, ScanWatch};
use tokio::sync::mpsc;

use crate::SqlError;
use crate::covered::Tally;

/// Record batches that are ready before they are asked for.
const READY: usize = 4;

/// Rows that are handed over at once: so many that it costs nothing, and so few that those of a few columns stay in a processor's cache.
const ROWS: usize = 1 << 15;

/// Takes record batches; breaks off when nobody wants more.
pub(crate) type Take<'t> = &'t mut dyn FnMut(RecordBatch) -> ControlFlow<()>;

/// Something that is read row by row, and blocks while it is.
pub(crate) trait Source: fmt::Debug + Send + Sync {
    /// Says in a plan what is read.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Reads; what it looks at can be seen by `watch`.
    fn read(&self, watch: &Arc<ScanWatch>, take: Take<'_>) -> Result<(), SqlError>;
}

/// The part of a plan that reads.
#[derive(Debug)]
pub(crate) struct Reading {
    source: Arc<dyn Source>,
    schema: SchemaRef,
    limit: Option<usize>,
    tally: Arc<Tally>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl Reading {
    /// Reads `source`, whose record batches have this schema; `limit` rows of it are enough.
    pub(crate) fn new(
        source: Arc<dyn Source>,
        schema: SchemaRef,
        limit: Option<usize>,
        tally: Arc<Tally>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            // One thread hands over; the decoding is spread already, and the engine spreads what comes behind.
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        Self { source, schema, limit, tally, properties: Arc::new(properties), metrics }
    }
}

impl DisplayAs for Reading {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reading: ")?;
        self.source.describe(f)?;
        let columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, ", columns=[{}]", columns.join(", "))?;
        self.limit.map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
    }
}

impl ExecutionPlan for Reading {
    fn name(&self) -> &'static str {
        "Reading"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let (source, schema, tally) =
            (Arc::clone(&self.source), Arc::clone(&self.schema), Arc::clone(&self.tally));
        Some(Arc::new(Self::new(source, schema, limit, tally)))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (send, rows) = mpsc::channel(READY);
        let watch = Arc::<ScanWatch>::default();
        let read = Read {
            source: Arc::clone(&self.source),
            watch: Arc::clone(&watch),
            left: self.limit.unwrap_or(usize::MAX),
            send,
            counters: Counters::new(&self.metrics, partition),
            output: BaselineMetrics::new(&self.metrics, partition),
        };
        let running = self.tally.begin();
        let run = move || {
            read.run();
            drop(running);
        };
        thread::Builder::new()
            .name("sql".into())
            .spawn(run)
            .map_err(|error| DataFusionError::from(SqlError::from(ReplayError::Thread(error))))?;
        let taken = Taken { rows, watch };
        let rows =
            stream::unfold(taken, |mut taken: Taken| async move { Some((taken.rows.recv().await?, taken)) });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows)))
    }
}

/// Who takes the rows. When it goes, the reading ends.
struct Taken {
    rows: mpsc::Receiver<Result<RecordBatch>>,
    watch: Arc<ScanWatch>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.watch.stop();
    }
}

/// One go through a source, in a thread of its own.
struct Read {
    source: Arc<dyn Source>,
    watch: Arc<ScanWatch>,
    /// Rows that are still wanted.
    left: usize,
    send: mpsc::Sender<Result<RecordBatch>>,
    counters: Counters,
    output: BaselineMetrics,
}

impl Read {
    fn run(mut self) {
        let (source, watch) = (Arc::clone(&self.source), Arc::clone(&self.watch));
        // Whatever goes wrong in here is the end of a statement, not of a server.
        let read =
            catch_unwind(AssertUnwindSafe(|| source.read(&watch, &mut |batch| self.hand_over(&batch))));
        self.counters.finish(&watch);
        let failed = match read {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(panic) => SqlError::Execution(format!(
                "reading panicked, which is a mistake in the program: {}",
                told(&*panic)
            )),
        };
        let _ = self.send.blocking_send(Err(failed.into()));
    }

    fn hand_over(&mut self, batch: &RecordBatch) -> ControlFlow<()> {
        self.counters.update(&self.watch);
        let mut from = 0;
        while from < batch.num_rows() {
            if self.left == 0 {
                return ControlFlow::Break(());
            }
            let rows = (batch.num_rows() - from).min(ROWS).min(self.left);
            self.output.record_output(rows);
            if self.send.blocking_send(Ok(batch.slice(from, rows))).is_err() {
                return ControlFlow::Break(());
            }
            from += rows;
            self.left -= rows;
        }
        // So that nothing is read for nobody.
        if self.left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// What a panic said.
fn told(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason is given")
}

/// What `EXPLAIN ANALYZE` shows.
struct Counters {
    segments: PruningMetrics,
    row_groups: PruningMetrics,
    pages_read: Count,
    rows: Count,
    shown: Looked,
}

impl Counters {
    fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        Self {
            segments: MetricBuilder::new(metrics).pruning_metrics("segments_opened", partition),
            row_groups: MetricBuilder::new(metrics).pruning_metrics("row_groups_read", partition),
            pages_read: MetricBuilder::new(metrics).counter("pages_read", partition),
            rows: MetricBuilder::new(metrics).counter("rows_looked_at", partition),
            shown: Looked::default(),
        }
    }

    fn update(&mut self, watch: &ScanWatch) {
        let (now, shown) = (watch.looked(), self.shown);
        self.segments.add_matched((now.segments_opened - shown.segments_opened) as usize);
        self.row_groups.add_matched((now.row_groups_read - shown.row_groups_read) as usize);
        self.pages_read.add((now.pages_read - shown.pages_read) as usize);
        self.rows.add((now.rows - shown.rows) as usize);
        self.shown = now;
    }

    /// Nothing more is opened.
    fn finish(&mut self, watch: &ScanWatch) {
        self.update(watch);
        let Looked { segments, segments_opened, row_groups, row_groups_read, .. } = self.shown;
        self.segments.add_pruned(segments.saturating_sub(segments_opened) as usize);
        self.row_groups.add_pruned(row_groups.saturating_sub(row_groups_read) as usize);
    }
}
