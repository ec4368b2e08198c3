//! What the benchmarks measure with: batches of plausible readings.

pub mod sealed_log;

use std::f64::consts::TAU;
use std::sync::Arc;

use icecore_wire::{Column, ColumnData, ColumnType, EncodeOptions, Field, Kind, Payload, Schema, encode};

/// Rows of one batch as the performance figures assume: three fields and a time.
#[derive(Debug)]
pub struct Readings {
    times: Vec<i64>,
    temperatures: Vec<f64>,
    vibrations: Vec<f64>,
    revolutions: Vec<i64>,
}

impl Readings {
    /// The `rows` readings that start with sequence `first`: a drift with a sensor's steps, noise, and a counter.
    pub fn new(first: u64, rows: usize) -> Self {
        let sequences = || (first..).take(rows);
        let noise =
            |sequence: u64| (sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1 << 24) as f64;
        Self {
            times: sequences().map(|s| s as i64 * 10_000_000 + (noise(s) * 50_000.0) as i64).collect(),
            temperatures: sequences()
                .map(|s| ((40.0 + 5.0 * (s as f64 / 5_000.0 * TAU).sin()) * 128.0).round() / 128.0)
                .collect(),
            vibrations: sequences().map(|s| ((2.5 + noise(s)) * 1_000.0).round() / 1_000.0).collect(),
            revolutions: sequences().map(|s| 24 * s as i64 + (noise(s) * 4.0) as i64).collect(),
        }
    }

    /// Event times, nanoseconds since the Unix epoch.
    pub fn times(&self) -> &[i64] {
        &self.times
    }

    /// The field columns.
    pub fn columns(&self) -> [Column<'_>; 3] {
        [
            Column::new(ColumnData::F64(&self.temperatures)),
            Column::new(ColumnData::F64(&self.vibrations)),
            Column::new(ColumnData::I64(&self.revolutions)),
        ]
    }
}

/// The schema of [`Readings`].
pub fn schema() -> Arc<Schema> {
    let fields = vec![
        Field::new("temperature", ColumnType::F64).with_unit("Cel"),
        Field::new("vibration", ColumnType::F64).with_unit("mm/s"),
        Field::new("revolutions", ColumnType::I64).with_kind(Kind::Counter),
    ];
    Arc::new(Schema::new("machine", 1, fields).expect("the field names are distinct and short"))
}

/// An encoded batch of readings.
pub fn batch(first: u64, rows: usize, options: EncodeOptions) -> Payload {
    let readings = Readings::new(first, rows);
    encode(&schema(), first, readings.times(), &readings.columns(), options)
        .expect("the columns fit the schema")
}

/// Plain and pco-compressed, by name.
pub const ENCODINGS: [(&str, EncodeOptions); 2] =
    [("plain", EncodeOptions::PLAIN), ("pco", EncodeOptions { pco: Some(8), ..EncodeOptions::PLAIN })];
