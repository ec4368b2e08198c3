//! Batches: events of one device and one schema in columns, with contiguous sequences.

mod builder;
mod column;
mod encode;
mod view;

pub use builder::BatchBuilder;
pub use column::{Bitmap, BytesValues, Column, ColumnData, ColumnView, TextValues, Value, Values};
pub use encode::{EncodeOptions, encode};
pub use view::{Batch, BatchHeader};

use crate::SchemaId;

/// Why a batch cannot be made or is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The payload is not a well-formed archive.
    #[error("the payload is not a well-formed batch archive: {0}")]
    Archive(String),
    /// The batch names a schema other than the one it is read with.
    #[error("the batch is of schema {found}, not {expected}")]
    WrongSchema {
        /// The schema the batch is read with.
        expected: SchemaId,
        /// The schema the batch names.
        found: SchemaId,
    },
}
