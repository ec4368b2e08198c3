//! A schema of the log as an Arrow schema.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit};
use icecore_wire::{ColumnType, Schema, SchemaId};

use crate::ReplayError;

/// One schema of the log, all versions of it, as a table: what every event has, then the fields.
///
/// | column | type |
/// |---|---|
/// | `device` | dictionary of texts |
/// | `epoch` | `UInt32`, the epoch's number |
/// | `seq` | `UInt64` |
/// | `event_time`, `received_time` | `Timestamp(ns, UTC)` |
/// | `position` | `UInt64` |
/// | `time_uncertain` | `Boolean`; not there if a field has the name |
///
/// The fields are those of the newest version in their order, then those that only older ones have. Each tells its `icecore.kind` and,
/// if it has one, its `icecore.unit`; the schema tells `icecore.schema` and `icecore.version`.
#[derive(Debug, Clone)]
pub struct Table {
    name: String,
    arrow: SchemaRef,
    origins: Vec<Origin>,
    /// By version that rows are read as: of every field column the number of the field, if the version has it.
    versions: HashMap<SchemaId, Vec<Option<usize>>>,
    /// The types of the field columns.
    types: Vec<ColumnType>,
}

/// Where a column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Device,
    Epoch,
    Sequence,
    EventTime,
    ReceivedTime,
    Position,
    TimeUncertain,
    /// The version of the schema.
    Version,
    /// The field column of this number.
    Field(usize),
}

/// What every event has.
const SYSTEM: [(&str, Origin); 7] = [
    ("device", Origin::Device),
    ("epoch", Origin::Epoch),
    ("seq", Origin::Sequence),
    ("event_time", Origin::EventTime),
    ("received_time", Origin::ReceivedTime),
    ("position", Origin::Position),
    ("time_uncertain", Origin::TimeUncertain),
];

impl Table {
    /// The table of `versions`, which are of one schema: those that its events are read as.
    ///
    /// # Errors
    /// When they are of several schemas, or of none, or have a field in two types.
    pub fn new(versions: &[Arc<Schema>]) -> Result<Self, ReplayError> {
        let mut newest_first: Vec<&Schema> = versions.iter().map(|schema| &**schema).collect();
        newest_first.sort_by_key(|schema| Reverse(schema.version()));
        let Some(newest) = newest_first.first() else { return Err(ReplayError::NoSchema) };
        if newest_first.iter().any(|schema| schema.name() != newest.name()) {
            return Err(ReplayError::several_schemas("this format", versions));
        }
        let fields = field_columns(&newest_first)?;
        let is_taken = |name: &str| fields.iter().any(|field| field.name().eq_ignore_ascii_case(name));
        let system = SYSTEM.iter().filter(|(name, _)| !is_taken(name));
        let mut columns: Vec<Field> =
            system.clone().map(|(name, origin)| system_field(name, *origin)).collect();
        let mut origins: Vec<Origin> = system.map(|(_, origin)| *origin).collect();
        for (number, field) in fields.iter().enumerate() {
            let everywhere =
                newest_first.iter().all(|schema| schema.fields().iter().any(|f| is_same(f, field)));
            let nullable = field.is_nullable() || !everywhere;
            columns.push(
                Field::new(field.name(), data_type(field.ty()), nullable).with_metadata(metadata(field)),
            );
            origins.push(Origin::Field(number));
        }
        let layout = |schema: &&Schema| {
            let number =
                |field: &&icecore_wire::Field| schema.fields().iter().position(|f| is_same(f, field));
            (schema.id(), fields.iter().map(number).collect())
        };
        let told =
            [("icecore.schema", newest.name().to_owned()), ("icecore.version", newest.version().to_string())];
        let told = told.map(|(key, value)| (key.to_owned(), value));
        Ok(Self {
            name: newest.name().to_owned(),
            arrow: Arc::new(ArrowSchema::new_with_metadata(columns, told.into())),
            origins,
            versions: newest_first.iter().map(layout).collect(),
            types: fields.iter().map(|field| field.ty()).collect(),
        })
    }

    /// The same with a column `version`, `UInt32`, that tells of what version of the schema a row was read as, for who reads it as
    /// [written](crate::Query::as_written); not if a field has the name.
    #[must_use]
    pub fn with_version(mut self) -> Self {
        const NAME: &str = "version";
        let mut columns: Vec<_> = self.arrow.fields().iter().cloned().collect();
        if columns.iter().any(|column| column.name().eq_ignore_ascii_case(NAME)) {
            return self;
        }
        let is_field = |origin: &Origin| matches!(origin, Origin::Field(_));
        let at = self.origins.iter().position(is_field).unwrap_or(columns.len());
        columns.insert(at, Arc::new(system_field(NAME, Origin::Version)));
        self.origins.insert(at, Origin::Version);
        self.arrow = Arc::new(ArrowSchema::new_with_metadata(columns, self.arrow.metadata().clone()));
        self
    }

    /// The name of the schema.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All its columns.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.arrow
    }

    /// The number of the column called `name`: exactly so, or, if that is unambiguous, with other cases.
    ///
    /// # Errors
    /// When there is none; the error names the nearest.
    pub fn column(&self, name: &str) -> Result<usize, ReplayError> {
        let names = || self.arrow.fields().iter().map(|field| field.name());
        // Field names are unique without regard to case.
        let found = names().position(|known| known.to_lowercase() == name.to_lowercase());
        found.ok_or_else(|| {
            let near = names()
                .map(|known| {
                    (strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase()), known)
                })
                .min()
                .map(|(_, known)| known.clone());
            let (name, schema) = (name.to_owned(), self.name.clone());
            ReplayError::UnknownColumn { name, schema, near: near.unwrap_or_default() }
        })
    }

    /// Where the column of this number comes from.
    pub(crate) fn origin(&self, column: usize) -> Origin {
        self.origins[column]
    }

    /// The type of a field column.
    pub(crate) fn field_type(&self, field: usize) -> ColumnType {
        self.types[field]
    }

    /// Of every field column the number of the field in this version; `None` if the table was not made for it.
    pub(crate) fn layout(&self, version: &Schema) -> Option<&[Option<usize>]> {
        self.versions.get(&version.id()).map(Vec::as_slice)
    }
}

/// The fields of the newest version, then those that only older ones have.
fn field_columns<'s>(newest_first: &[&'s Schema]) -> Result<Vec<&'s icecore_wire::Field>, ReplayError> {
    let mut fields: Vec<&icecore_wire::Field> = Vec::new();
    let mut known: BTreeMap<String, (ColumnType, u32)> = BTreeMap::new();
    for schema in newest_first {
        for field in schema.fields() {
            match known.get(&field.name().to_lowercase()) {
                None => {
                    known.insert(field.name().to_lowercase(), (field.ty(), schema.version()));
                    fields.push(field);
                }
                Some((ty, _)) if *ty == field.ty() => {}
                Some((ty, version)) => {
                    return Err(ReplayError::TwoTypes {
                        schema: schema.name().to_owned(),
                        field: field.name().to_owned(),
                        newer: (*version, *ty),
                        older: (schema.version(), field.ty()),
                    });
                }
            }
        }
    }
    Ok(fields)
}

/// Names that differ in case only are one.
fn is_same(a: &icecore_wire::Field, b: &icecore_wire::Field) -> bool {
    a.name() == b.name() || a.name().to_lowercase() == b.name().to_lowercase()
}

fn metadata(field: &icecore_wire::Field) -> HashMap<String, String> {
    let mut told = HashMap::from([("icecore.kind".to_owned(), field.kind().to_string())]);
    if !field.unit().is_empty() {
        told.insert("icecore.unit".to_owned(), field.unit().to_owned());
    }
    told
}

fn system_field(name: &str, origin: Origin) -> Field {
    let ty = match origin {
        Origin::Device => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        Origin::Epoch | Origin::Version => DataType::UInt32,
        Origin::EventTime | Origin::ReceivedTime => times(),
        Origin::TimeUncertain => DataType::Boolean,
        Origin::Sequence | Origin::Position | Origin::Field(_) => DataType::UInt64,
    };
    Field::new(name, ty, false)
}

fn times() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

fn data_type(ty: ColumnType) -> DataType {
    let list =
        |ty, length: u16| DataType::FixedSizeList(Arc::new(Field::new_list_field(ty, true)), length.into());
    match ty {
        ColumnType::F64 => DataType::Float64,
        ColumnType::F32 => DataType::Float32,
        ColumnType::I64 => DataType::Int64,
        ColumnType::U64 => DataType::UInt64,
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Text => DataType::Utf8,
        ColumnType::Bytes => DataType::Binary,
        ColumnType::Timestamp => times(),
        ColumnType::F32List(length) => list(DataType::Float32, length),
        ColumnType::I16List(length) => list(DataType::Int16, length),
    }
}
