//! Schemas, as Python sees them.

use std::fmt::Write;

use pyo3::prelude::*;

/// A schema of the log: one table.
#[pyclass(frozen, get_all, eq, module = "icecore")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schema {
    /// Its name.
    name: String,
    /// The version that its events read as.
    version: u32,
    /// Its fields, in order.
    fields: Vec<Field>,
}

/// A field of a schema.
#[pyclass(frozen, get_all, eq, module = "icecore")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// Its name.
    name: String,
    /// Its type: `f64`, `i64`, `text` and so on.
    r#type: String,
    /// What its values are: `gauge`, `counter`, `state` or `angle`.
    kind: String,
    /// Their unit in UCUM, or nothing.
    unit: String,
    /// Whether it may have no value.
    nullable: bool,
}

impl From<&icecore_wire::Schema> for Schema {
    fn from(schema: &icecore_wire::Schema) -> Self {
        let fields = schema.fields().iter().map(Field::from).collect();
        Self { name: schema.name().to_owned(), version: schema.version(), fields }
    }
}

impl From<&icecore_wire::Field> for Field {
    fn from(field: &icecore_wire::Field) -> Self {
        Self {
            name: field.name().to_owned(),
            r#type: field.ty().to_string(),
            kind: field.kind().to_string(),
            unit: field.unit().to_owned(),
            nullable: field.is_nullable(),
        }
    }
}

#[pymethods]
impl Schema {
    fn __repr__(&self) -> String {
        let mut text = format!("{} version {}", self.name, self.version);
        for field in &self.fields {
            let _ = write!(text, "\n  {}", field.__repr__());
        }
        text
    }
}

#[pymethods]
impl Field {
    fn __repr__(&self) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" in {}", self.unit) };
        let nullable = if self.nullable { ", may be absent" } else { "" };
        format!("{}: {} {}{unit}{nullable}", self.name, self.r#type, self.kind)
    }
}
