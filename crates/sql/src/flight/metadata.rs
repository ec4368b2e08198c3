//! What clients ask about the server: its catalogs, schemas, tables, keys, types and itself.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use arrow_flight::sql::{Command, CommandGetDbSchemas, CommandGetTables};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tonic::Status;

use super::status::{READ_ONLY, invalid, unwritable};
use super::{info, rows, status};
use crate::catalog::{CATALOG, EVENTS, SYSTEM};
use crate::{Database, SqlError, Table, TableKind};

/// The unit of a column, in its metadata.
const UNIT: &str = "icecore.unit";

/// What does not change while the server runs.
pub(super) struct Metadata {
    server: SqlInfoData,
    types: XdbcTypeInfoData,
}

impl Metadata {
    pub(super) fn new(database: &Database) -> Result<Self, Status> {
        let server = info::server(database).map_err(unwritable)?;
        Ok(Self { server, types: info::types().map_err(unwritable)? })
    }

    /// The columns of the answer to a question about the server.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn schema(&self, question: Command) -> Result<SchemaRef, Status> {
        self.table(question, &[]).map(|table| table.schema())
    }

    /// The answer.
    ///
    /// # Errors
    /// When it is no question about the server, or the log cannot be opened.
    pub(super) async fn answer(&self, question: Command, database: &Database) -> Result<RecordBatch, Status> {
        let tables = match &question {
            Command::CommandGetTables(_) => {
                database.tables().await.map_err(|error: SqlError| status::of(&error))?
            }
            _ => Vec::new(),
        };
        self.table(question, &tables)
    }

    fn table(&self, question: Command, all: &[Table]) -> Result<RecordBatch, Status> {
        let table = match question {
            Command::CommandGetCatalogs(question) => {
                let mut catalogs = question.into_builder();
                catalogs.append(CATALOG);
                catalogs.build()
            }
            Command::CommandGetDbSchemas(question) => schemas(question),
            Command::CommandGetTables(question) => tables(question, all),
            Command::CommandGetTableTypes(question) => {
                let mut types = question.into_builder();
                for kind in [TableKind::Events, TableKind::View, TableKind::System] {
                    types.append(table_type(kind));
                }
                types.build()
            }
            Command::CommandGetSqlInfo(question) => question.into_builder(&self.server).build(),
            Command::CommandGetXdbcTypeInfo(question) => question.into_builder(&self.types).build(),
            Command::CommandGetPrimaryKeys(_) => Ok(primary_keys()),
            Command::CommandGetExportedKeys(_)
            | Command::CommandGetImportedKeys(_)
            | Command::CommandGetCrossReference(_) => Ok(foreign_keys()),
            Command::CommandStatementUpdate(_)
            | Command::CommandPreparedStatementUpdate(_)
            | Command::CommandStatementIngest(_) => return Err(Status::unimplemented(READ_ONLY)),
            Command::CommandStatementSubstraitPlan(_) => {
                return Err(Status::unimplemented("plans of Substrait are not understood; ask in SQL"));
            }
            other => return Err(invalid(format!("{} is nothing that is asked here", other.type_url()))),
        };
        table.map_err(unwritable)
    }
}

fn schemas(question: CommandGetDbSchemas) -> Result<RecordBatch, FlightError> {
    let mut schemas = question.into_builder();
    for name in [EVENTS, SYSTEM] {
        schemas.append(CATALOG, name);
    }
    schemas.build()
}

fn tables(question: CommandGetTables, all: &[Table]) -> Result<RecordBatch, FlightError> {
    let mut tables = question.into_builder();
    for table in all {
        let columns = columns(table);
        tables.append(CATALOG, &table.schema_name, &table.name, table_type(table.kind), &columns)?;
    }
    tables.build()
}

fn table_type(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Events => "TABLE",
        TableKind::View => "VIEW",
        TableKind::System => "SYSTEM TABLE",
    }
}

/// The columns of a table, with what JDBC shows of them.
fn columns(table: &Table) -> Schema {
    let described = |field: &Arc<Field>| {
        let mut told: HashMap<String, String> = field.metadata().clone();
        let mut tell =
            |key: &str, value: &str| told.insert(format!("ARROW:FLIGHT:SQL:{key}"), value.to_owned());
        tell("CATALOG_NAME", CATALOG);
        tell("SCHEMA_NAME", &table.schema_name);
        tell("TABLE_NAME", &table.name);
        tell("TYPE_NAME", info::type_name(field.data_type()));
        tell("IS_READ_ONLY", "1");
        tell("IS_SEARCHABLE", "1");
        tell("IS_AUTO_INCREMENT", "0");
        tell("IS_CASE_SENSITIVE", if info::is_text(field.data_type()) { "1" } else { "0" });
        if let Some(unit) = field.metadata().get(UNIT) {
            tell("REMARKS", unit);
        }
        field.as_ref().clone().with_metadata(told)
    };
    let plain = rows::plain(&table.schema);
    Schema::new_with_metadata(
        plain.fields().iter().map(described).collect::<Vec<_>>(),
        plain.metadata().clone(),
    )
}

/// There are none.
fn primary_keys() -> RecordBatch {
    empty(&[
        ("catalog_name", DataType::Utf8, true),
        ("db_schema_name", DataType::Utf8, true),
        ("table_name", DataType::Utf8, false),
        ("column_name", DataType::Utf8, false),
        ("key_name", DataType::Utf8, true),
        ("key_sequence", DataType::Int32, false),
    ])
}

/// There are none of these either.
fn foreign_keys() -> RecordBatch {
    empty(&[
        ("pk_catalog_name", DataType::Utf8, true),
        ("pk_db_schema_name", DataType::Utf8, true),
        ("pk_table_name", DataType::Utf8, false),
        ("pk_column_name", DataType::Utf8, false),
        ("fk_catalog_name", DataType::Utf8, true),
        ("fk_db_schema_name", DataType::Utf8, true),
        ("fk_table_name", DataType::Utf8, false),
        ("fk_column_name", DataType::Utf8, false),
        ("key_sequence", DataType::Int32, false),
        ("fk_key_name", DataType::Utf8, true),
        ("pk_key_name", DataType::Utf8, true),
        ("update_rule", DataType::UInt8, false),
        ("delete_rule", DataType::UInt8, false),
    ])
}

fn empty(columns: &[(&str, DataType, bool)]) -> RecordBatch {
    let field = |(name, of, nullable): &(&str, DataType, bool)| Field::new(*name, of.clone(), *nullable);
    RecordBatch::new_empty(Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>())))
}
