//! The same rows as Parquet, every column in the encoding that is smallest for it.

use std::sync::Arc;

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use crate::rows::{Rows, Values};

/// A column as Parquet takes it.
struct Column {
    values: Dense,
    /// One level a row; `None`: no row is null.
    levels: Option<Vec<i16>>,
}

/// The values that are there.
enum Dense {
    Integers(Vec<i64>),
    Floats(Vec<f64>),
    Texts(Vec<ByteArray>),
}

/// Dictionary, or one of the others.
type Choice = Option<Encoding>;

/// Bytes of the file.
pub(crate) fn bytes(rows: &Rows) -> anyhow::Result<u64> {
    let devices = rows.devices.iter().map(|device| Some(ByteArray::from(device.as_str())));
    let mut columns = vec![
        Column::new(devices, Dense::Texts),
        Column::new(rows.times.iter().copied().map(Some), Dense::Integers),
    ];
    for column in &rows.columns {
        columns.push(match &column.values {
            Values::Integers(values) => Column::new(values.iter().copied(), Dense::Integers),
            Values::Floats(values) => Column::new(values.iter().copied(), Dense::Floats),
            Values::Texts(values) => {
                let texts = values.iter().map(|text| text.as_deref().map(ByteArray::from));
                Column::new(texts, Dense::Texts)
            }
        });
    }
    let best: Vec<Choice> = columns.iter().map(smallest).collect::<anyhow::Result<_>>()?;
    write(&columns, &best)
}

fn smallest(column: &Column) -> anyhow::Result<Choice> {
    let others: &[Encoding] = match column.values {
        Dense::Integers(_) => &[Encoding::PLAIN, Encoding::DELTA_BINARY_PACKED, Encoding::BYTE_STREAM_SPLIT],
        Dense::Floats(_) => &[Encoding::PLAIN, Encoding::BYTE_STREAM_SPLIT],
        Dense::Texts(_) => &[Encoding::PLAIN, Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY],
    };
    let mut best = (write(std::slice::from_ref(column), &[None])?, None);
    for encoding in others {
        let bytes = write(std::slice::from_ref(column), &[Some(*encoding)])?;
        if bytes < best.0 {
            best = (bytes, Some(*encoding));
        }
    }
    Ok(best.1)
}

/// Writes a file, and gives its size.
fn write(columns: &[Column], choices: &[Choice]) -> anyhow::Result<u64> {
    let mut message = "message rows {".to_owned();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_created_by(String::new());
    for (index, (column, choice)) in columns.iter().zip(choices).enumerate() {
        message.push_str(&column.definition(index));
        let path = ColumnPath::new(vec![name(index)]);
        properties = properties.set_column_dictionary_enabled(path.clone(), choice.is_none());
        if let Some(encoding) = choice {
            properties = properties.set_column_encoding(path, *encoding);
        }
    }
    message.push('}');
    let schema = Arc::new(parse_message_type(&message)?);
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build()))?;
    let mut group = file.next_row_group()?;
    for column in columns {
        let levels = column.levels.as_deref();
        let mut writer = group.next_column()?.expect("there are as many columns as were declared");
        match &column.values {
            Dense::Integers(values) => writer.typed::<Int64Type>().write_batch(values, levels, None)?,
            Dense::Floats(values) => writer.typed::<DoubleType>().write_batch(values, levels, None)?,
            Dense::Texts(values) => writer.typed::<ByteArrayType>().write_batch(values, levels, None)?,
        };
        writer.close()?;
    }
    group.close()?;
    Ok(file.into_inner()?.len() as u64)
}

fn name(index: usize) -> String {
    format!("c{index}")
}

impl Column {
    fn new<T>(values: impl Iterator<Item = Option<T>> + Clone, dense: impl Fn(Vec<T>) -> Dense) -> Self {
        let levels: Vec<i16> = values.clone().map(|value| i16::from(value.is_some())).collect();
        let levels = levels.contains(&0).then_some(levels);
        Self { values: dense(values.flatten().collect()), levels }
    }

    fn definition(&self, index: usize) -> String {
        let presence = if self.levels.is_some() { "OPTIONAL" } else { "REQUIRED" };
        let (ty, logical) = match self.values {
            Dense::Integers(_) => ("INT64", ""),
            Dense::Floats(_) => ("DOUBLE", ""),
            Dense::Texts(_) => ("BYTE_ARRAY", " (UTF8)"),
        };
        format!("{presence} {ty} {}{logical};", name(index))
    }
}
