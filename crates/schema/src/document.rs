//! A schema file: TOML with the place of every mistake.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_wire::{ColumnType, Field, Kind, Schema};
use serde::Deserialize;
use toml::Spanned;

use crate::declared::{Lineage, Version};
use crate::expression::{Expression, parse};
use crate::upcast::Step;

/// Bytes of a schema file.
const MAX_FILE_BYTES: usize = 1 << 20;

/// What is wrong in a schema file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {message}", file.display(), place.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default())]
pub struct DeclarationError {
    /// The file.
    pub file: PathBuf,
    /// Line and character, from 1; `None` if the file as a whole is meant.
    pub place: Option<(usize, usize)>,
    /// What is wrong, and what to write instead.
    pub message: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTable {
    name: Spanned<String>,
    version: Vec<Spanned<VersionTable>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionTable {
    number: Spanned<u32>,
    fields: Vec<Spanned<FieldTable>>,
    #[serde(default)]
    upcast: BTreeMap<String, Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldTable {
    name: String,
    #[serde(rename = "type")]
    ty: Spanned<String>,
    #[serde(default)]
    kind: FieldKind,
    #[serde(default)]
    unit: String,
    #[serde(default)]
    nullable: bool,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FieldKind {
    #[default]
    Gauge,
    Counter,
    State,
    Angle,
}

impl From<FieldKind> for Kind {
    fn from(kind: FieldKind) -> Self {
        match kind {
            FieldKind::Gauge => Self::Gauge,
            FieldKind::Counter => Self::Counter,
            FieldKind::State => Self::State,
            FieldKind::Angle => Self::Angle,
        }
    }
}

/// Reads the `text` of `file`.
pub(crate) fn lineage(file: &Path, text: &str) -> Result<Lineage, DeclarationError> {
    let reader = Reader { file, text };
    if text.len() > MAX_FILE_BYTES {
        return Err(reader.error(0..0, format!("a schema file may have {MAX_FILE_BYTES} bytes")));
    }
    let table: FileTable = toml::from_str(text)
        .map_err(|error| reader.error(error.span().unwrap_or_default(), error.message().to_owned()))?;
    let mut versions: Vec<Version> = Vec::with_capacity(table.version.len());
    for version in &table.version {
        let version = reader.version(&table.name, version, versions.last())?;
        versions.push(version);
    }
    if versions.is_empty() {
        return Err(reader.error(table.name.span(), "there is no [[version]]"));
    }
    Ok(Lineage::new(file, versions))
}

struct Reader<'t> {
    file: &'t Path,
    text: &'t str,
}

impl Reader<'_> {
    fn version(
        &self,
        name: &Spanned<String>,
        table: &Spanned<VersionTable>,
        before: Option<&Version>,
    ) -> Result<Version, DeclarationError> {
        let version = table.get_ref();
        let number = *version.number.get_ref();
        let fields =
            version.fields.iter().map(|field| self.field(field.get_ref())).collect::<Result<_, _>>()?;
        let schema = Schema::new(name.get_ref(), number, fields)
            .map_err(|error| self.error(table.span(), format!("version {number}: {error}")))?;
        let step = match before {
            None if version.upcast.is_empty() => None,
            None => {
                let first = version.upcast.values().next().map(Spanned::span).unwrap_or_default();
                return Err(self.error(first, "the first version has none before it to become one of"));
            }
            Some(before) if before.schema.version() >= number => {
                let message =
                    format!("version {number} does not come after version {}", before.schema.version());
                return Err(self.error(version.number.span(), message));
            }
            Some(before) => Some(self.step(&before.schema, &schema, table)?),
        };
        Ok(Version { schema: Arc::new(schema), step: step.map(Arc::new) })
    }

    fn field(&self, field: &FieldTable) -> Result<Field, DeclarationError> {
        let text = field.ty.get_ref();
        let ty: ColumnType = text.parse().map_err(|_| {
            let near = nearest(text, &["f64", "f32", "i64", "u64", "bool", "text", "bytes", "timestamp"]);
            let list = "f64, f32, i64, u64, bool, text, bytes, timestamp, f32[N] or i16[N]";
            self.error(field.ty.span(), format!("there is no type {text}{near}; a type is {list}"))
        })?;
        let declared = Field::new(&field.name, ty).with_kind(field.kind.into()).with_unit(&field.unit);
        Ok(if field.nullable { declared.nullable() } else { declared })
    }

    /// How events of `older` become events of `newer`.
    fn step(
        &self,
        older: &Schema,
        newer: &Schema,
        table: &Spanned<VersionTable>,
    ) -> Result<Step, DeclarationError> {
        let upcast = &table.get_ref().upcast;
        for (name, expression) in upcast {
            if !newer.fields().iter().any(|field| field.name() == name) {
                let names: Vec<&str> = newer.fields().iter().map(Field::name).collect();
                let message =
                    format!("version {} has no field {name}{}", newer.version(), nearest(name, &names));
                return Err(self.error(expression.span(), message));
            }
        }
        let mut expressions = Vec::with_capacity(newer.fields().len());
        for field in newer.fields() {
            let expression = match upcast.get(field.name()) {
                Some(text) => self.expression(text, older, field)?,
                None => Step::unchanged(older, field).map_err(|why| {
                    let (name, version) = (field.name(), newer.version());
                    let message = format!(
                        "version {version}: {why}; say how it comes from version {}: upcast = {{ {name:?} = \"…\" }}",
                        older.version()
                    );
                    self.error(table.span(), message)
                })?,
            };
            expressions.push(expression);
        }
        Ok(Step::new(newer, expressions))
    }

    fn expression(
        &self,
        text: &Spanned<String>,
        older: &Schema,
        field: &Field,
    ) -> Result<Expression, DeclarationError> {
        let expression = parse(text.get_ref(), older).map_err(|error| {
            // Where the text stands in the file as it is, its bytes have places there.
            let span = text.span();
            let written = self.text.get(span.clone()).unwrap_or_default();
            let quotes = written.find(text.get_ref().as_str());
            let at = quotes.map_or(span.start, |quotes| span.start + quotes + error.at);
            self.error(at..at, format!("upcast of {}: {}", field.name(), error.message))
        })?;
        expression
            .check(field)
            .map_err(|why| self.error(text.span(), format!("upcast of {}: {why}", field.name())))?;
        Ok(expression)
    }

    /// A mistake at these bytes of the text.
    fn error(&self, place: Range<usize>, message: impl Into<String>) -> DeclarationError {
        let before = &self.text[..self.text.floor_char_boundary(place.start)];
        let line = before.rsplit_once('\n').map_or(before, |(_, line)| line);
        DeclarationError {
            file: self.file.to_owned(),
            place: Some((before.matches('\n').count() + 1, line.chars().count() + 1)),
            message: message.into(),
        }
    }
}

/// "; did you mean …?" if one of the names is close to `word`.
pub(crate) fn nearest(word: &str, names: &[&str]) -> String {
    let distance = |name: &&&str| strsim::damerau_levenshtein(&word.to_lowercase(), &name.to_lowercase());
    match names.iter().min_by_key(distance) {
        Some(name) if distance(&name) <= 1 + word.chars().count() / 4 => format!("; did you mean {name}?"),
        _ => String::new(),
    }
}
