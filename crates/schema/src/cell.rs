//! One value while it is computed with.

use std::borrow::Cow;

use icecore_wire::{ColumnType, Value};

/// A value of a row that is read as another version. Texts may be new ones, everything else is borrowed or small.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// An integer or a time.
    Integer(i128),
    /// A double or a single.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(Cow<'a, str>),
    /// Bytes and lists: they are only handed on.
    Opaque(Value<'a>),
}

impl<'a> From<Value<'a>> for Cell<'a> {
    fn from(value: Value<'a>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::F64(number) => Self::Float(number),
            Value::F32(number) => Self::Float(number.into()),
            Value::I64(number) | Value::Timestamp(number) => Self::Integer(number.into()),
            Value::U64(number) => Self::Integer(number.into()),
            Value::Bool(flag) => Self::Bool(flag),
            Value::Text(text) => Self::Text(Cow::Borrowed(text)),
            Value::Bytes(_) | Value::F32List(_) | Value::I16List(_) => Self::Opaque(value),
        }
    }
}

impl Cell<'_> {
    /// The cell as a field of type `ty` holds it. Integers beyond the type's ends become its ends, doubles the nearest
    /// singles. That the types fit was checked when the expression was read.
    pub(crate) fn fitted(self, ty: ColumnType) -> Self {
        match (self, ty) {
            (Self::Integer(number), ColumnType::I64 | ColumnType::Timestamp) => {
                Self::Integer(number.clamp(i64::MIN.into(), i64::MAX.into()))
            }
            (Self::Integer(number), ColumnType::U64) => Self::Integer(number.clamp(0, u64::MAX.into())),
            (Self::Integer(number), ColumnType::F64) => Self::Float(number as f64),
            (Self::Integer(number), ColumnType::F32) => Self::Float((number as f32).into()),
            (Self::Float(number), ColumnType::F32) => Self::Float((number as f32).into()),
            (cell, _) => cell,
        }
    }

    /// The value of a field of type `ty` that this fitted cell is.
    pub(crate) fn value(&self, ty: ColumnType) -> Value<'_> {
        match (self, ty) {
            (Self::Float(number), ColumnType::F64) => Value::F64(*number),
            (Self::Float(number), ColumnType::F32) => Value::F32(*number as f32),
            (Self::Integer(number), ColumnType::I64) => Value::I64(*number as i64),
            (Self::Integer(number), ColumnType::Timestamp) => Value::Timestamp(*number as i64),
            (Self::Integer(number), ColumnType::U64) => Value::U64(*number as u64),
            (Self::Bool(flag), ColumnType::Bool) => Value::Bool(*flag),
            (Self::Text(text), ColumnType::Text) => Value::Text(text),
            (Self::Opaque(value), _) => *value,
            _ => Value::Null,
        }
    }
}
