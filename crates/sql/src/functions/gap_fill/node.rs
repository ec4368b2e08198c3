//! The logical node that fills gaps.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;

use super::range::Bound;
use super::series::Filling;
use super::{Fill, GapFillExec};
use crate::functions::time_bucket::{Buckets, GAP_FILL};

/// Adds the buckets that are missing in the groups of an aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::functions) struct GapFill {
    /// The aggregate. Its first columns are the keys of groups.
    pub(super) input: LogicalPlan,
    pub(super) keys: usize,
    /// Which of the keys is the bucket.
    pub(super) time: usize,
    pub(super) width: Expr,
    pub(super) bounds: Vec<Bound>,
    /// One more column each.
    pub(super) fills: Vec<Filled>,
    schema: DFSchemaRef,
}

/// A column without the gaps of an expression over the aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Filled {
    pub(super) fill: Fill,
    pub(super) value: Expr,
    /// What the call was named in the plan.
    pub(super) name: String,
}

impl GapFill {
    /// A node that adds rows and no columns.
    pub(super) fn new(
        input: LogicalPlan,
        keys: usize,
        time: usize,
        width: Expr,
        bounds: Vec<Bound>,
    ) -> Result<Self> {
        let schema = Arc::clone(input.schema());
        Self { input, keys, time, width, bounds, fills: Vec::new(), schema }.with_schema()
    }

    /// The same with further columns.
    pub(super) fn with_fills(mut self, fills: Vec<Filled>) -> Result<Self> {
        for filled in fills {
            if !self.fills.iter().any(|known| known.name == filled.name) {
                self.fills.push(filled);
            }
        }
        self.with_schema()
    }

    fn with_schema(mut self) -> Result<Self> {
        let below = self.input.schema();
        let mut fields: Vec<_> =
            below.iter().map(|(relation, field)| (relation.cloned(), Arc::clone(field))).collect();
        for (_, field) in &mut fields[self.keys..] {
            // An empty bucket has no count either.
            *field = Arc::new(field.as_ref().clone().with_nullable(true));
        }
        for filled in &self.fills {
            let ty = match filled.fill {
                Fill::Locf => filled.value.get_type(below)?,
                Fill::Interpolate => DataType::Float64,
            };
            fields.push((None, Arc::new(Field::new(&filled.name, ty, true))));
        }
        self.schema = Arc::new(DFSchema::new_with_metadata(fields, below.metadata().clone())?);
        Ok(self)
    }
}

impl GapFill {
    /// The operator for it, over the operator of its input.
    pub(in crate::functions) fn plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        expression: impl Fn(&Expr, &DFSchema) -> Result<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let constant = |expr: &Expr| {
            let options = RecordBatchOptions::new().with_row_count(Some(1));
            let one = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
            match expression(expr, &DFSchema::empty())?.evaluate(&one)? {
                ColumnarValue::Scalar(value) => Ok(value),
                ColumnarValue::Array(values) => ScalarValue::try_from_array(&values, 0),
            }
        };
        let ScalarValue::IntervalMonthDayNano(Some(width)) = constant(&self.width)? else {
            return plan_err!("{GAP_FILL}: the width must be a constant, such as INTERVAL '1 hour'");
        };
        let buckets = Buckets::new(width, None).map_err(|error| error.context(GAP_FILL))?;
        let (mut first, mut last) = (None, None);
        for bound in &self.bounds {
            let zone = Some("UTC".into());
            let time = constant(&bound.value)?.cast_to(&DataType::Timestamp(TimeUnit::Nanosecond, zone))?;
            // Nothing passes a comparison with NULL.
            let ScalarValue::TimestampNanosecond(Some(time), _) = time else { continue };
            let start = |time: Option<i64>| time.and_then(|time| buckets.start(time));
            match bound.operator {
                Operator::GtEq => first = first.max(start(Some(time))),
                Operator::Gt => first = first.max(start(time.checked_add(1))),
                Operator::LtEq => last = earlier(last, start(Some(time))),
                _ => last = earlier(last, start(time.checked_sub(1))),
            }
        }
        let filling = Filling {
            schema: Arc::new(self.schema.as_arrow().clone()),
            keys: self.keys,
            time: self.time,
            buckets,
            first,
            last,
            fills: self.fills.iter().map(|filled| filled.fill).collect(),
        };
        let values = self.fills.iter().map(|filled| expression(&filled.value, self.input.schema()));
        Ok(Arc::new(GapFillExec::new(input, Arc::new(filling), values.collect::<Result<_>>()?)))
    }
}

/// The earlier of two ends; `None` is no end.
fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

impl PartialOrd for GapFill {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for GapFill {
    fn name(&self) -> &'static str {
        "GapFill"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let bounds = self.bounds.iter().map(|bound| &bound.value);
        let fills = self.fills.iter().map(|filled| &filled.value);
        std::iter::once(&self.width).chain(bounds).chain(fills).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "GapFill: width={}", self.width)?;
        for bound in &self.bounds {
            write!(f, ", time {} {}", bound.operator, bound.value)?;
        }
        for filled in &self.fills {
            write!(f, ", {}({})", filled.fill.name(), filled.value)?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut node = self.clone();
        let mut exprs = exprs.into_iter();
        let bounds = node.bounds.iter_mut().map(|bound| &mut bound.value);
        let fills = node.fills.iter_mut().map(|filled| &mut filled.value);
        for (into, expr) in std::iter::once(&mut node.width).chain(bounds).chain(fills).zip(&mut exprs) {
            *into = expr;
        }
        if let Some(input) = inputs.pop() {
            node.input = input;
        }
        node.with_schema()
    }
}
