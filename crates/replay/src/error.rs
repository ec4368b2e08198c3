//! What can go wrong with a replay.

use std::io;
use std::path::PathBuf;

use icecore_log::LogError;
use icecore_schema::Misfit;
use icecore_tier::catalog::CatalogError;
use icecore_wire::{BatchError, DeviceName};

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
    /// CSV has one header, and the query matches several schemas.
    #[error("CSV takes one schema, and this matches {}: {}; name one of them, or use NDJSON", names.len(), names.join(", "))]
    SeveralSchemas {
        /// Their names, sorted.
        names: Vec<String>,
    },
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
