//! Real weather to stream: a year of hourly readings at three New York airports (`testdata/SOURCES.md`).

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use icecore_wire::{ColumnType, Field, Schema, Value};

/// In the binary itself, so that the demo works from any directory.
const NYC_WEATHER: &[u8] = include_bytes!("../../../../testdata/nyc_weather.csv.gz");

/// The fields after device and time, with their units in UCUM.
const FIELDS: [(&str, &str); 9] = [
    ("temp", "[degF]"),
    ("dewp", "[degF]"),
    ("humid", "%"),
    ("wind_dir", "deg"),
    ("wind_speed", "[mi_i]/h"),
    ("wind_gust", "[mi_i]/h"),
    ("precip", "[in_i]"),
    ("pressure", "mbar"),
    ("visib", "[mi_i]"),
];

/// One hourly reading.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    /// The airport's code.
    pub(super) airport: String,
    /// Nanoseconds since the Unix epoch.
    pub(super) time: i64,
    values: [Option<f64>; FIELDS.len()],
}

impl Reading {
    /// One value per field of [`schema`].
    pub(super) fn values(&self) -> [Value<'static>; FIELDS.len()] {
        self.values.map(|value| value.map_or(Value::Null, Value::F64))
    }
}

/// The schema of the readings; any of them may be missing.
pub(super) fn schema() -> Arc<Schema> {
    let field = |(name, unit): &(&str, &str)| Field::new(*name, ColumnType::F64).with_unit(*unit).nullable();
    let fields = FIELDS.iter().map(field).collect();
    Arc::new(Schema::new("weather", 1, fields).expect("the field names are distinct and short"))
}

/// All readings, in the order of the source: airport by airport within each hour.
pub(super) fn readings() -> Result<Vec<Reading>> {
    let mut text = String::new();
    GzDecoder::new(NYC_WEATHER).read_to_string(&mut text).context("the weather is not gzip")?;
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    rows.records().map(|row| parse(&row?)).collect()
}

fn parse(row: &csv::StringRecord) -> Result<Reading> {
    let cell = |column: usize| row.get(column).with_context(|| format!("no column {column} in {row:?}"));
    let time = cell(1)?.parse::<jiff::Timestamp>().with_context(|| format!("bad time in {row:?}"))?;
    let mut values = [None; FIELDS.len()];
    for (field, value) in values.iter_mut().enumerate() {
        let text = cell(2 + field)?;
        if !text.is_empty() {
            *value = Some(text.parse().with_context(|| format!("bad number in {row:?}"))?);
        }
    }
    Ok(Reading { airport: cell(0)?.to_owned(), time: i64::try_from(time.as_nanosecond())?, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_year_is_there() {
        let readings = readings().unwrap();
        assert_eq!(readings.len(), 26_115);
        assert_eq!(readings[0].airport, "EWR");
        assert_eq!(readings[0].values()[0], Value::F64(39.02));
        assert_eq!(readings[0].values()[5], Value::Null);
    }

    #[test]
    fn the_schema_names_the_columns_of_the_file() {
        let mut text = String::new();
        GzDecoder::new(NYC_WEATHER).read_to_string(&mut text).unwrap();
        let schema = schema();
        let names = schema.fields().iter().map(Field::name).collect::<Vec<_>>();
        assert_eq!(text.lines().next().unwrap(), format!("device,timestamp,{}", names.join(",")));
    }
}
