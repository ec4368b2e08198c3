//! The first pass: every cell checked, types inferred over all files, each file's fingerprint taken.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_wire::{DeviceName, Field, Schema};

use super::cell::CellType;
use super::inference::{CellAt, Evidence, Inferred};
use super::records::{Layout, Record, Records};
use super::{CsvError, DeclaredTypes, Mapping};
use crate::instant::parse_event_time;

/// What the first pass found.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) schema: Arc<Schema>,
    pub(crate) files: Vec<ScannedFile>,
    /// Types of the schema's fields, in its order.
    pub(super) types: Vec<CellType>,
}

impl Scan {
    /// Every field with its type as `--fields` would give it.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.schema.fields().iter().zip(&self.types).map(|(field, ty)| (field.name(), ty.name()))
    }

    /// Rows in all files.
    pub(crate) fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }
}

/// What the first pass found in one file.
#[derive(Debug)]
pub(crate) struct ScannedFile {
    pub(crate) path: PathBuf,
    /// BLAKE3 of the uncompressed content.
    pub(crate) fingerprint: blake3::Hash,
    pub(crate) rows: u64,
    pub(crate) devices: BTreeSet<DeviceName>,
    /// The earliest and the latest event time.
    pub(crate) times: Option<(i64, i64)>,
}

/// Reads `paths`, which must have the same fields, for a schema called `name`.
pub(crate) fn scan(
    paths: &[PathBuf],
    mapping: &Mapping,
    declared: Option<&DeclaredTypes>,
    name: &str,
    version: u32,
) -> Result<Scan, CsvError> {
    let mut columns: Option<Columns> = None;
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let (records, layout) = Records::open(path, mapping)?;
        let types = layout.declared_types(path, declared)?;
        let columns = columns.get_or_insert_with(|| Columns::new(&layout, &types));
        columns.check_same(path, &layout, &types, &paths[0])?;
        files.push(scan_file(path, files.len(), records, &layout, columns)?);
    }
    let columns = columns.expect("the command line requires at least one file");
    let (names, types) = columns.conclude(paths)?;
    let fields =
        names.into_iter().zip(&types).map(|(name, ty)| Field::new(name, ty.column_type()).nullable());
    let schema = Schema::new(name, version, fields.collect())
        .map_err(|error| CsvError::Header { file: paths[0].clone(), problem: error.to_string() })?;
    Ok(Scan { schema: Arc::new(schema), files, types })
}

fn scan_file(
    path: &Path,
    file: usize,
    mut records: Records,
    layout: &Layout,
    columns: &mut Columns,
) -> Result<ScannedFile, CsvError> {
    let mut devices = BTreeSet::new();
    let mut times: Option<(i64, i64)> = None;
    let mut rows = 0;
    while let Some(record) = records.next()? {
        rows += 1;
        let device = record.text(layout.device, &layout.device_name)?;
        if !devices.contains(device) {
            let name = DeviceName::try_from(device).map_err(|error| {
                record.malformed(&layout.device_name, device, &format!("a device name: {error}"))
            })?;
            devices.insert(name);
        }
        let time = event_time(record, layout)?;
        times = Some(times.map_or((time, time), |(first, last)| (first.min(time), last.max(time))));
        columns.add(file, record, layout)?;
    }
    Ok(ScannedFile { path: path.to_owned(), fingerprint: records.fingerprint(), rows, devices, times })
}

/// The event time of a record.
pub(super) fn event_time(record: Record<'_>, layout: &Layout) -> Result<i64, CsvError> {
    let text = record.text(layout.time, &layout.time_name)?;
    parse_event_time(text)
        .ok_or_else(|| record.malformed(&layout.time_name, text, CellType::Timestamp.expected()))
}

/// The fields of the files, and what is known of their types.
struct Columns {
    names: Vec<String>,
    declared: Vec<Option<CellType>>,
    types: Vec<ColumnKnowledge>,
}

enum ColumnKnowledge {
    Declared(CellType),
    Inferred(Evidence),
}

impl Columns {
    fn new(layout: &Layout, declared: &[Option<CellType>]) -> Self {
        let knowledge = |declared: &Option<CellType>| {
            declared.map_or_else(|| ColumnKnowledge::Inferred(Evidence::default()), ColumnKnowledge::Declared)
        };
        Self {
            names: layout.field_names(),
            declared: declared.to_vec(),
            types: declared.iter().map(knowledge).collect(),
        }
    }

    /// Several files are events of one schema, hence have the same fields of the same types in the same order.
    fn check_same(
        &self,
        path: &Path,
        layout: &Layout,
        declared: &[Option<CellType>],
        first: &Path,
    ) -> Result<(), CsvError> {
        let what = if layout.field_names() != self.names {
            "columns"
        } else if declared != self.declared {
            "declared types"
        } else {
            return Ok(());
        };
        let problem = format!(
            "other {what} than {}; files of another schema are sent by another call with another --schema",
            first.display()
        );
        Err(CsvError::Header { file: path.to_owned(), problem })
    }

    fn add(&mut self, file: usize, record: Record<'_>, layout: &Layout) -> Result<(), CsvError> {
        for ((name, index), knowledge) in layout.fields.iter().zip(&mut self.types) {
            let text = record.text(*index, name)?;
            match knowledge {
                ColumnKnowledge::Inferred(evidence) => {
                    evidence.add(text, || CellAt {
                        file,
                        line: record.line,
                        row: record.row,
                        text: text.to_owned(),
                    });
                }
                ColumnKnowledge::Declared(ty) => {
                    ty.parse(text).ok_or_else(|| record.malformed(name, text, ty.expected()))?;
                }
            }
        }
        Ok(())
    }

    fn conclude(self, paths: &[PathBuf]) -> Result<(Vec<String>, Vec<CellType>), CsvError> {
        let conclude = |(knowledge, name): (ColumnKnowledge, &String)| match knowledge {
            ColumnKnowledge::Declared(ty) => Ok(ty),
            ColumnKnowledge::Inferred(evidence) => match evidence.conclude() {
                Inferred::Type(ty) => Ok(ty),
                Inferred::Mistake(CellAt { file, line, row, text }) => Err(CsvError::Cell {
                    file: paths[file].clone(),
                    line,
                    row,
                    column: name.clone(),
                    value: text,
                    expected: "a number like the column's other cells (if it is text, say so with --fields)"
                        .to_owned(),
                }),
            },
        };
        let types = self.types.into_iter().zip(&self.names).map(conclude).collect::<Result<_, _>>()?;
        Ok((self.names, types))
    }
}
