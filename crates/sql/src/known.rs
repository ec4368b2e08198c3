//! `known_at('schema', time)`: the table of a schema as it was known at a received time.

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;

use crate::SqlError;
use crate::catalog::Tables;
use crate::instants;

/// The function.
#[derive(Debug)]
pub(crate) struct KnownAt(pub(crate) Arc<Tables>);

impl TableFunctionImpl for KnownAt {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let [table, time] = args.exprs() else {
            let usage = "known_at takes a table and a time: known_at('weather', '2013-01-31T09:00:00Z')";
            return Err(SqlError::statement(usage).into());
        };
        let name = match table {
            Expr::Literal(ScalarValue::Utf8(Some(name)) | ScalarValue::Utf8View(Some(name)), _) => {
                name.as_str()
            }
            // Whoever leaves out the quotes means the same.
            Expr::Column(column) => column.name(),
            other => {
                return Err(SqlError::statement(format!("known_at: {other} is no name of a table")).into());
            }
        };
        let known_at = instants::argument("known_at", time)?;
        Ok(self.0.events(name, known_at)?)
    }
}
