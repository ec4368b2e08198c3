//! What can go wrong with a replay.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_schema::ArrowError;
use icecore_log::LogError;
use icecore_schema::Misfit;
use icecore_tier::catalog::CatalogError;
use icecore_wire::{BatchError, ColumnType, DeviceName, Schema};
use parquet::errors::ParquetError;

/// A replay could not begin or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A stored schema is not what a schema file says.
    #[error("{0}; correct the file, or read events as they were written")]
    Misfit(#[from] Misfit),
    /// A stored batch is not what ingestion lets in, though its checksum holds.
    #[error(
        "the batch at position {position}, of {device} from sequence {first_sequence}, cannot be decoded: {source}"
    )]
    Batch {
        /// The position of its first event.
        position: u64,
        /// Its device.
        device: DeviceName,
        /// The sequence of its first event.
        first_sequence: u64,
        /// What is wrong with it.
        source: BatchError,
    },
    /// What has one header, or one table, was to take events of several schemas.
    #[error("{what} takes one schema, and this matches {}: {}; name one of them, or use NDJSON", names.len(), names.join(", "))]
    SeveralSchemas {
        /// What takes one.
        what: &'static str,
        /// Their names, sorted.
        names: Vec<String>,
    },
    /// A table was to be made of nothing.
    #[error("there are no events of such devices and schemas, so it is not known which columns there are")]
    NoSchema,
    /// Two versions of a schema, neither of which reads as the other, have a field in two types.
    #[error(
        "field {field} of schema {schema} is {} in version {} and {} in version {}, and no column can be both; \
         say in a schema file how the older version reads as the newer, or read one of them",
        newer.1, newer.0, older.1, older.0
    )]
    TwoTypes {
        /// The schema.
        schema: String,
        /// The field.
        field: String,
        /// A version and its type.
        newer: (u32, ColumnType),
        /// An older one.
        older: (u32, ColumnType),
    },
    /// There is no such column.
    #[error("schema {schema} has no column {name}; did you mean {near}?")]
    UnknownColumn {
        /// What was asked for.
        name: String,
        /// The schema.
        schema: String,
        /// The column with the nearest name.
        near: String,
    },
    /// A column of something else was to be compared with a number.
    #[error("column {column} holds no numbers that could be compared")]
    NoNumbers {
        /// Its name.
        column: String,
    },
    /// An event is of a version that the table was not made for: it came after that.
    #[error("the table was not made for schema {name} version {version}")]
    NotInTable {
        /// The schema's name.
        name: String,
        /// Its version.
        version: u32,
    },
    /// Record batches cannot be made or written.
    #[error("arrow: {0}")]
    Arrow(#[from] ArrowError),
    /// A Parquet file cannot be written.
    #[error("parquet: {0}")]
    Parquet(#[from] ParquetError),
    /// The directory of an export does not take it.
    #[error("cannot {what} {}: {source}", directory.display())]
    Export {
        /// What could not be done.
        what: &'static str,
        /// The directory or file.
        directory: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Two exports into one directory.
    #[error("{} is being exported to by another command; wait for it to end", directory.display())]
    ExportRuns {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory holds something else, to which nothing can be added.
    #[error("cannot add to {}: {why}", directory.display())]
    OtherExport {
        /// The directory.
        directory: PathBuf,
        /// What is in the way.
        why: String,
    },
    /// The system has no room for a thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// An event is of a schema that the CSV header was not made for.
    #[error("the CSV header was not made for schema {name} version {version}")]
    NotInHeader {
        /// The schema's name.
        name: String,
        /// Its version.
        version: u32,
    },
    /// The output cannot be written.
    #[error("cannot write the replayed events: {0}")]
    Output(#[source] io::Error),
    /// The directory for sorted runs does not take them.
    #[error(
        "cannot sort by time with temporary files in {}: {source}; \
         set TMPDIR to a directory on a disk with room for the events asked for",
        directory.display()
    )]
    Spill {
        /// The directory.
        directory: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl ReplayError {
    pub(crate) fn several_schemas(what: &'static str, schemas: &[Arc<Schema>]) -> Self {
        let mut names: Vec<String> = schemas.iter().map(|schema| schema.name().to_owned()).collect();
        names.sort();
        names.dedup();
        Self::SeveralSchemas { what, names }
    }

    /// Whether the reader of the output went away (a broken pipe), which is no error.
    pub(crate) fn is_cut_short(&self) -> bool {
        let is_broken = |error: &(dyn std::error::Error + 'static)| {
            error.downcast_ref().is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe)
        };
        match self {
            Self::Output(error) | Self::Arrow(ArrowError::IoError(_, error)) => is_broken(error),
            Self::Parquet(ParquetError::External(error)) => is_broken(&**error),
            _ => false,
        }
    }
}
