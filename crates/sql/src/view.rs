//! The log as one statement sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use icecore_log::OnDamage;
use icecore_replay::{Query, Replay, ReplayError, Table};
use icecore_wire::{Glob, Schema};

use crate::SqlError;
use crate::covered::Tally;

/// Labels of devices, by the device's name.
pub type Labels = BTreeMap<String, BTreeMap<String, String>>;

/// A log that was opened for a statement.
pub struct Opened {
    /// The log.
    pub replay: Arc<Replay>,
    /// The labels that devices have now; `None` where there is no registry: of a bucket alone.
    pub labels: Option<Labels>,
}

impl Opened {
    /// A log of which nothing more is known.
    #[must_use]
    pub fn new(replay: Arc<Replay>) -> Self {
        Self { replay, labels: None }
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("replay", &self.replay).finish_non_exhaustive()
    }
}

/// The log as a statement sees it, and what the statement has read of it.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) opened: Opened,
    pub(crate) on_damage: OnDamage,
    pub(crate) tally: Arc<Tally>,
    /// By the name of the schema; or why it is no table.
    tables: BTreeMap<String, Result<Arc<Table>, String>>,
}

impl View {
    /// Looks at the schemas of a log. This blocks.
    pub(crate) fn new(opened: Opened, on_damage: OnDamage) -> Result<Self, ReplayError> {
        let query = Query { on_damage, ..Query::default() };
        let mut schemas = opened.replay.schemas(&query)?;
        if schemas.iter().any(|schema| schema.is_derived()) {
            // Versions of what is derived stand for themselves.
            schemas.retain(|schema| !schema.is_derived());
            let mut derived = opened.replay.schemas(&Query { as_written: true, ..query })?;
            derived.retain(|schema| schema.is_derived());
            schemas.append(&mut derived);
        }
        let mut versions: BTreeMap<String, Vec<Arc<Schema>>> = BTreeMap::new();
        for schema in schemas {
            versions.entry(schema.name().to_owned()).or_default().push(schema);
        }
        let table = |(name, versions): (String, Vec<Arc<Schema>>)| {
            let table = Table::new(&versions).map(|table| match is_derived(&name) {
                true => Arc::new(table.with_version()),
                false => Arc::new(table),
            });
            (name, table.map_err(|error| error.to_string()))
        };
        let tables = versions.into_iter().map(table).collect();
        let tally = Arc::new(Tally::new(Arc::clone(&opened.replay)));
        Ok(Self { opened, on_damage, tally, tables })
    }

    /// The names of the schemas.
    pub(crate) fn schemas(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    /// The table of a schema; `None` if there is no such schema.
    ///
    /// # Errors
    /// When its versions do not make one table.
    pub(crate) fn table(&self, schema: &str) -> Result<Option<Arc<Table>>, SqlError> {
        let table = self.tables.get(schema).cloned().transpose();
        table.map_err(SqlError::Execution)
    }

    /// All events of a schema.
    pub(crate) fn query(&self, schema: &str) -> Query {
        let (schemas, as_written) = (Glob::new(schema), is_derived(schema));
        Query { schemas, as_written, on_damage: self.on_damage, ..Query::default() }
    }
}

/// Whether a server derived the schema of this name from another one.
pub(crate) fn is_derived(schema: &str) -> bool {
    Schema::split_derived(schema).is_some()
}
