//! The raw records of a CSV file, with their places and the fingerprint of what was read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use csv::ByteRecord;
use flate2::bufread::MultiGzDecoder;

use super::cell::CellType;
use super::{CsvError, DeclaredTypes, Mapping};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Bytes read from the file at a time.
const READ_BUFFER: usize = 256 * 1024;

/// Where the columns of a file are.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) device: usize,
    pub(super) device_name: String,
    pub(super) time: usize,
    pub(super) time_name: String,
    /// Name and index of every other column, in the file's order.
    pub(super) fields: Vec<(String, usize)>,
}

impl Layout {
    pub(super) fn field_names(&self) -> Vec<String> {
        self.fields.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The types that were declared for this file's fields; `None` for those that are to be inferred.
    pub(super) fn declared_types(
        &self,
        file: &Path,
        declared: Option<&DeclaredTypes>,
    ) -> Result<Vec<Option<CellType>>, CsvError> {
        match declared {
            Some(declared) => declared.for_file(file, &self.field_names()),
            None => Ok(vec![None; self.fields.len()]),
        }
    }
}

/// A file being read: one record at a time.
pub(super) struct Records {
    file: PathBuf,
    reader: csv::Reader<Hashing<Box<dyn Read + Send>>>,
    record: ByteRecord,
    row: u64,
}

/// A record and its place.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    file: &'a Path,
    cells: &'a ByteRecord,
    pub(super) line: u64,
    /// Counts from 1, without the header.
    pub(super) row: u64,
}

impl Records {
    /// Opens a plain or gzipped file and reads its header.
    pub(super) fn open(file: &Path, mapping: &Mapping) -> Result<(Self, Layout), CsvError> {
        let unreadable = |source| CsvError::Unreadable { file: file.to_owned(), source };
        let mut bytes = BufReader::with_capacity(READ_BUFFER, File::open(file).map_err(unreadable)?);
        let gzipped = bytes.fill_buf().map_err(unreadable)?.starts_with(&GZIP_MAGIC);
        let bytes: Box<dyn Read + Send> =
            if gzipped { Box::new(MultiGzDecoder::new(bytes)) } else { Box::new(bytes) };
        let hashing = Hashing { inner: bytes, hasher: blake3::Hasher::new() };
        let reader = csv::ReaderBuilder::new().buffer_capacity(READ_BUFFER).from_reader(hashing);
        let mut records = Self { file: file.to_owned(), reader, record: ByteRecord::new(), row: 0 };
        let layout = records.layout(mapping)?;
        Ok((records, layout))
    }

    /// The next record, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Record<'_>>, CsvError> {
        self.row += 1;
        match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let line = self.record.position().map_or(0, csv::Position::line);
                Ok(Some(Record { file: &self.file, cells: &self.record, line, row: self.row }))
            }
            Err(error) => Err(self.unreadable(error)),
        }
    }

    /// BLAKE3 of the file's uncompressed content; call it after the last record.
    pub(super) fn fingerprint(self) -> blake3::Hash {
        self.reader.into_inner().hasher.finalize()
    }

    fn layout(&mut self, mapping: &Mapping) -> Result<Layout, CsvError> {
        let header = match self.reader.byte_headers() {
            Ok(header) => header.clone(),
            Err(error) => return Err(self.unreadable(error)),
        };
        let problem = |problem: String| CsvError::Header { file: self.file.clone(), problem };
        let names: Vec<String> =
            header.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let find = |name: &str, flag: &str| {
            names.iter().position(|column| column == name).ok_or_else(|| {
                let columns = names.join(", ");
                problem(format!("no column {name} (name it with {flag}); the columns are {columns}"))
            })
        };
        let device = find(&mapping.device_field, "--device-field")?;
        let time = find(&mapping.time_field, "--time-field")?;
        if device == time {
            return Err(problem(format!(
                "column {} cannot be both the device and the time",
                mapping.device_field
            )));
        }
        let fields = names.into_iter().zip(0..).filter(|(_, index)| ![device, time].contains(index));
        Ok(Layout {
            device,
            device_name: mapping.device_field.clone(),
            time,
            time_name: mapping.time_field.clone(),
            fields: fields.collect(),
        })
    }

    fn unreadable(&self, error: csv::Error) -> CsvError {
        let file = self.file.clone();
        let line = error.position().map_or(1, csv::Position::line);
        match error.into_kind() {
            csv::ErrorKind::Io(source) => CsvError::Unreadable { file, source },
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                let problem = format!("{len} cells, but the header has {expected_len}");
                CsvError::Row { file, line, row: self.row, problem }
            }
            kind => CsvError::Unreadable { file, source: io::Error::other(format!("{kind:?}")) },
        }
    }
}

impl<'a> Record<'a> {
    /// The text of the cell at `index`, which is in column `name`.
    pub(super) fn text(self, index: usize, name: &str) -> Result<&'a str, CsvError> {
        let bytes = &self.cells[index];
        std::str::from_utf8(bytes).map_err(|_| self.malformed(name, &String::from_utf8_lossy(bytes), "UTF-8"))
    }

    /// The error for a cell that is not what was expected.
    pub(super) fn malformed(self, column: &str, value: &str, expected: &str) -> CsvError {
        CsvError::Cell {
            file: self.file.to_owned(),
            line: self.line,
            row: self.row,
            column: column.to_owned(),
            value: value.to_owned(),
            expected: expected.to_owned(),
        }
    }
}

/// Hashes what passes through.
struct Hashing<R> {
    inner: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
