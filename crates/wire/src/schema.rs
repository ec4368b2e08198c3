//! Schemas: named, versioned event types.

use crate::SchemaId;

/// The type of a column. The discriminants on the wire are in `docs/protocol.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// IEEE 754 double, every bit pattern kept.
    F64,
    /// IEEE 754 single, every bit pattern kept.
    F32,
    /// Signed 64-bit integer.
    I64,
    /// Unsigned 64-bit integer.
    U64,
    /// Truth value.
    Bool,
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Bytes,
    /// Nanoseconds since the Unix epoch.
    Timestamp,
    /// A fixed number of singles (a waveform).
    F32List(u16),
    /// A fixed number of 16-bit integers (a raw waveform).
    I16List(u16),
}

/// What a field's numbers mean, hence which statistics make sense.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A measured level: mean, minimum and maximum make sense.
    #[default]
    Gauge,
    /// Ever increasing, except for resets.
    Counter,
    /// One of a few states: time in state makes sense.
    State,
    /// A direction; its mean is circular.
    Angle,
}

/// One field of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    name: String,
    ty: ColumnType,
    kind: Kind,
    unit: String,
    nullable: bool,
}

impl Field {
    /// A gauge without unit that is never null; the builder methods change that.
    pub fn new(name: impl Into<String>, ty: ColumnType) -> Self {
        Self { name: name.into(), ty, kind: Kind::default(), unit: String::new(), nullable: false }
    }

    /// Sets what the field's numbers mean.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the unit (UCUM, such as `Cel` or `m/s2`; empty for none).
    #[must_use]
    pub fn with_unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = unit.into();
        self
    }

    /// Lets the field be null.
    #[must_use]
    pub fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }

    /// The field's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of its values.
    pub fn ty(&self) -> ColumnType {
        self.ty
    }

    /// What its numbers mean.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its unit (UCUM), empty for none.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// Whether it may be null.
    pub fn is_nullable(&self) -> bool {
        self.nullable
    }
}

/// Why a schema is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// A name breaks a rule.
    #[error("{0}")]
    Name(String),
}

/// A newer version of a schema does not follow from the older one. The message names both definitions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Incompatible(String);

/// A named, versioned event type: ordered fields. Its id is a hash of its canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    name: String,
    version: u32,
    fields: Vec<Field>,
    canonical: Vec<u8>,
    id: SchemaId,
}

impl Schema {
    /// Checks and makes a schema.
    pub fn new(name: impl Into<String>, version: u32, fields: Vec<Field>) -> Result<Self, SchemaError> {
        let _ = (name.into(), version, fields);
        unimplemented!()
    }

    /// Reads a schema from its canonical form; any other form of the same schema is refused.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, SchemaError> {
        let _ = bytes;
        unimplemented!()
    }

    /// The schema's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The schema's version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The fields, in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The hash of the canonical form.
    pub fn id(&self) -> SchemaId {
        self.id
    }

    /// The canonical form (specified in `docs/protocol.md`).
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// Whether `newer` may follow this schema: a higher version that adds nullable fields, drops fields, makes fields
    /// nullable, or widens f32 to f64.
    pub fn check_evolution(&self, newer: &Schema) -> Result<(), Incompatible> {
        let _ = newer;
        unimplemented!()
    }
}
