//! One cell: its types and how text becomes a value.

use icecore_wire::{ColumnType, Value};

use crate::instant::parse_event_time;

/// The types a column of a CSV file can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CellType {
    F64,
    F32,
    I64,
    U64,
    Bool,
    Text,
    Timestamp,
}

impl CellType {
    /// Every name that [`Self::from_name`] reads, for messages; `i64` and `f64` are understood too.
    pub(super) const NAMES: &str = "float, f32, int, u64, bool, bool(0/1), text, timestamp";

    /// Reads the name of a type as `--fields` gives it.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "float" | "f64" => Some(Self::F64),
            "f32" => Some(Self::F32),
            "int" | "i64" => Some(Self::I64),
            "u64" => Some(Self::U64),
            "bool" | "bool(0/1)" => Some(Self::Bool),
            "text" => Some(Self::Text),
            "timestamp" => Some(Self::Timestamp),
            _ => None,
        }
    }

    /// The name by which `--fields` gives this type.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F64 => "float",
            Self::F32 => "f32",
            Self::I64 => "int",
            Self::U64 => "u64",
            Self::Bool => "bool",
            Self::Text => "text",
            Self::Timestamp => "timestamp",
        }
    }

    pub(super) fn column_type(self) -> ColumnType {
        match self {
            Self::F64 => ColumnType::F64,
            Self::F32 => ColumnType::F32,
            Self::I64 => ColumnType::I64,
            Self::U64 => ColumnType::U64,
            Self::Bool => ColumnType::Bool,
            Self::Text => ColumnType::Text,
            Self::Timestamp => ColumnType::Timestamp,
        }
    }

    /// What a cell of this type looks like, for messages.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::F64 | Self::F32 => "a number (float)",
            Self::I64 => "a whole number (int)",
            Self::U64 => "a whole number of at least 0 (u64)",
            Self::Bool => "true, false, 1 or 0 (bool)",
            Self::Text => "text",
            Self::Timestamp => {
                "a time: RFC 3339 such as 2024-05-01T12:00:00Z, or integer nanoseconds since 1970"
            }
        }
    }

    /// Reads a cell; an empty one is missing whatever its type. `None` if the text does not have this type.
    pub(super) fn parse(self, text: &str) -> Option<Value<'_>> {
        if text.is_empty() {
            return Some(Value::Null);
        }
        match self {
            Self::F64 => text.parse().ok().map(Value::F64),
            Self::F32 => text.parse().ok().map(Value::F32),
            Self::I64 => text.parse().ok().map(Value::I64),
            Self::U64 => text.parse().ok().map(Value::U64),
            Self::Bool => match text {
                "true" | "True" | "TRUE" | "1" => Some(Value::Bool(true)),
                "false" | "False" | "FALSE" | "0" => Some(Value::Bool(false)),
                _ => None,
            },
            Self::Text => Some(Value::Text(text)),
            Self::Timestamp => parse_event_time(text).map(Value::Timestamp),
        }
    }
}
