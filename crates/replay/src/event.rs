//! One replayed event.

use std::sync::Arc;

use icecore_log::Source;
use icecore_schema::{Cell, Upcast};
use icecore_wire::{ColumnView, Schema, Value};

use crate::sort::SpilledValues;

/// One event with everything that is known of it. Times are nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Its device and epoch.
    pub source: &'a Arc<Source>,
    /// Its schema.
    pub schema: &'a Arc<Schema>,
    /// Its number within its epoch.
    pub sequence: u64,
    /// Its number within the log.
    pub position: u64,
    /// When it happened, by the device's clock.
    pub event_time: i64,
    /// When it was received, by the server's clock.
    pub received_time: i64,
    /// Whether the device had no trustworthy clock.
    pub time_uncertain: bool,
    pub(crate) cells: Cells<'a>,
}

impl<'a> Event<'a> {
    /// Its values, one per field of the schema.
    pub fn values(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        match self.cells {
            Cells::Columns { columns, row } => FieldValues::Columns { columns: columns.iter(), row },
            Cells::Upcast { upcast, cells } => FieldValues::Upcast { upcast, cells, field: 0 },
            Cells::Spilled(values) => FieldValues::Spilled(values),
        }
    }
}

/// Where an event's values lie.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cells<'a> {
    /// In one row of a batch.
    Columns { columns: &'a [ColumnView<'a>], row: usize },
    /// Computed from a row of an older version.
    Upcast { upcast: &'a Upcast, cells: &'a [Cell<'a>] },
    /// One after the other, as the sort by time keeps them.
    Spilled(SpilledValues<'a>),
}

/// The values of one event in the order of its schema's fields.
enum FieldValues<'a> {
    Columns { columns: std::slice::Iter<'a, ColumnView<'a>>, row: usize },
    Upcast { upcast: &'a Upcast, cells: &'a [Cell<'a>], field: usize },
    Spilled(SpilledValues<'a>),
}

impl<'a> Iterator for FieldValues<'a> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        match self {
            Self::Columns { columns, row } => columns.next().map(|column| column.value(*row)),
            Self::Upcast { upcast, cells, field } => {
                let value = upcast.value(cells, *field);
                *field += 1;
                value
            }
            Self::Spilled(values) => values.next(),
        }
    }
}
