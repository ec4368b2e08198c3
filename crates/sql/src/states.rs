//! `state_at(time, known_at)`: what devices looked like, a row for each field.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::Result;
use icecore_replay::{AsOf, ReplayError, States, format_instant};

use crate::SqlError;
use crate::instants;
use crate::system::{Asked, Computed, Rows};
use crate::view::View;

/// The function.
#[derive(Debug)]
pub(crate) struct StateAt(pub(crate) Arc<View>);

impl TableFunctionImpl for StateAt {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let time = |at: usize| match args.exprs().get(at) {
            Some(argument) => instants::argument("state_at", argument),
            None => Ok(None),
        };
        if args.exprs().len() > 2 {
            let usage =
                "state_at takes an event time and a received time, either of which may be NULL or left out";
            return Err(SqlError::statement(usage).into());
        }
        let as_of = AsOf { at: time(0)?, known_at: time(1)? };
        Ok(Arc::new(Computed::new(Arc::clone(&self.0), Arc::new(Fields(as_of)))))
    }
}

/// The fields of all devices as of an instant.
#[derive(Debug)]
struct Fields(AsOf);

impl Rows for Fields {
    fn name(&self) -> String {
        let time = |time: Option<i64>| time.map_or_else(|| "NULL".to_owned(), format_instant);
        format!("state_at({}, {})", time(self.0.at), time(self.0.known_at))
    }

    fn schema(&self) -> SchemaRef {
        States::table_schema()
    }

    fn rows(&self, view: &View, asked: &Asked) -> std::result::Result<RecordBatch, SqlError> {
        let states = asked.devices.states(&view.opened.replay, self.0)?;
        Ok(states.table().map_err(ReplayError::from)?)
    }
}
