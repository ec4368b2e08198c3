//! Synthetic readings: a press with a force, a temperature and a count of strokes.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use icecore_wire::{Column, ColumnData, ColumnType, Field, Kind, Schema};

/// Samples in one stroke of the press.
const STROKE: f64 = 250.0;
/// A press is sampled a thousand times a second; nanoseconds.
const SAMPLE_INTERVAL: i64 = 1_000_000;

/// The schema of the readings.
pub(super) fn schema() -> Arc<Schema> {
    let fields = vec![
        Field::new("force", ColumnType::F64).with_unit("kN"),
        Field::new("temperature", ColumnType::F64).with_unit("Cel"),
        Field::new("strokes", ColumnType::I64).with_kind(Kind::Counter),
    ];
    Arc::new(Schema::new("press", 1, fields).expect("the field names are distinct and short"))
}

/// One press, and the latest readings taken from it.
#[derive(Debug)]
pub(super) struct Machine {
    noise: u32,
    samples: i64,
    temperature: f64,
    time: i64,
    times: Vec<i64>,
    forces: Vec<f64>,
    temperatures: Vec<f64>,
    strokes: Vec<i64>,
}

impl Machine {
    /// Press number `number`, switched on now.
    pub(super) fn new(number: u32) -> Self {
        let since_epoch = UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            noise: number.wrapping_mul(0x9E37_79B9) | 1,
            samples: 0,
            temperature: 35.0,
            time: i64::try_from(since_epoch.as_nanos()).expect("the clock stands before the year 2262"),
            times: Vec::new(),
            forces: Vec::new(),
            temperatures: Vec::new(),
            strokes: Vec::new(),
        }
    }

    /// Takes the next `rows` readings: their times, and their columns in the schema's order.
    pub(super) fn read(&mut self, rows: usize) -> (&[i64], [Column<'_>; 3]) {
        self.times.clear();
        self.forces.clear();
        self.temperatures.clear();
        self.strokes.clear();
        for _ in 0..rows {
            let noise = self.next_noise();
            self.samples += 1;
            self.time += SAMPLE_INTERVAL;
            self.temperature += 0.01 * noise + 0.0001 * (35.0 - self.temperature);
            let phase = (self.samples as f64 / STROKE).fract();
            let force = (800.0 * (1.0 - (4.0 * phase - 1.0).powi(2))).max(0.0) + noise;
            self.times.push(self.time);
            self.forces.push((force * 16.0).round() / 16.0);
            self.temperatures.push((self.temperature * 128.0).round() / 128.0);
            self.strokes.push(self.samples / STROKE as i64);
        }
        let columns = [
            Column::new(ColumnData::F64(&self.forces)),
            Column::new(ColumnData::F64(&self.temperatures)),
            Column::new(ColumnData::I64(&self.strokes)),
        ];
        (&self.times, columns)
    }

    /// A number in [-1, 1): xorshift, which never reaches zero from an odd start.
    fn next_noise(&mut self) -> f64 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 17;
        self.noise ^= self.noise << 5;
        f64::from(self.noise as i32) / 2_147_483_648.0
    }
}
