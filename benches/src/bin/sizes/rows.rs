//! The rows of a CSV file, sorted by device, in columns.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

/// All rows; those of a device in the file's order.
pub(crate) struct Rows {
    pub(crate) devices: Vec<String>,
    /// Nanoseconds since the Unix epoch.
    pub(crate) times: Vec<i64>,
    pub(crate) columns: Vec<Column>,
    /// Bytes of the CSV text in gzip.
    pub(crate) gzip_bytes: u64,
}

/// A field of all rows.
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) values: Values,
}

/// Its values.
pub(crate) enum Values {
    Integers(Vec<Option<i64>>),
    Floats(Vec<Option<f64>>),
    Texts(Vec<Option<String>>),
}

/// Reads `device,timestamp,<field>…`. Fields are of the types that `fields.json` beside the file declares, others of the
/// narrowest of integer, float and text that takes all values.
pub(crate) fn read(path: &Path) -> anyhow::Result<Rows> {
    let mut text = Vec::new();
    let mut file = File::open(path)?;
    match path.extension().is_some_and(|extension| extension == "gz") {
        true => MultiGzDecoder::new(file).read_to_end(&mut text)?,
        false => file.read_to_end(&mut text)?,
    };
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&text)?;
    let gzip_bytes = gzip.finish()?.len() as u64;

    let mut csv = csv::Reader::from_reader(text.as_slice());
    let names: Vec<String> = csv.headers()?.iter().skip(2).map(str::to_owned).collect();
    let mut records = csv.records().collect::<Result<Vec<_>, _>>()?;
    records.sort_by(|a, b| a[0].cmp(&b[0]));
    let declared = declared(path)?;
    let column = |(index, name): (usize, String)| {
        let cells = records.iter().map(|record| Some(&record[index + 2]).filter(|cell| !cell.is_empty()));
        let values = Values::of(cells, declared[name.as_str()].as_str());
        Column { name, values }
    };
    Ok(Rows {
        devices: records.iter().map(|record| record[0].to_owned()).collect(),
        times: records.iter().map(|record| time(&record[1])).collect::<Result<_, _>>()?,
        columns: names.into_iter().enumerate().map(column).collect(),
        gzip_bytes,
    })
}

/// The types of a file's fields by name, as far as they are declared.
fn declared(path: &Path) -> anyhow::Result<serde_json::Value> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.split('.').next().unwrap_or_default();
    let types = path.with_file_name("fields.json");
    if !types.exists() {
        return Ok(serde_json::Value::Null);
    }
    let types: serde_json::Value = serde_json::from_slice(&std::fs::read(&types)?)
        .with_context(|| format!("{} is no JSON", types.display()))?;
    Ok(types[name].clone())
}

impl Values {
    /// As the declared type, or else as the narrowest that takes all of them.
    fn of<'a>(cells: impl Iterator<Item = Option<&'a str>> + Clone, declared: Option<&str>) -> Self {
        fn parsed<'a, T: std::str::FromStr>(
            mut cells: impl Iterator<Item = Option<&'a str>>,
        ) -> Option<Vec<Option<T>>> {
            cells.try_fold(Vec::new(), |mut all, cell| {
                all.push(cell.map(str::parse).transpose().ok()?);
                Some(all)
            })
        }
        let may_be = |ty| declared.is_none_or(|declared| declared == ty);
        if (may_be("int") || may_be("bool(0/1)"))
            && let Some(integers) = parsed(cells.clone())
        {
            Self::Integers(integers)
        } else if may_be("float")
            && let Some(floats) = parsed(cells.clone())
        {
            Self::Floats(floats)
        } else {
            Self::Texts(cells.map(|cell| cell.map(str::to_owned)).collect())
        }
    }
}

fn time(text: &str) -> anyhow::Result<i64> {
    if let Ok(nanoseconds) = text.parse() {
        return Ok(nanoseconds);
    }
    let time: jiff::Timestamp = text.parse().with_context(|| format!("{text:?} is no time"))?;
    match i64::try_from(time.as_nanosecond()) {
        Ok(time) => Ok(time),
        Err(_) => bail!("{text} is out of range"),
    }
}
