//! Functions for time series.

use datafusion::error::Result;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;

/// Makes them known to the statements of a session.
#[expect(clippy::unnecessary_wraps, reason = "there are none yet")]
pub(crate) fn register(_context: &SessionContext) -> Result<()> {
    Ok(())
}

/// Writes what is said in their own syntax as the engine understands it.
pub(crate) fn nest(_statement: &mut Statement) {}
