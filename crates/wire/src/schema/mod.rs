//! Schemas: named, versioned event types.

mod canonical;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use crate::SchemaId;
use crate::limits::{
    MAX_FIELD_NAME_BYTES, MAX_FIELDS, MAX_LIST_LENGTH, MAX_SCHEMA_BYTES, MAX_SCHEMA_NAME_BYTES,
    MAX_UNIT_BYTES,
};

/// Columns that every event has beside its fields; a field of such a name would be ambiguous wherever rows are shown.
const SYSTEM_NAMES: [&str; 7] =
    ["device", "epoch", "seq", "timestamp", "event_time", "received_time", "position"];

/// What separates, in the name of a derived schema, the name of the schema it is derived from and how: `vibration@1m`.
const DERIVED: char = '@';

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

impl ColumnType {
    /// Its number in a column and in a canonical form.
    pub(crate) const fn tag(self) -> u8 {
        match self {
            Self::F64 => 1,
            Self::F32 => 2,
            Self::I64 => 3,
            Self::U64 => 4,
            Self::Bool => 5,
            Self::Text => 6,
            Self::Bytes => 7,
            Self::Timestamp => 8,
            Self::F32List(_) => 9,
            Self::I16List(_) => 10,
        }
    }

    /// Elements of a value: the length of a list, 0 for every other type.
    pub(crate) const fn list_length(self) -> u16 {
        match self {
            Self::F32List(length) | Self::I16List(length) => length,
            _ => 0,
        }
    }

    fn from_tag(tag: u8, list_length: u16) -> Option<Self> {
        let ty = match tag {
            1 => Self::F64,
            2 => Self::F32,
            3 => Self::I64,
            4 => Self::U64,
            5 => Self::Bool,
            6 => Self::Text,
            7 => Self::Bytes,
            8 => Self::Timestamp,
            9 => Self::F32List(list_length),
            10 => Self::I16List(list_length),
            _ => return None,
        };
        (ty.list_length() == list_length).then_some(ty)
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::Bool => "bool",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::Timestamp => "timestamp",
            Self::F32List(length) => return f.pad(&format!("f32[{length}]")),
            Self::I16List(length) => return f.pad(&format!("i16[{length}]")),
        };
        f.pad(name)
    }
}

/// A text that names no column type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a column type: it is f64, f32, i64, u64, bool, text, bytes, timestamp, f32[N] or i16[N]")]
pub struct InvalidColumnType;

impl FromStr for ColumnType {
    type Err = InvalidColumnType;

    /// Reads what [`ColumnType`] displays. Whether a list's length is within the limits, [`Schema::new`] checks.
    fn from_str(text: &str) -> Result<Self, InvalidColumnType> {
        let length = |list: &str| {
            let digits = text.strip_prefix(list)?.strip_prefix('[')?.strip_suffix(']')?;
            digits.parse().ok().filter(|_| digits.starts_with(|digit: char| digit.is_ascii_digit()))
        };
        Ok(match text {
            "f64" => Self::F64,
            "f32" => Self::F32,
            "i64" => Self::I64,
            "u64" => Self::U64,
            "bool" => Self::Bool,
            "text" => Self::Text,
            "bytes" => Self::Bytes,
            "timestamp" => Self::Timestamp,
            _ => {
                let list = length("f32").map(Self::F32List).or_else(|| length("i16").map(Self::I16List));
                return list.ok_or(InvalidColumnType);
            }
        })
    }
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

impl Kind {
    const fn tag(self) -> u8 {
        match self {
            Self::Gauge => 1,
            Self::Counter => 2,
            Self::State => 3,
            Self::Angle => 4,
        }
    }

    const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            1 => Some(Self::Gauge),
            2 => Some(Self::Counter),
            3 => Some(Self::State),
            4 => Some(Self::Angle),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::State => "state",
            Self::Angle => "angle",
        })
    }
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

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.ty, self.kind)?;
        if !self.unit.is_empty() {
            write!(f, " in {}", self.unit)?;
        }
        if self.nullable {
            f.write_str(" nullable")?;
        }
        Ok(())
    }
}

/// Why a schema is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// A schema or field name, or a unit, is empty (not a unit), too long, or holds a control character.
    #[error("{what} {text:?} must be {allowed} bytes of UTF-8 without control characters")]
    Text {
        /// What the text is: `schema name`, `field name` or `unit`.
        what: &'static str,
        /// The text, cut to 64 characters.
        text: String,
        /// How many bytes it may have.
        allowed: &'static str,
    },
    /// A field has the name of a column that every event has.
    #[error("field name {0:?} is taken by a system column; choose another")]
    ReservedName(String),
    /// Two fields differ at most in upper and lower case.
    #[error("field name {0:?} occurs twice (names are compared without regard to case)")]
    DuplicateName(String),
    /// A schema without fields, or with too many.
    #[error("a schema has 1 to {MAX_FIELDS} fields, not {0}")]
    FieldCount(usize),
    /// A list type of no or too many elements.
    #[error("field {name:?}: a list has 1 to {MAX_LIST_LENGTH} elements, not {length}")]
    ListLength {
        /// The field.
        name: String,
        /// The length it has.
        length: u16,
    },
    /// The canonical form would not fit in an announcement.
    #[error(
        "the canonical form takes {0} bytes, more than {MAX_SCHEMA_BYTES}: use fewer fields or shorter names"
    )]
    TooLarge(usize),
    /// The bytes are not a canonical form.
    #[error("not the canonical form of a schema: {what} at byte {offset}")]
    Canonical {
        /// What is wrong.
        what: &'static str,
        /// Where.
        offset: usize,
    },
}

/// A newer version of a schema does not follow from the older one. The message names both definitions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schema {older} cannot become {newer}: {reason}")]
pub struct Incompatible {
    older: String,
    newer: String,
    reason: String,
}

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
        let name = name.into();
        check_text("schema name", &name, 1, MAX_SCHEMA_NAME_BYTES, "1 to 128")?;
        if fields.is_empty() || fields.len() > MAX_FIELDS {
            return Err(SchemaError::FieldCount(fields.len()));
        }
        let mut seen: HashSet<String> = HashSet::with_capacity(fields.len());
        for field in &fields {
            check_field(field)?;
            if !seen.insert(field.name.to_lowercase()) {
                return Err(SchemaError::DuplicateName(field.name.clone()));
            }
        }
        let canonical = canonical::write(&name, version, &fields);
        if canonical.len() > MAX_SCHEMA_BYTES {
            return Err(SchemaError::TooLarge(canonical.len()));
        }
        let id = SchemaId::of(&canonical);
        Ok(Self { name, version, fields, canonical, id })
    }

    /// Reads a schema from its canonical form; any other form of the same schema is refused.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, SchemaError> {
        if bytes.len() > MAX_SCHEMA_BYTES {
            return Err(SchemaError::TooLarge(bytes.len()));
        }
        let (name, version, fields) = canonical::read(bytes)?;
        Self::new(name, version, fields)
    }

    /// The schema's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Of a schema that a server derived from another one (`vibration@1m`), the name of that (`vibration`) and how (`1m`);
    /// `None` of one that devices may send.
    #[must_use]
    pub fn split_derived(name: &str) -> Option<(&str, &str)> {
        name.rsplit_once(DERIVED)
    }

    /// The name of what is derived in this way from the schema called `raw`.
    #[must_use]
    pub fn derived_name(raw: &str, how: &str) -> String {
        format!("{raw}{DERIVED}{how}")
    }

    /// Whether a server derived it from another one. Names of such schemas are the server's own.
    #[must_use]
    pub fn is_derived(&self) -> bool {
        Self::split_derived(&self.name).is_some()
    }

    /// The schema's version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The fields, in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field of a name, compared without regard to case.
    fn field_named(&self, name: &str) -> Option<&Field> {
        let name = name.to_lowercase();
        self.fields.iter().find(|field| field.name.to_lowercase() == name)
    }

    /// The hash of the canonical form.
    pub fn id(&self) -> SchemaId {
        self.id
    }

    /// The canonical form (specified in `docs/protocol.md`).
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// Whether `newer` may follow this schema: the same name and a higher version that adds nullable fields, drops
    /// fields, makes fields nullable, or widens f32 to f64. Fields are matched by name, their order may change.
    pub fn check_evolution(&self, newer: &Schema) -> Result<(), Incompatible> {
        let incompatible =
            |reason: String| Incompatible { older: self.to_string(), newer: newer.to_string(), reason };
        if newer.name != self.name {
            return Err(incompatible("the names differ".into()));
        }
        if newer.version <= self.version {
            return Err(incompatible("a changed definition needs a higher version".into()));
        }
        for field in &newer.fields {
            match self.field_named(&field.name) {
                None if field.nullable => {}
                None => {
                    return Err(incompatible(format!("the added field {:?} must be nullable", field.name)));
                }
                Some(old) => check_field_evolution(old, field).map_err(&incompatible)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{} (", self.name, self.version)?;
        for (i, field) in self.fields.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{field}")?;
        }
        f.write_str(")")
    }
}

fn check_field_evolution(old: &Field, new: &Field) -> Result<(), String> {
    let widened = old.ty == ColumnType::F32 && new.ty == ColumnType::F64;
    let problem = if old.name != new.name {
        "the name's case"
    } else if old.ty != new.ty && !widened {
        "the type"
    } else if old.kind != new.kind {
        "the kind"
    } else if old.unit != new.unit {
        "the unit"
    } else if old.nullable && !new.nullable {
        "from nullable to not"
    } else {
        return Ok(());
    };
    Err(format!("field {:?} may not change {problem}", old.name))
}

fn check_field(field: &Field) -> Result<(), SchemaError> {
    check_text("field name", &field.name, 1, MAX_FIELD_NAME_BYTES, "1 to 128")?;
    check_text("unit", &field.unit, 0, MAX_UNIT_BYTES, "at most 64")?;
    if SYSTEM_NAMES.iter().any(|name| name.eq_ignore_ascii_case(&field.name)) {
        return Err(SchemaError::ReservedName(field.name.clone()));
    }
    match field.ty {
        ColumnType::F32List(length) | ColumnType::I16List(length)
            if length == 0 || usize::from(length) > MAX_LIST_LENGTH =>
        {
            Err(SchemaError::ListLength { name: field.name.clone(), length })
        }
        _ => Ok(()),
    }
}

fn check_text(
    what: &'static str,
    text: &str,
    min: usize,
    max: usize,
    allowed: &'static str,
) -> Result<(), SchemaError> {
    if text.len() < min || text.len() > max || text.chars().any(char::is_control) {
        return Err(SchemaError::Text { what, text: text.chars().take(64).collect(), allowed });
    }
    Ok(())
}
