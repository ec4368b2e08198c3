//! Values that a state keeps.

use icecore_wire::Value;
use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::MAX_LAST_BYTES;

/// A value of an event that outlives the event's batch.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Kept {
    /// The bits of a double.
    F64(u64),
    /// The bits of a single.
    F32(u32),
    /// A signed integer.
    I64(i64),
    /// An unsigned integer.
    U64(u64),
    /// A truth value.
    Bool(bool),
    /// Nanoseconds since the Unix epoch.
    Timestamp(i64),
    /// A text, or its beginning.
    Text {
        /// Its first bytes, whole characters.
        start: String,
        /// How many bytes the whole text has.
        bytes: u32,
    },
    /// A byte string, or its beginning.
    Bytes {
        /// Its first bytes.
        start: Vec<u8>,
        /// How many bytes the whole string has.
        bytes: u32,
    },
    /// A list, which is not kept: the log has it.
    List,
}

impl Kept {
    /// Keeps a value; `None` for a null.
    #[must_use]
    pub fn of(value: Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Null => return None,
            Value::F64(value) => Self::F64(value.to_bits()),
            Value::F32(value) => Self::F32(value.to_bits()),
            Value::I64(value) => Self::I64(value),
            Value::U64(value) => Self::U64(value),
            Value::Bool(value) => Self::Bool(value),
            Value::Timestamp(value) => Self::Timestamp(value),
            Value::Text(text) => Self::Text {
                start: text[..text.floor_char_boundary(MAX_LAST_BYTES)].to_owned(),
                bytes: text.len() as u32,
            },
            Value::Bytes(bytes) => {
                let start = bytes[..bytes.len().min(MAX_LAST_BYTES)].to_vec();
                Self::Bytes { start, bytes: bytes.len() as u32 }
            }
            Value::F32List(_) | Value::I16List(_) => Self::List,
        })
    }

    /// The value, of a text or a byte string what is kept; nothing of a list.
    #[must_use]
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::F64(bits) => Value::F64(f64::from_bits(*bits)),
            Self::F32(bits) => Value::F32(f32::from_bits(*bits)),
            Self::I64(value) => Value::I64(*value),
            Self::U64(value) => Value::U64(*value),
            Self::Bool(value) => Value::Bool(*value),
            Self::Timestamp(value) => Value::Timestamp(*value),
            Self::Text { start, .. } => Value::Text(start),
            Self::Bytes { start, .. } => Value::Bytes(start),
            Self::List => Value::Null,
        }
    }

    /// Whether it is this value, kept whole. Floating-point numbers are the same when their bits are.
    pub(crate) fn is(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::F64(bits), Value::F64(value)) => *bits == value.to_bits(),
            (Self::F32(bits), Value::F32(value)) => *bits == value.to_bits(),
            (Self::U64(kept), Value::U64(value)) => *kept == value,
            (Self::Bool(kept), Value::Bool(value)) => *kept == value,
            (Self::I64(kept), Value::I64(value)) | (Self::Timestamp(kept), Value::Timestamp(value)) => {
                *kept == value
            }
            (Self::Text { start, .. }, Value::Text(text)) => start == text,
            (Self::Bytes { start, .. }, Value::Bytes(bytes)) => start == bytes,
            _ => false,
        }
    }
}
