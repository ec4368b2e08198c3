//! The tables that a statement finds, by name.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::Result;

use crate::SqlError;
use crate::events::Events;
use crate::names::{nearest, quoted};
use crate::rollups;
use crate::system::SystemTable;
use crate::view::{self, View};

/// The catalog that all tables are in.
pub(crate) const CATALOG: &str = "icecore";
/// The schema with a table for each schema of the log, and those of [`SYSTEM`] that have no name of one.
pub(crate) const EVENTS: &str = "public";
/// The schema with the tables about the log.
pub(crate) const SYSTEM: &str = "system";

/// The tables of a view.
#[derive(Debug)]
pub(crate) struct Tables {
    view: Arc<View>,
}

/// What a name stands for.
enum Found<'a> {
    Schema(&'a str),
    System(SystemTable),
}

impl Tables {
    pub(crate) fn new(view: Arc<View>) -> Self {
        Self { view }
    }

    /// The names of the tables of `EVENTS`.
    fn names(&self) -> Vec<&str> {
        let system = SystemTable::ALL.iter().map(|table| table.name());
        let is_free = |name: &&str| !self.view.schemas().any(|schema| schema.eq_ignore_ascii_case(name));
        self.view.schemas().chain(system.filter(is_free)).collect()
    }

    /// What is called `name`: exactly so, or, if that is unambiguous, with other cases.
    fn find(&self, name: &str) -> std::result::Result<Option<Found<'_>>, SqlError> {
        let is_alike = |schema: &&str| schema.to_lowercase() == name.to_lowercase();
        let alike: Vec<&str> = self.view.schemas().filter(is_alike).collect();
        let exact = alike.iter().find(|schema| **schema == name);
        match (exact, &alike[..]) {
            (Some(schema), _) | (None, [schema]) => Ok(Some(Found::Schema(schema))),
            (None, []) => Ok(SystemTable::called(name).map(Found::System)),
            (None, several) => {
                let forms: Vec<String> = several.iter().map(|schema| quoted(schema)).collect();
                Err(SqlError::statement(format!(
                    "{name} may be {}; quote the one that is meant",
                    forms.join(" or ")
                )))
            }
        }
    }

    /// The table called `name`.
    fn table(&self, name: &str) -> std::result::Result<Option<Arc<dyn TableProvider>>, SqlError> {
        match self.find(name)? {
            Some(Found::System(table)) => Ok(Some(table.provider(&self.view))),
            Some(Found::Schema(schema)) => self.events_of(schema, None).map(Some),
            None => Ok(None),
        }
    }

    /// The events of a schema as they were known at a time.
    ///
    /// # Errors
    /// When there is no such schema; the error names the nearest.
    pub(crate) fn events(
        &self,
        name: &str,
        known_at: Option<i64>,
    ) -> std::result::Result<Arc<dyn TableProvider>, SqlError> {
        match self.find(name)? {
            Some(Found::Schema(schema)) => self.events_of(schema, known_at),
            _ => Err(self.unknown(name)),
        }
    }

    fn events_of(
        &self,
        schema: &str,
        known_at: Option<i64>,
    ) -> std::result::Result<Arc<dyn TableProvider>, SqlError> {
        let table = self.view.table(schema)?.ok_or_else(|| self.unknown(schema))?;
        let events = Arc::new(Events::new(Arc::clone(&self.view), table, known_at));
        match view::is_derived(schema) {
            true => Ok(rollups::newest(schema, events)?),
            false => Ok(events),
        }
    }

    /// There is no such table.
    pub(crate) fn unknown(&self, name: &str) -> SqlError {
        let near = nearest(name, self.names());
        let near = near.map_or_else(
            || "nothing was stored yet".to_owned(),
            |near| format!("did you mean {}? SHOW TABLES lists all", quoted(near)),
        );
        SqlError::statement(format!("there is no table {name}; {near}"))
    }
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        self.names().into_iter().map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.table(name)?)
    }

    fn table_exist(&self, name: &str) -> bool {
        matches!(self.find(name), Ok(Some(_)))
    }
}

/// The tables about the log.
#[derive(Debug)]
struct System(Arc<View>);

#[async_trait]
impl SchemaProvider for System {
    fn table_names(&self) -> Vec<String> {
        SystemTable::ALL.iter().map(|table| table.name().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(SystemTable::called(name).map(|table| table.provider(&self.0)))
    }

    fn table_exist(&self, name: &str) -> bool {
        SystemTable::called(name).is_some()
    }
}

/// The catalog.
#[derive(Debug)]
pub(crate) struct Catalog(pub(crate) Arc<Tables>);

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        vec![EVENTS.to_owned(), SYSTEM.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            EVENTS => Some(Arc::clone(&self.0) as _),
            SYSTEM => Some(Arc::new(System(Arc::clone(&self.0.view)))),
            _ => None,
        }
    }
}
