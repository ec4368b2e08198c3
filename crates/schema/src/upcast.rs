//! Rows of an older version as rows of a newer one.

use std::sync::Arc;

use icecore_wire::{ColumnType, Field, Schema, Value};

use crate::Cell;
use crate::expression::Expression;

/// From one version to the next.
#[derive(Debug)]
pub(crate) struct Step {
    /// One a field of the newer version.
    fields: Vec<(ColumnType, Expression)>,
}

impl Step {
    /// The step to `newer` by one checked expression for each of its fields.
    pub(crate) fn new(newer: &Schema, expressions: Vec<Expression>) -> Self {
        Self { fields: newer.fields().iter().map(Field::ty).zip(expressions).collect() }
    }

    /// The step from `older` to a `newer` version that needs no expressions; otherwise why it does.
    pub(crate) fn automatic(older: &Schema, newer: &Schema) -> Result<Self, String> {
        let expressions = newer.fields().iter().map(|field| Self::unchanged(older, field));
        Ok(Self::new(newer, expressions.collect::<Result<_, _>>()?))
    }

    /// The `field` of the newer version as the older version's field of that name, or as null if it is new.
    pub(crate) fn unchanged(older: &Schema, field: &Field) -> Result<Expression, String> {
        let name = field.name();
        let Some(number) = older.fields().iter().position(|known| known.name() == name) else {
            let is_nullable = field.is_nullable().then(Expression::null);
            return is_nullable.ok_or_else(|| format!("field {name} is new and not nullable"));
        };
        let known = &older.fields()[number];
        let is_wider = known.ty() == ColumnType::F32 && field.ty() == ColumnType::F64;
        if known.ty() != field.ty() && !is_wider {
            return Err(format!("field {name} was {} and is {}", known.ty(), field.ty()));
        }
        if known.unit() != field.unit() {
            return Err(format!("field {name} was in {:?} and is in {:?}", known.unit(), field.unit()));
        }
        if known.kind() != field.kind() {
            return Err(format!("field {name} was a {} and is a {}", known.kind(), field.kind()));
        }
        if known.is_nullable() && !field.is_nullable() {
            return Err(format!("field {name} was nullable and is not"));
        }
        Ok(Expression::field(older, number))
    }

    fn apply<'a>(&self, row: &[Cell<'a>]) -> Vec<Cell<'a>> {
        self.fields.iter().map(|(ty, expression)| expression.evaluate(row).fitted(*ty)).collect()
    }
}

/// How events of one version of a schema read as events of its newest.
#[derive(Debug)]
pub struct Upcast {
    to: Arc<Schema>,
    steps: Vec<Arc<Step>>,
}

impl Upcast {
    pub(crate) fn new(to: Arc<Schema>, steps: Vec<Arc<Step>>) -> Self {
        Self { to, steps }
    }

    /// The version that rows become.
    pub fn to(&self) -> &Arc<Schema> {
        &self.to
    }

    /// A row of the older version, one value a field, as a row of the newer one: one cell a field of [`Upcast::to`].
    pub fn apply<'a>(&self, row: impl IntoIterator<Item = Value<'a>>) -> Vec<Cell<'a>> {
        let row = row.into_iter().map(Cell::from).collect();
        self.steps.iter().fold(row, |row, step| step.apply(&row))
    }

    /// The value of the newer version's field of this number, of a row that [`Upcast::apply`] made; `None` behind the last.
    pub fn value<'r>(&self, row: &'r [Cell<'_>], field: usize) -> Option<Value<'r>> {
        Some(row.get(field)?.value(self.to.fields()[field].ty()))
    }
}
