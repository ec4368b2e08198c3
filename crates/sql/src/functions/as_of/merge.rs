//! The merge of two sorted sides.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::interleave;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::PhysicalExpr;
use futures_util::StreamExt;

/// From how many batches of the right side an answer takes rows at most: so many are held.
const MAX_BATCHES: usize = 16;

/// One side, batch by batch.
pub(super) struct Cursor {
    rows: SendableRecordBatchStream,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    time: Arc<dyn PhysicalExpr>,
    /// Of the keys alone; `None` if there are none.
    by_key: Option<RowConverter>,
    /// Of keys and time: these bytes compare as the side is sorted.
    by_order: RowConverter,
    batch: Option<Arc<Sorted>>,
    /// Where it stands in the batch.
    row: usize,
}

/// A batch that can be compared with those of the other side.
struct Sorted {
    batch: RecordBatch,
    keys: Option<Rows>,
    order: Rows,
    /// Rows that have all keys and a time: others match nothing.
    whole: Option<NullBuffer>,
}

impl Sorted {
    fn is_whole(&self, row: usize) -> bool {
        self.whole.as_ref().is_none_or(|whole| whole.is_valid(row))
    }
}

impl Cursor {
    pub(super) fn new(
        rows: SendableRecordBatchStream,
        keys: Vec<Arc<dyn PhysicalExpr>>,
        time: Arc<dyn PhysicalExpr>,
    ) -> Result<Self> {
        let schema = rows.schema();
        let field = |expr: &Arc<dyn PhysicalExpr>| Ok(SortField::new(expr.data_type(&schema)?));
        let by_key = keys.iter().map(field).collect::<Result<Vec<_>>>()?;
        let by_order = by_key.iter().cloned().map(Ok).chain([field(&time)]).collect::<Result<Vec<_>>>()?;
        let by_key = if by_key.is_empty() { None } else { Some(RowConverter::new(by_key)?) };
        Ok(Self { rows, keys, time, by_key, by_order: RowConverter::new(by_order)?, batch: None, row: 0 })
    }

    /// The batch in which the next row stands.
    async fn current(&mut self) -> Result<Option<Arc<Sorted>>> {
        while self.batch.as_ref().is_none_or(|sorted| self.row == sorted.batch.num_rows()) {
            (self.batch, self.row) = (None, 0);
            let Some(batch) = self.rows.next().await else { return Ok(None) };
            self.batch = Some(Arc::new(self.sorted(batch?)?));
        }
        Ok(self.batch.clone())
    }

    fn sorted(&self, batch: RecordBatch) -> Result<Sorted> {
        let evaluate = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(&batch)?.into_array(batch.num_rows());
        let mut columns = self.keys.iter().map(evaluate).collect::<Result<Vec<_>>>()?;
        let keys = self.by_key.as_ref().map(|converter| converter.convert_columns(&columns)).transpose()?;
        columns.push(evaluate(&self.time)?);
        let order = self.by_order.convert_columns(&columns)?;
        let whole = columns
            .iter()
            .fold(None, |whole, column| NullBuffer::union(whole.as_ref(), column.logical_nulls().as_ref()));
        Ok(Sorted { batch, keys, order, whole })
    }
}

pub(super) struct Merge {
    left: Cursor,
    right: Cursor,
    strict: bool,
    schema: SchemaRef,
    /// The newest row of the right side that is not later than where the left side stands, whatever its keys.
    newest: Option<(Arc<Sorted>, usize)>,
}

impl Merge {
    pub(super) fn new(left: Cursor, right: Cursor, strict: bool, schema: SchemaRef) -> Self {
        Self { left, right, strict, schema, newest: None }
    }

    /// The next rows of the left side with what belongs to them.
    pub(super) async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        let Some(left) = self.left.current().await? else { return Ok(None) };
        let first = self.left.row;
        let mut found = Found::default();
        while self.left.row < left.batch.num_rows() && found.batches.len() < MAX_BATCHES {
            let row = self.left.row;
            self.follow(&left, row).await?;
            found.push(self.newest.as_ref().filter(|(right, at)| belongs(&left, row, right, *at)));
            self.left.row += 1;
        }
        let rows = left.batch.slice(first, self.left.row - first);
        let batch = found.beside(&rows, &self.right.rows.schema(), &self.schema)?;
        Ok(Some((batch, self)))
    }

    /// Moves the right side past everything that is not later than a row of the left side.
    async fn follow(&mut self, left: &Sorted, row: usize) -> Result<()> {
        let until = left.order.row(row);
        while let Some(right) = self.right.current().await? {
            let mut at = self.right.row;
            while at < right.batch.num_rows() {
                let order = right.order.row(at);
                if order > until || self.strict && order == until {
                    break;
                }
                at += 1;
            }
            if let Some(newest) = (self.right.row..at).rev().find(|at| right.is_whole(*at)) {
                self.newest = Some((Arc::clone(&right), newest));
            }
            self.right.row = at;
            if at < right.batch.num_rows() {
                break;
            }
        }
        Ok(())
    }
}

/// Whether a row of the right side, which is not later, has the keys of one of the left side.
fn belongs(left: &Sorted, row: usize, right: &Sorted, at: usize) -> bool {
    let same_keys = match (&left.keys, &right.keys) {
        (Some(left), Some(right)) => left.row(row) == right.row(at),
        _ => true,
    };
    left.is_whole(row) && same_keys
}

/// Rows of the right side, one or none for each row of the left side.
#[derive(Default)]
struct Found {
    batches: Vec<Arc<Sorted>>,
    /// Batch and row; batch 0 is that of no match.
    rows: Vec<(usize, usize)>,
}

impl Found {
    fn push(&mut self, found: Option<&(Arc<Sorted>, usize)>) {
        let Some((batch, row)) = found else { return self.rows.push((0, 0)) };
        if self.batches.last().is_none_or(|last| !Arc::ptr_eq(last, batch)) {
            self.batches.push(Arc::clone(batch));
        }
        self.rows.push((self.batches.len(), *row));
    }

    fn beside(self, left: &RecordBatch, right: &SchemaRef, schema: &SchemaRef) -> Result<RecordBatch> {
        let mut columns = left.columns().to_vec();
        for (at, field) in right.fields().iter().enumerate() {
            let none: ArrayRef = new_null_array(field.data_type(), 1);
            let batches = self.batches.iter().map(|sorted| sorted.batch.column(at).as_ref());
            let arrays: Vec<&dyn Array> = std::iter::once(none.as_ref()).chain(batches).collect();
            columns.push(interleave(&arrays, &self.rows)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(left.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }
}
