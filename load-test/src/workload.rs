//! What the fleet reports: readings of machines, plausible and never repeating.
//!
//! Constants would flatter the compression and pure noise would defeat it, so the values are what a machine's sensors
//! say: a temperature that drifts in the steps of its converter, a vibration level with noise in its last digits, and a
//! count that grows. Event times jitter by microseconds. The generator's state does not cycle, so no stretch of bytes
//! comes back, let alone within 64 MiB.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use icecore_device::{Column, ColumnData, ColumnType, Field, Kind, Schema};

/// The converter behind the temperature resolves this many steps per degree.
const TEMPERATURE_STEPS_PER_DEGREE: f64 = 128.0;
/// The vibration level is reported in thousandths of mm/s.
const VIBRATION_STEPS_PER_UNIT: f64 = 1_000.0;

/// A machine is sampled a hundred times a second; nanoseconds.
const SAMPLE_INTERVAL: i64 = 10_000_000;
/// By how much a sample may be early or late, nanoseconds.
const JITTER: f64 = 50_000.0;

/// The schema of every batch: three fields, as the performance figures assume.
pub(crate) fn schema() -> Arc<Schema> {
    let fields = vec![
        Field::new("temperature", ColumnType::F64).with_unit("Cel"),
        Field::new("vibration", ColumnType::F64).with_unit("mm/s"),
        Field::new("revolutions", ColumnType::I64).with_kind(Kind::Counter),
    ];
    Arc::new(Schema::new("machine", 1, fields).expect("the field names are distinct and short"))
}

/// The time now, in nanoseconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    let since_epoch = UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).expect("the clock stands before the year 2262")
}

/// Columns of one batch, reused from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Readings {
    pub(crate) times: Vec<i64>,
    temperature: Vec<f64>,
    vibration: Vec<f64>,
    revolutions: Vec<i64>,
}

impl Readings {
    /// The field columns, in the schema's order.
    pub(crate) fn columns(&self) -> [Column<'_>; 3] {
        [
            Column::from(ColumnData::F64(&self.temperature)),
            Column::from(ColumnData::F64(&self.vibration)),
            Column::from(ColumnData::I64(&self.revolutions)),
        ]
    }

    /// Time and field values of each reading.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (i64, f64, f64, i64)> {
        let row = |i| (self.times[i], self.temperature[i], self.vibration[i], self.revolutions[i]);
        (0..self.times.len()).map(row)
    }

    /// Appends the readings as bytes, column after column, as a plain batch lays them out.
    pub(crate) fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.times.iter().flat_map(|time| time.to_le_bytes()));
        bytes.extend(self.temperature.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(self.vibration.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(self.revolutions.iter().flat_map(|value| value.to_le_bytes()));
    }
}

/// One machine: the state from which its readings follow.
#[derive(Debug)]
pub(crate) struct Machine {
    random: u64,
    time: i64,
    temperature: f64,
    vibration: f64,
    revolutions: i64,
}

impl Machine {
    /// Machine number `number` of the fleet, whose first reading is due at `start` (nanoseconds since the epoch).
    pub(crate) fn new(number: u64, start: i64) -> Self {
        // Weyl's constant spreads neighbouring numbers over the whole state space; never zero, which xorshift needs.
        let random = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Self { random, time: start, temperature: 40.0, vibration: 2.5, revolutions: 0 }
    }

    /// Replaces `readings` by the next `rows` readings.
    pub(crate) fn read(&mut self, rows: usize, readings: &mut Readings) {
        let Readings { times, temperature, vibration, revolutions } = readings;
        times.clear();
        temperature.clear();
        vibration.clear();
        revolutions.clear();
        for _ in 0..rows {
            let random = self.next_random();
            let (drift, noise, jitter) = (unit(random), unit(random >> 16), unit(random >> 32));
            self.time += SAMPLE_INTERVAL;
            self.temperature += 0.02 * drift + 0.0005 * (40.0 - self.temperature);
            self.vibration += 0.05 * noise + 0.01 * (2.5 - self.vibration);
            self.revolutions += 24 + (random >> 62) as i64;
            times.push(self.time + (jitter * JITTER) as i64);
            temperature.push(
                (self.temperature * TEMPERATURE_STEPS_PER_DEGREE).round() / TEMPERATURE_STEPS_PER_DEGREE,
            );
            vibration
                .push((self.vibration.abs() * VIBRATION_STEPS_PER_UNIT).round() / VIBRATION_STEPS_PER_UNIT);
            revolutions.push(self.revolutions);
        }
    }

    /// Xorshift64*: good enough for noise and a nanosecond per number.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// The low 16 bits as a number in [-1, 1).
fn unit(bits: u64) -> f64 {
    f64::from(bits as u16 as i16) / 32_768.0
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn readings_are_plausible_and_do_not_repeat() {
        let mut machine = Machine::new(7, 1_000);
        let mut readings = Readings::default();
        let mut seen = HashSet::new();
        for _ in 0..10_000 {
            machine.read(100, &mut readings);
            assert!(readings.temperature.iter().all(|degrees| (0.0..100.0).contains(degrees)));
            assert!(readings.revolutions.is_sorted());
            let vibration = readings.vibration.iter().map(|level| level.to_bits()).collect::<Vec<_>>();
            assert!(seen.insert(vibration), "a hundred readings came back");
        }
    }

    #[test]
    fn machines_differ() {
        let (mut one, mut other) = (Readings::default(), Readings::default());
        Machine::new(0, 0).read(10, &mut one);
        Machine::new(1, 0).read(10, &mut other);
        assert_ne!(one.temperature, other.temperature);
    }
}
