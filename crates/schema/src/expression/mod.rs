//! The language of upcasts: one expression over the fields of an older version.
//!
//! Types and nulls are checked when an expression is read, so that evaluating one cannot fail.

mod function;
mod parse;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;

use icecore_wire::{ColumnType, Field, Schema};

use crate::Cell;
pub(crate) use parse::{ExpressionError, parse};

use function::Function;

/// What an expression yields. Times are integers, in nanoseconds; singles are floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// Only ever null.
    Null,
    Integer,
    Float,
    Bool,
    Text,
    /// Bytes and lists, which are only handed on (and lists taken apart).
    Opaque(ColumnType),
}

/// A checked expression.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    node: Node,
    ty: Type,
    nullable: bool,
}

#[derive(Debug, Clone)]
enum Node {
    Literal(Cell<'static>),
    /// A field of the older version, by number.
    Field(usize),
    Call(Function, Vec<Expression>),
}

impl Expression {
    /// The field `number` of `schema` as it is.
    pub(crate) fn field(schema: &Schema, number: usize) -> Self {
        let field = &schema.fields()[number];
        Self { node: Node::Field(number), ty: Type::of(field.ty()), nullable: field.is_nullable() }
    }

    /// Always null.
    pub(crate) fn null() -> Self {
        Self { node: Node::Literal(Cell::Null), ty: Type::Null, nullable: true }
    }

    fn literal(cell: Cell<'static>, ty: Type) -> Self {
        Self { node: Node::Literal(cell), ty, nullable: false }
    }

    /// Whether what it yields is what `field` takes; otherwise why not.
    pub(crate) fn check(&self, field: &Field) -> Result<(), String> {
        let wanted = Type::of(field.ty());
        let fits =
            self.ty == wanted || self.ty == Type::Null || (self.ty == Type::Integer && wanted == Type::Float);
        if !fits && self.ty == Type::Float && wanted == Type::Integer {
            return Err(format!(
                "it yields a float, and {} is {}: use round, floor or ceil",
                field.name(),
                field.ty()
            ));
        }
        if !fits {
            return Err(format!("it yields {}, and {} is {}", self.ty, field.name(), field.ty()));
        }
        if self.nullable && !field.is_nullable() {
            let name = field.name();
            return Err(format!(
                "it may be null, and {name} is not nullable: say coalesce(…, a value in its place)"
            ));
        }
        Ok(())
    }

    /// Its value for a row of the older version.
    pub(crate) fn evaluate<'a>(&self, row: &[Cell<'a>]) -> Cell<'a> {
        match &self.node {
            Node::Literal(cell) => cell.clone(),
            Node::Field(number) => row[*number].clone(),
            Node::Call(function, arguments) => function.evaluate(arguments, row),
        }
    }
}

impl Type {
    pub(crate) fn of(ty: ColumnType) -> Self {
        match ty {
            ColumnType::F64 | ColumnType::F32 => Self::Float,
            ColumnType::I64 | ColumnType::U64 | ColumnType::Timestamp => Self::Integer,
            ColumnType::Bool => Self::Bool,
            ColumnType::Text => Self::Text,
            ColumnType::Bytes | ColumnType::F32List(_) | ColumnType::I16List(_) => Self::Opaque(ty),
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Float | Self::Null)
    }

    /// The type of what is one or the other, if there is one.
    fn or(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Null, ty) | (ty, Self::Null) => Some(ty),
            (Self::Integer, Self::Float) | (Self::Float, Self::Integer) => Some(Self::Float),
            _ => (self == other).then_some(self),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Integer => f.write_str("an integer"),
            Self::Float => f.write_str("a float"),
            Self::Bool => f.write_str("a truth value"),
            Self::Text => f.write_str("a text"),
            Self::Opaque(ty) => write!(f, "{ty}"),
        }
    }
}
