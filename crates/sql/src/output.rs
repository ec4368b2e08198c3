//! Rows of an answer as text, and as an Arrow stream.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{ArrowError, DataType, FieldRef, SchemaRef};
use datafusion::arrow::json::writer::{
    Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, Writer, WriterBuilder,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use icecore_replay::{ReplayError, TableFile};

use crate::SqlError;

/// Rows by which the columns of a table are made wide enough.
const MEASURED: usize = 1_000;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns that line up, for people; numbers to the right. Widths are those of the first thousand rows.
    Table,
    /// A header, then a line a row: nothing for null, `""` for an empty text, quotes where they are needed.
    Csv,
    /// An object a line; `"NaN"`, `"inf"` and `"-inf"` for what JSON has no number for.
    Json,
    /// An Arrow IPC stream.
    Arrow,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "arrow" => Ok(Self::Arrow),
            _ => Err("expected table, csv, json or arrow".to_owned()),
        }
    }
}

/// Writes rows.
pub struct Output<W: Write + Send>(Writing<W>);

enum Writing<W: Write + Send> {
    Table(Lines<W>),
    Csv(Csv<W>),
    Json(Box<Writer<W, LineDelimited>>),
    Arrow(TableFile<W>),
}

impl<W: Write + Send> Output<W> {
    /// Writes rows with these columns to `out`.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub fn new(format: Format, out: W, schema: &SchemaRef) -> Result<Self, SqlError> {
        Ok(Self(match format {
            Format::Table => Writing::Table(Lines::new(out, schema)),
            Format::Csv => Writing::Csv(Csv::new(out, schema)?),
            Format::Json => {
                let builder = WriterBuilder::new().with_explicit_nulls(true);
                Writing::Json(Box::new(builder.with_encoder_factory(Arc::new(EveryFloat)).build(out)))
            }
            Format::Arrow => Writing::Arrow(TableFile::arrow(out, schema)?),
        }))
    }

    /// Writes rows.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), SqlError> {
        match &mut self.0 {
            Writing::Table(lines) => lines.write(rows),
            Writing::Csv(csv) => csv.write(rows),
            Writing::Json(json) => json.write(rows).map_err(written),
            Writing::Arrow(arrow) => arrow.write(rows).map_err(SqlError::from),
        }
    }

    /// Writes what is still to be written.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<W, SqlError> {
        let mut out = match self.0 {
            Writing::Table(lines) => lines.finish()?,
            Writing::Csv(csv) => csv.out,
            Writing::Json(mut json) => {
                json.finish().map_err(written)?;
                json.into_inner()
            }
            Writing::Arrow(arrow) => return Ok(arrow.finish()?),
        };
        out.flush().map_err(ReplayError::Output)?;
        Ok(out)
    }
}

impl<W: Write + Send> fmt::Debug for Output<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

fn written(error: ArrowError) -> SqlError {
    match error {
        ArrowError::IoError(_, error) => ReplayError::Output(error).into(),
        error => ReplayError::Arrow(error).into(),
    }
}

/// What turns the cells of each column into text.
fn formatters<'a>(
    rows: &'a RecordBatch,
    options: &'a FormatOptions<'a>,
) -> Result<Vec<ArrayFormatter<'a>>, SqlError> {
    let of = |column: &'a Arc<dyn Array>| ArrayFormatter::try_new(column.as_ref(), options);
    rows.columns().iter().map(of).collect::<Result<_, _>>().map_err(written)
}

/// A table for people.
struct Lines<W> {
    out: W,
    /// Whether the cells of a column stand at its right edge.
    right: Vec<bool>,
    widths: Vec<usize>,
    /// Rows that are not written yet, since widths are not known; none once they are.
    waiting: Option<Vec<Vec<String>>>,
}

impl<W: Write> Lines<W> {
    fn new(out: W, schema: &SchemaRef) -> Self {
        let fields = schema.fields();
        let right = fields.iter().map(|field| field.data_type().is_numeric()).collect();
        let header: Vec<String> = fields.iter().map(|field| one_line(field.name())).collect();
        Self { out, right, widths: vec![0; fields.len()], waiting: Some(vec![header]) }
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<(), SqlError> {
        let options = FormatOptions::new();
        let formatters = formatters(rows, &options)?;
        for row in 0..rows.num_rows() {
            let cells = formatters.iter().map(|column| one_line(&column.value(row).to_string())).collect();
            match &mut self.waiting {
                Some(waiting) => {
                    waiting.push(cells);
                    if waiting.len() > MEASURED {
                        self.write_waiting()?;
                    }
                }
                None => self.line(&cells)?,
            }
        }
        Ok(())
    }

    fn write_waiting(&mut self) -> Result<(), SqlError> {
        let waiting = self.waiting.take().unwrap_or_default();
        for row in &waiting {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        waiting.iter().try_for_each(|row| self.line(row))
    }

    fn line(&mut self, cells: &[String]) -> Result<(), SqlError> {
        let mut line = String::new();
        for ((cell, &width), &right) in cells.iter().zip(&self.widths).zip(&self.right) {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) = if right { (&*padding, "") } else { ("", &*padding) };
            line.extend([before, cell, after, "  "]);
        }
        line.truncate(line.trim_end().len());
        writeln!(self.out, "{line}").map_err(|error| ReplayError::Output(error).into())
    }

    fn finish(mut self) -> Result<W, SqlError> {
        self.write_waiting()?;
        Ok(self.out)
    }
}

/// Without what would break the lines of a table.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r', '\t'], " ")
}

/// Comma-separated values.
struct Csv<W> {
    out: W,
    buffer: String,
}

impl<W: Write> Csv<W> {
    fn new(out: W, schema: &SchemaRef) -> Result<Self, SqlError> {
        let mut csv = Self { out, buffer: String::new() };
        for (at, field) in schema.fields().iter().enumerate() {
            csv.cell(at, field.name());
        }
        csv.end_line();
        csv.flush()?;
        Ok(csv)
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<(), SqlError> {
        let options = FormatOptions::new();
        let formatters = formatters(rows, &options)?;
        for row in 0..rows.num_rows() {
            for (at, (column, formatter)) in rows.columns().iter().zip(&formatters).enumerate() {
                // A dictionary may have a null among its values.
                match column.logical_nulls().is_some_and(|nulls| nulls.is_null(row)) {
                    true if at > 0 => self.buffer.push(','),
                    true => {}
                    false => self.cell(at, &formatter.value(row).to_string()),
                }
            }
            self.end_line();
        }
        self.flush()
    }

    fn cell(&mut self, at: usize, cell: &str) {
        if at > 0 {
            self.buffer.push(',');
        }
        match cell.is_empty() || cell.contains([',', '"', '\n', '\r']) {
            true => self.buffer.extend(["\"", &cell.replace('"', "\"\""), "\""]),
            false => self.buffer.push_str(cell),
        }
    }

    fn end_line(&mut self) {
        self.buffer.push('\n');
    }

    fn flush(&mut self) -> Result<(), SqlError> {
        let written = self.out.write_all(self.buffer.as_bytes());
        self.buffer.clear();
        written.map_err(|error: io::Error| ReplayError::Output(error).into())
    }
}

/// Writes floats as JSON, those too that it has no number for.
#[derive(Debug)]
struct EveryFloat;

struct FloatAsJson<F>(F);

impl<F: Fn(usize) -> f64> Encoder for FloatAsJson<F> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = (self.0)(row);
        // A Vec takes every write.
        let _ = match value {
            value if value.is_finite() => write!(out, "{value:?}"),
            value if value.is_nan() => write!(out, "\"NaN\""),
            value => write!(out, "\"{value}\""),
        };
    }
}

impl EncoderFactory for EveryFloat {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>();
                Box::new(FloatAsJson(|row| values.value(row)))
            }
            DataType::Float32 => {
                let values = array.as_primitive::<Float32Type>();
                // The digits that tell it from other singles, not those of the double it is.
                Box::new(FloatAsJson(|row| {
                    let value = values.value(row);
                    value.to_string().parse().unwrap_or_else(|_| value.into())
                }))
            }
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::types::Int32Type;
    use arrow_array::{DictionaryArray, Float64Array, StringArray, TimestampNanosecondArray};
    use arrow_schema::{Field, Schema, TimeUnit};

    use super::*;

    fn rows() -> RecordBatch {
        let times = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let names = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let schema = Schema::new(vec![
            Field::new("device", names, true),
            Field::new("at", times, false),
            Field::new("Temp, °C", DataType::Float64, true),
            Field::new("note", DataType::Utf8, true),
        ]);
        let devices: DictionaryArray<Int32Type> = [Some("øre/1"), None, Some("b")].into_iter().collect();
        RecordBatch::try_new(
            schema.into(),
            vec![
                Arc::new(devices),
                Arc::new(TimestampNanosecondArray::from(vec![0, 1_500_000_000, -1]).with_timezone("UTC")),
                Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN), None])),
                Arc::new(StringArray::from(vec![Some("a \"b\""), Some(""), None])),
            ],
        )
        .unwrap()
    }

    fn text(format: Format) -> String {
        let rows = rows();
        let mut output = Output::new(format, Vec::new(), &rows.schema()).unwrap();
        output.write(&rows).unwrap();
        String::from_utf8(output.finish().unwrap()).unwrap()
    }

    #[test]
    fn rows_line_up_for_people() {
        let expected = "\
device  at                              Temp, °C  note
øre/1   1970-01-01T00:00:00Z                 1.5  a \"b\"
        1970-01-01T00:00:01.500Z             NaN
b       1969-12-31T23:59:59.999999999Z
";
        assert_eq!(text(Format::Table), expected);
    }

    #[test]
    fn csv_tells_null_from_empty() {
        let expected = "\
device,at,\"Temp, °C\",note
øre/1,1970-01-01T00:00:00Z,1.5,\"a \"\"b\"\"\"
,1970-01-01T00:00:01.500Z,NaN,\"\"
b,1969-12-31T23:59:59.999999999Z,,
";
        assert_eq!(text(Format::Csv), expected);
    }

    #[test]
    fn json_has_every_number() {
        let expected = r#"{"device":"øre/1","at":"1970-01-01T00:00:00Z","Temp, °C":1.5,"note":"a \"b\""}
{"device":null,"at":"1970-01-01T00:00:01.500Z","Temp, °C":"NaN","note":""}
{"device":"b","at":"1969-12-31T23:59:59.999999999Z","Temp, °C":null,"note":null}
"#;
        assert_eq!(text(Format::Json), expected);
    }
}
