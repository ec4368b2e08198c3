//! The table of a schema.

use std::fmt;
use std::io;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use icecore_replay::{Order, Query, Replay, ReplayError, ScanWatch, Table, TableScan, format_instant};

use crate::SqlError;
use crate::covered::Tally;
use crate::pushdown::{Conditions, Devices};
use crate::reading::{Reading, Source, Take};
use crate::view::View;

/// The events of a schema: all of them, or those that were known at a time.
#[derive(Debug)]
pub(crate) struct Events {
    view: Arc<View>,
    table: Arc<Table>,
    known_at: Option<i64>,
}

impl Events {
    pub(crate) fn new(view: Arc<View>, table: Arc<Table>, known_at: Option<i64>) -> Self {
        Self { view, table, known_at }
    }
}

#[async_trait]
impl TableProvider for Events {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.table.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let schema = self.table.schema();
        let support = |filter: &&Expr| Conditions::of(filter, schema).support();
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let query =
            Query { known_at: self.known_at, order: Order::Stored, ..self.view.query(self.table.name()) };
        let mut scan = TableScan::new(query, Arc::clone(&self.table));
        let schema = self.table.schema();
        for filter in filters {
            Conditions::of(filter, schema).apply(&mut scan);
        }
        scan.columns = projection
            .map(|columns| columns.iter().map(|column| schema.field(*column).name().clone()).collect());
        let schema = scan.schema().map_err(SqlError::from)?;
        let (replay, tally) = (Arc::clone(&self.view.opened.replay), Arc::clone(&self.view.tally));
        let source = EventSource { replay, scan, tally: Arc::clone(&tally) };
        Ok(Arc::new(Reading::new(Arc::new(source), schema, limit, tally)))
    }
}

/// A scan of the log.
#[derive(Debug)]
struct EventSource {
    replay: Arc<Replay>,
    scan: TableScan,
    tally: Arc<Tally>,
}

impl Source for EventSource {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Query { times, from_position, to_position, known_at, .. } = &self.scan.query;
        write!(f, "table={}{}", self.scan.table.name(), Devices::of(&self.scan.query))?;
        let mut range = |what: &str, from: Option<String>, to: Option<String>| match (from, to) {
            (None, None) => Ok(()),
            (from, to) => write!(f, ", {what}={}..{}", from.unwrap_or_default(), to.unwrap_or_default()),
        };
        range("times", times.from.map(format_instant), times.to.map(format_instant))?;
        let from_position = (*from_position > 0).then(|| from_position.to_string());
        range("positions", from_position, to_position.map(|position| position.to_string()))?;
        if let Some(known_at) = known_at {
            write!(f, ", known_at={}", format_instant(*known_at))?;
        }
        self.scan.prunes.iter().try_for_each(|prune| write!(f, ", where={prune}"))
    }

    fn read(&self, watch: &Arc<ScanWatch>, take: Take<'_>) -> Result<(), SqlError> {
        let scan = TableScan { watch: Arc::clone(watch), ..self.scan.clone() };
        let read = self.replay.record_batches(&scan, &mut |batch| match take(batch).is_break() {
            // As if an output had been closed.
            true => Err(ReplayError::Output(io::ErrorKind::BrokenPipe.into())),
            false => Ok(()),
        })?;
        self.tally.note(scan.query, read.coverage);
        Ok(())
    }
}
