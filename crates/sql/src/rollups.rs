//! Tables of windows: of each, the row that counts.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::Result;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlanBuilder, ident, lit};

/// The column of which the greatest counts.
const REVISION: &str = "revision";

/// What tells windows apart: each version of the schema has rows of its own.
const WINDOW: [&str; 3] = ["device", "version", "event_time"];

/// The rows of `all` that were not corrected since. That a statement asks for devices or times is asked of `all`.
pub(crate) fn newest(name: &str, all: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    let columns: Vec<Expr> = all.schema().fields().iter().map(|field| ident(field.name())).collect();
    let rank = row_number()
        .partition_by(WINDOW.iter().map(|column| ident(*column)).collect())
        .order_by(vec![ident(REVISION).sort(false, false)])
        .build()?
        .alias("of_window");
    let plan = LogicalPlanBuilder::scan(TableReference::bare(name), provider_as_source(all), None)?
        .window(vec![rank])?
        .filter(ident("of_window").eq(lit(1_u64)))?
        .project(columns)?
        .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}
