//! Tables about the log itself: computed whole when a statement asks for them.

mod coverage;
mod devices;
mod gaps;
mod segments;

use std::fmt;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, TimestampNanosecondArray};
use arrow_schema::{DataType, Field, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use icecore_replay::ScanWatch;

use crate::SqlError;
use crate::pushdown::{Conditions, Devices};
use crate::reading::{Reading, Source, Take};
use crate::view::View;

/// A table about the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SystemTable {
    Devices,
    Gaps,
    Coverage,
    Segments,
}

impl SystemTable {
    pub(crate) const ALL: [Self; 4] = [Self::Coverage, Self::Devices, Self::Gaps, Self::Segments];

    /// The table called so, in whatever case.
    pub(crate) fn called(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name().eq_ignore_ascii_case(name))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::Gaps => "gaps",
            Self::Coverage => "coverage",
            Self::Segments => "segments",
        }
    }

    pub(crate) fn provider(self, view: &Arc<View>) -> Arc<dyn TableProvider> {
        Arc::new(Computed::new(Arc::clone(view), Arc::new(self)))
    }
}

impl Rows for SystemTable {
    fn name(&self) -> String {
        (*self).name().to_owned()
    }

    fn schema(&self) -> SchemaRef {
        match self {
            Self::Devices => devices::schema(),
            Self::Gaps => gaps::schema(),
            Self::Coverage => coverage::schema(),
            Self::Segments => segments::schema(),
        }
    }

    fn rows(&self, view: &View, asked: &Asked) -> std::result::Result<RecordBatch, SqlError> {
        match self {
            Self::Devices => devices::rows(view, asked),
            Self::Gaps => gaps::rows(view, asked),
            Self::Coverage => coverage::rows(view),
            Self::Segments => segments::rows(view),
        }
    }
}

/// Rows that are computed.
pub(crate) trait Rows: fmt::Debug + Send + Sync {
    /// What they are called in a plan.
    fn name(&self) -> String;

    /// Their columns.
    fn schema(&self) -> SchemaRef;

    /// All of them that were asked for, and perhaps others. This blocks.
    fn rows(&self, view: &View, asked: &Asked) -> std::result::Result<RecordBatch, SqlError>;
}

/// What a statement asks of computed rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// Of these devices.
    pub(crate) devices: Devices,
    /// The columns that are looked at.
    pub(crate) columns: Vec<usize>,
}

/// A table whose rows are computed.
#[derive(Debug)]
pub(crate) struct Computed {
    view: Arc<View>,
    rows: Arc<dyn Rows>,
    schema: SchemaRef,
}

impl Computed {
    pub(crate) fn new(view: Arc<View>, rows: Arc<dyn Rows>) -> Self {
        let schema = rows.schema();
        Self { view, rows, schema }
    }
}

#[async_trait]
impl TableProvider for Computed {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Devices are only a hint: not every table takes it.
        let support = |filter: &&Expr| match Conditions::of(filter, &self.schema).devices() {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema = Arc::new(self.schema.project(&columns)?);
        let devices = filters.iter().filter_map(|filter| Conditions::of(filter, &self.schema).devices());
        let devices = devices.fold(Devices::default(), Devices::and);
        let asked = Asked { devices, columns };
        let source = ComputedSource { view: Arc::clone(&self.view), rows: Arc::clone(&self.rows), asked };
        Ok(Arc::new(Reading::new(Arc::new(source), schema, limit, Arc::clone(&self.view.tally))))
    }
}

#[derive(Debug)]
struct ComputedSource {
    view: Arc<View>,
    rows: Arc<dyn Rows>,
    asked: Asked,
}

impl Source for ComputedSource {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.rows.name(), self.asked.devices)
    }

    fn read(&self, _watch: &Arc<ScanWatch>, take: Take<'_>) -> std::result::Result<(), SqlError> {
        let rows = self.rows.rows(&self.view, &self.asked)?;
        let rows = rows.project(&self.asked.columns).map_err(icecore_replay::ReplayError::from)?;
        // It is all there is.
        let _ = take(rows);
        Ok(())
    }
}

/// The type of times.
pub(crate) fn times() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// A column that may be null.
pub(crate) fn nullable(name: &str, ty: DataType) -> Field {
    Field::new(name, ty, true)
}

/// A column that is never null.
pub(crate) fn required(name: &str, ty: DataType) -> Field {
    Field::new(name, ty, false)
}

/// A column of times.
pub(crate) fn time_column(times: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(times.collect::<TimestampNanosecondArray>().with_timezone("UTC"))
}

/// Columns as rows of this schema.
pub(crate) fn record_batch(
    schema: SchemaRef,
    columns: Vec<ArrayRef>,
) -> std::result::Result<RecordBatch, SqlError> {
    Ok(RecordBatch::try_new(schema, columns).map_err(icecore_replay::ReplayError::from)?)
}
