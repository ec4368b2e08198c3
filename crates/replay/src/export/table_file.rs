//! Record batches in files that other tools read.

use std::io::{self, Write};

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::Schema;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::ReplayError;

/// zstd's level: higher ones take much more time for a percent.
const LEVEL: i32 = 3;

/// Rows and bytes at which a row group of a Parquet file is ended: large enough that its columns compress well and small enough that
/// several are read side by side.
const GROUP_ROWS: usize = 1 << 20;
const GROUP_BYTES: usize = 64 << 20;

/// Numbers that mostly ascend evenly: their differences are small, and a dictionary of them would not be.
const ASCENDING: [&str; 4] = ["seq", "event_time", "received_time", "position"];

/// An Arrow IPC stream, or a Parquet file. Neither has to be sought in: both can go through a pipe.
pub struct TableFile<W: Write + Send>(Format<W>);

enum Format<W: Write + Send> {
    Arrow(Box<StreamWriter<Watched<W>>>),
    Parquet(Box<ArrowWriter<Watched<W>>>),
}

/// Keeps the system's own error, which the formats' libraries put into words.
struct Watched<W> {
    out: W,
    error: Option<io::Error>,
}

impl<W: Write> Watched<W> {
    fn note<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|error| self.error = Some(error.kind().into()))
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.note(flushed)
    }
}

impl<W: Write + Send> TableFile<W> {
    /// An Arrow IPC stream of record batches of `schema`.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub fn arrow(out: W, schema: &Schema) -> Result<Self, ReplayError> {
        let out = Watched { out, error: None };
        Ok(Self(Format::Arrow(Box::new(StreamWriter::try_new(out, schema)?))))
    }

    /// A Parquet file of record batches of `schema`: zstd, statistics by page, what Arrow knows of the columns in its metadata.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub fn parquet(out: W, schema: &Schema) -> Result<Self, ReplayError> {
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(LEVEL)?))
            .set_created_by(format!("icecore {}", env!("CARGO_PKG_VERSION")))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_max_row_group_bytes(Some(GROUP_BYTES));
        for name in ASCENDING {
            let column = ColumnPath::from(name);
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        }
        let out = Watched { out, error: None };
        let writer = ArrowWriter::try_new(out, schema.clone().into(), Some(properties.build()))?;
        Ok(Self(Format::Parquet(Box::new(writer))))
    }

    /// Adds rows.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ReplayError> {
        let written = match &mut self.0 {
            Format::Arrow(stream) => stream.write(batch).map_err(ReplayError::from),
            Format::Parquet(file) => file.write(batch).map_err(ReplayError::from),
        };
        written.map_err(|error| self.output_error().unwrap_or(error))
    }

    /// Bytes of rows in memory that are not written yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        match &self.0 {
            Format::Arrow(_) => 0,
            Format::Parquet(file) => file.memory_size(),
        }
    }

    /// Ends the row group that is being made, if there is one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end_group(&mut self) -> Result<(), ReplayError> {
        let ended = match &mut self.0 {
            Format::Arrow(_) => Ok(()),
            Format::Parquet(file) => file.flush().map_err(ReplayError::from),
        };
        ended.map_err(|error| self.output_error().unwrap_or(error))
    }

    /// Writes what is still to be written, and gives what it was written to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<W, ReplayError> {
        self.end_group()?;
        let mut out = match self.0 {
            Format::Arrow(stream) => stream.into_inner()?.out,
            Format::Parquet(file) => file.into_inner()?.out,
        };
        out.flush().map_err(ReplayError::Output)?;
        Ok(out)
    }

    fn output_error(&mut self) -> Option<ReplayError> {
        let out = match &mut self.0 {
            Format::Arrow(stream) => stream.get_mut(),
            Format::Parquet(file) => file.inner_mut(),
        };
        out.error.take().map(ReplayError::Output)
    }
}

impl<W: Write + Send> std::fmt::Debug for TableFile<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableFile").field("buffered", &self.buffered()).finish_non_exhaustive()
    }
}
