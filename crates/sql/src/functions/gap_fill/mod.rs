//! `time_bucket_gapfill`: groups for the buckets in which nothing happened, too.
//!
//! `GROUP BY time_bucket_gapfill(width, time), device` is planned as an aggregate like any other. [`FillGaps`] makes the call an ordinary
//! bucket and puts a [`GapFill`] node above the aggregate, which adds the missing rows of each device in time order. What
//! `locf` and `interpolate` are called with above it becomes further columns of that node.

mod exec;
mod node;
mod range;
mod rule;
mod series;
#[cfg(test)]
mod tests;

use exec::GapFillExec;
pub(super) use node::GapFill;
pub(super) use rule::FillGaps;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// What stands in a bucket that has no value of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fill {
    /// The value before it: last observation carried forward.
    Locf,
    /// What lies on the line between the value before it and the one after it.
    Interpolate,
}

impl Fill {
    fn name(self) -> &'static str {
        match self {
            Self::Locf => "locf",
            Self::Interpolate => "interpolate",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Locf, Self::Interpolate].into_iter().find(|fill| fill.name() == name)
    }

    /// The call by which SQL asks for it.
    pub(super) fn function(self) -> ScalarUDF {
        let signature = match self {
            Self::Locf => Signature::any(1, Volatility::Stable),
            Self::Interpolate => Signature::exact(vec![DataType::Float64], Volatility::Stable),
        };
        ScalarUDF::from(FillCall { fill: self, signature })
    }
}

/// A call that [`FillGaps`] replaces where it can.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FillCall {
    fill: Fill,
    signature: Signature,
}

impl ScalarUDFImpl for FillCall {
    fn name(&self) -> &str {
        self.fill.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!(
            "{} fills what is grouped by time_bucket_gapfill: it must stand around an aggregate in SELECT or HAVING of such a query, \
             such as {0}(avg(temperature))",
            self.name()
        )
    }
}
