//! The logical node of a join as of a time.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, DFSchemaRef, JoinType, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::binary::comparison_coercion;
use datafusion::logical_expr::{
    Expr, ExprSchemable, Extension, LogicalPlan, UserDefinedLogicalNodeCore, build_join_schema, cast,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;

use super::AsOfExec;
use super::exec::Side;

/// All rows of the left side, each beside the newest row of the right side with the same keys that is not later.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::functions) struct AsOf {
    pub(super) left: LogicalPlan,
    pub(super) right: LogicalPlan,
    pub(super) keys: Vec<(Expr, Expr)>,
    pub(super) times: (Expr, Expr),
    /// Whether the right side must be earlier, not only not later.
    pub(super) strict: bool,
    schema: DFSchemaRef,
}

impl AsOf {
    pub(super) fn new(
        left: LogicalPlan,
        right: LogicalPlan,
        keys: Vec<(Expr, Expr)>,
        times: (Expr, Expr),
        strict: bool,
    ) -> Result<Self> {
        let comparable = |(one, other): (Expr, Expr)| {
            let types = (one.get_type(left.schema())?, other.get_type(right.schema())?);
            if types.0 == types.1 {
                return Ok((one, other));
            }
            match comparison_coercion(&types.0, &types.1) {
                Some(ty) => Ok((cast(one, ty.clone()), cast(other, ty))),
                None => {
                    plan_err!("ASOF JOIN: {one} and {other} cannot be compared: {} and {}", types.0, types.1)
                }
            }
        };
        let keys = keys.into_iter().map(comparable).collect::<Result<Vec<_>>>()?;
        for (one, other) in &keys {
            // Rows meet where the bytes of their keys are the same, and floats that are equal need not have the same.
            if has_floats(&one.get_type(left.schema())?) {
                return plan_err!(
                    "ASOF JOIN: {one} and {other} are compared as floats, which are no keys: cast both to an integer or a text"
                );
            }
        }
        let times = comparable(times)?;
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &JoinType::Left)?);
        Ok(Self { left, right, keys, times, strict, schema })
    }

    pub(super) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// The operator for it, over the operators of its sides.
    pub(in crate::functions) fn plan(
        &self,
        left: Arc<dyn ExecutionPlan>,
        right: Arc<dyn ExecutionPlan>,
        expression: impl Fn(&Expr, &DFSchema) -> Result<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let side = |input, of: &LogicalPlan, key: fn(&(Expr, Expr)) -> &Expr| -> Result<Side> {
            let keys =
                self.keys.iter().map(|pair| expression(key(pair), of.schema())).collect::<Result<_>>()?;
            Ok(Side { input, keys, time: expression(key(&self.times), of.schema())? })
        };
        let left = side(left, &self.left, |pair| &pair.0)?;
        let right = side(right, &self.right, |pair| &pair.1)?;
        Ok(Arc::new(AsOfExec::new(left, right, self.strict, Arc::new(self.schema.as_arrow().clone()))))
    }
}

fn has_floats(ty: &DataType) -> bool {
    match ty {
        DataType::Dictionary(_, values) => has_floats(values),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            has_floats(item.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| has_floats(field.data_type())),
        ty => ty.is_floating(),
    }
}

impl PartialOrd for AsOf {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for AsOf {
    fn name(&self) -> &'static str {
        "AsOfJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let pairs = self.keys.iter().chain([&self.times]);
        pairs.flat_map(|(left, right)| [left.clone(), right.clone()]).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (left, right) = &self.times;
        write!(f, "AsOfJoin: {left} {} {right}", if self.strict { ">" } else { ">=" })?;
        self.keys.iter().try_for_each(|(left, right)| write!(f, ", {left} = {right}"))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut exprs = exprs.into_iter();
        let mut pairs = Vec::with_capacity(self.keys.len() + 1);
        while let (Some(left), Some(right)) = (exprs.next(), exprs.next()) {
            pairs.push((left, right));
        }
        let mut inputs = inputs.into_iter();
        match (pairs.pop(), inputs.next(), inputs.next()) {
            (Some(times), Some(left), Some(right)) => Self::new(left, right, pairs, times, self.strict),
            _ => plan_err!("an ASOF JOIN has two sides and a condition"),
        }
    }

    fn necessary_children_exprs(&self, columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let from_right = self.left.schema().fields().len();
        let (left, right): (Vec<_>, Vec<_>) = columns.iter().partition(|column| **column < from_right);
        Some(vec![left, right.into_iter().map(|column| column - from_right).collect()])
    }
}
