//! Batches: events of one device and one schema in columns, with contiguous sequences.
//!
//! A batch payload is an rkyv archive ([`archive`]), written once ([`builder`], [`encode`]), checked in full once
//! ([`view`]) and read where it lies ([`column`]). Number columns may be compressed with pco ([`packed`]). Small ones
//! travel without what the receiver can write itself ([`compact`]).

mod archive;
mod builder;
mod column;
mod compact;
mod encode;
mod packed;
mod rebase;
mod view;

#[cfg(test)]
mod tests;

pub use builder::{BatchBuilder, fits_plain};
pub use column::{Bitmap, BytesValues, Column, ColumnData, ColumnView, TextValues, Value, Values};
pub(crate) use compact::{compact, expand, header as compact_header};
pub use encode::{EncodeOptions, encode};
pub use packed::check_pco_claims;
pub use rebase::rebase;
pub use view::{Batch, BatchHeader};

use crate::limits::{MAX_BATCH_BYTES, MAX_DECODED_BATCH_BYTES, MAX_ROWS, MAX_SEQUENCE};
use crate::{ColumnType, SchemaId};

/// How a column's data are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Encoding {
    Plain = 0,
    Pco = 1,
}

impl Encoding {
    fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            0 => Some(Self::Plain),
            1 => Some(Self::Pco),
            _ => None,
        }
    }
}

/// Flag: the device had no trustworthy clock.
const FLAG_TIME_UNCERTAIN: u32 = 1;

/// Why a batch cannot be made or is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The payload is not a well-formed archive.
    #[error("the payload is not a well-formed batch archive: {0}")]
    Archive(String),
    /// The compact form is not one of a batch of its schema.
    #[error("the compact form of the batch {0}")]
    Compact(&'static str),
    /// The batch names a schema other than the one it is read with.
    #[error("the batch is of schema {found}, not {expected}")]
    WrongSchema {
        /// The schema the batch is read with.
        expected: SchemaId,
        /// The schema the batch names.
        found: SchemaId,
    },
    /// The batch's schema was not announced on its stream.
    #[error("schema {0} was not announced on this stream before its first batch")]
    UnknownSchema(SchemaId),
    /// No rows, or too many.
    #[error("a batch has 1 to {MAX_ROWS} rows, not {0}")]
    RowCount(usize),
    /// The payload is, or would be, too large.
    #[error("a batch payload has at most {MAX_BATCH_BYTES} bytes, not {0}")]
    TooLarge(usize),
    /// The decoded columns would be too large.
    #[error("the columns of a batch decode to at most {MAX_DECODED_BATCH_BYTES} bytes, not {0}")]
    DecodedTooLarge(usize),
    /// The sequences run past the highest one.
    #[error("{count} events from sequence {first_sequence} on run past the highest sequence {MAX_SEQUENCE}")]
    SequenceOverflow {
        /// The sequence of the first event.
        first_sequence: u64,
        /// How many events.
        count: u32,
    },
    /// A flag that this version does not know is set.
    #[error("unknown flags {0:#x}")]
    UnknownFlags(u32),
    /// The number of columns (or of a row's values) is not that of the schema's fields.
    #[error("{found} columns where the schema has {expected} fields")]
    ColumnCount {
        /// Fields of the schema.
        expected: usize,
        /// Columns or values given.
        found: usize,
    },
    /// A column is wrong.
    #[error("column {column:?}: {error}")]
    Column {
        /// The field's name, `event time` for the times.
        column: String,
        /// What is wrong.
        error: ColumnError,
    },
}

/// What is wrong with a column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ColumnError {
    /// Another type than the schema says.
    #[error("holds {found}, the schema says {expected}")]
    Type {
        /// The field's type.
        expected: ColumnType,
        /// What was found.
        found: String,
    },
    /// An encoding that is unknown or does not fit the type.
    #[error("encoding {0} is unknown or does not fit the type")]
    Encoding(u8),
    /// A part of the column has the wrong length.
    #[error("{part} has length {found}, not {expected}")]
    Length {
        /// Which part: values, validity, offsets or data.
        part: &'static str,
        /// What it should be.
        expected: usize,
        /// What it is.
        found: usize,
    },
    /// A null in a field that is not nullable.
    #[error("has nulls, but the field is not nullable")]
    NotNullable,
    /// A bitmap has bits set after its last row.
    #[error("{0} has bits set after the last row")]
    BitmapTail(&'static str),
    /// A byte vector does not start on a multiple of 8.
    #[error("a byte vector does not start on a multiple of 8")]
    Misaligned,
    /// The offsets do not run from 0 to the length of the data, ascending.
    #[error("the offsets do not ascend from 0 to the length of the data (row {row})")]
    Offsets {
        /// Where.
        row: usize,
    },
    /// A text is not UTF-8.
    #[error("the text of row {row} is not UTF-8")]
    Utf8 {
        /// Where.
        row: usize,
    },
    /// The pco data are damaged, or claim more than the batch needs.
    #[error("pco: {0}")]
    Pco(String),
}

impl ColumnError {
    fn of(self, column: &str) -> BatchError {
        BatchError::Column { column: column.to_owned(), error: self }
    }
}

/// What stands for a field's name where the event times are meant.
const TIME_COLUMN: &str = "event time";
