//! The buckets of one series: the rows of an aggregate that differ in time only, without gaps.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, RecordBatch, TimestampNanosecondArray, UInt32Array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Float64Type, SchemaRef, TimestampNanosecondType};
use datafusion::common::exec_err;
use datafusion::error::Result;

use super::Fill;
use crate::functions::time_bucket::Buckets;

/// How series are filled.
#[derive(Debug)]
pub(super) struct Filling {
    pub(super) schema: SchemaRef,
    pub(super) keys: usize,
    pub(super) time: usize,
    pub(super) buckets: Buckets,
    /// The first and the last bucket that is asked for; where the query does not say, the first and the last of the series.
    pub(super) first: Option<i64>,
    pub(super) last: Option<i64>,
    pub(super) fills: Vec<Fill>,
}

/// A series that is being filled.
pub(super) struct Series {
    rows: RecordBatch,
    /// One for each column that is to be filled.
    values: Vec<Values>,
    times: TimestampNanosecondArray,
    /// The bucket that comes next; `None` at the end.
    next: Option<i64>,
    last: i64,
    /// How many rows were passed.
    row: usize,
}

/// Values that are to be filled, and where there are any.
struct Values {
    values: ArrayRef,
    /// For each row, the last at or before it that has a value.
    before: Vec<Option<u32>>,
    /// For each row, the first at or after it that has a value, and one more entry behind the last.
    after: Vec<Option<u32>>,
}

impl Values {
    fn new(values: ArrayRef) -> Self {
        let nulls = values.logical_nulls();
        let known = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        let before = nearest(0..values.len(), known);
        let mut after = nearest((0..values.len()).rev(), known);
        after.reverse();
        after.push(None);
        Self { values, before, after }
    }

    /// The last row with a value among the first so many.
    fn before(&self, passed: u32) -> Option<u32> {
        self.before[(passed as usize).checked_sub(1)?]
    }

    fn carried_forward(&self, buckets: &[Bucket]) -> Result<ArrayRef> {
        let rows: UInt32Array = buckets.iter().map(|bucket| self.before(bucket.passed)).collect();
        Ok(take(&self.values, &rows, None)?)
    }

    fn interpolated(&self, buckets: &[Bucket], times: &[i64]) -> ArrayRef {
        let values = self.values.as_primitive::<Float64Type>();
        let between = |bucket: &Bucket| {
            let from = self.before(bucket.passed)? as usize;
            if times[from] == bucket.start {
                return Some(values.value(from));
            }
            let to = self.after[bucket.passed as usize]? as usize;
            // Times may be further apart than i64 reaches.
            let [passed, whole] =
                [bucket.start, times[to]].map(|time| i128::from(time) - i128::from(times[from]));
            Some(
                values.value(from) + (values.value(to) - values.value(from)) * (passed as f64 / whole as f64),
            )
        };
        Arc::new(buckets.iter().map(between).collect::<Float64Array>())
    }
}

/// For each row, in the order in which they are passed, the last one passed that has a value.
fn nearest(rows: impl Iterator<Item = usize>, known: impl Fn(usize) -> bool) -> Vec<Option<u32>> {
    let passed = rows.scan(None, |nearest, row| {
        if known(row) {
            *nearest = u32::try_from(row).ok();
        }
        Some(*nearest)
    });
    passed.collect()
}

/// A bucket of the answer.
struct Bucket {
    start: i64,
    /// The row that it is.
    row: Option<u32>,
    /// How many rows come up to it, it included.
    passed: u32,
}

impl Series {
    /// Begins with rows in the order of time, behind whose columns stand the values to be filled.
    pub(super) fn new(filling: &Filling, rows: RecordBatch) -> Result<Self> {
        let times = rows.column(filling.time).as_primitive::<TimestampNanosecondType>().clone();
        if times.null_count() > 0 {
            return exec_err!(
                "time_bucket_gapfill: some rows have no time, or one too early for a bucket; leave them out with WHERE"
            );
        }
        if u32::try_from(rows.num_rows()).is_err() {
            return exec_err!(
                "time_bucket_gapfill: a series has {} buckets, which are too many",
                rows.num_rows()
            );
        }
        let columns = rows.num_columns() - filling.fills.len();
        let values = rows.columns()[columns..].iter().map(|values| Values::new(Arc::clone(values))).collect();
        let (Some(&earliest), Some(&latest)) = (times.values().first(), times.values().last()) else {
            return exec_err!("time_bucket_gapfill: a series without rows");
        };
        let next = Some(filling.first.map_or(earliest, |first| first.min(earliest)));
        let last = filling.last.map_or(latest, |last| last.max(latest));
        Ok(Self { rows, values, times, next, last, row: 0 })
    }

    /// The next buckets, that many at most; `None` at the end.
    pub(super) fn next(&mut self, filling: &Filling, most: usize) -> Result<Option<RecordBatch>> {
        let mut buckets = Vec::new();
        while buckets.len() < most
            && let Some(start) = self.next
        {
            let is_there = self.times.values().get(self.row) == Some(&start);
            let row = is_there.then_some(self.row as u32);
            self.row += usize::from(is_there);
            buckets.push(Bucket { start, row, passed: self.row as u32 });
            self.next = if start < self.last { filling.buckets.next(start) } else { None };
        }
        if buckets.is_empty() {
            return Ok(None);
        }
        self.filled(filling, &buckets).map(Some)
    }

    fn filled(&self, filling: &Filling, buckets: &[Bucket]) -> Result<RecordBatch> {
        let same = UInt32Array::from_value(0, buckets.len());
        let own: UInt32Array = buckets.iter().map(|bucket| bucket.row).collect();
        let mut columns = Vec::with_capacity(filling.schema.fields().len());
        for (at, column) in
            self.rows.columns()[..filling.schema.fields().len() - self.values.len()].iter().enumerate()
        {
            columns.push(if at == filling.time {
                let starts =
                    TimestampNanosecondArray::from_iter_values(buckets.iter().map(|bucket| bucket.start));
                let DataType::Timestamp(_, zone) = column.data_type() else {
                    return exec_err!("time_bucket_gapfill: the bucket is no time");
                };
                Arc::new(starts.with_timezone_opt(zone.clone()))
            } else {
                take(column, if at < filling.keys { &same } else { &own }, None)?
            });
        }
        for (fill, values) in filling.fills.iter().zip(&self.values) {
            columns.push(match fill {
                Fill::Locf => values.carried_forward(buckets)?,
                Fill::Interpolate => values.interpolated(buckets, self.times.values()),
            });
        }
        Ok(RecordBatch::try_new(Arc::clone(&filling.schema), columns)?)
    }
}
