//! Angles: a mean that knows that 359° and 1° are neighbours.

use std::f64::consts::TAU;

use rkyv::{Archive, Deserialize, Serialize};

use super::number::Number;

/// The sum of the unit vectors of all directions.
#[derive(Debug, Clone, Default, PartialEq, Archive, Serialize, Deserialize)]
pub struct Angle {
    count: u64,
    sine: f64,
    cosine: f64,
}

/// A full turn in a unit (UCUM): radians and gradians by their names, everything else counts as degrees.
pub(crate) fn turn(unit: &str) -> f64 {
    match unit {
        "rad" => TAU,
        "gon" => 400.0,
        _ => 360.0,
    }
}

impl Angle {
    /// How many directions there were, finite ones only.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean direction as a part of a turn from 0 to 1, and the length of the mean vector: 1 when all agree, 0 when there is no
    /// mean.
    pub(crate) fn mean(&self) -> (f64, f64) {
        let part = (libm::atan2(self.sine, self.cosine) / TAU).rem_euclid(1.0);
        // A hair below north is north.
        let part = if part < 1.0 { part } else { 0.0 };
        (part, libm::hypot(self.sine, self.cosine) / self.count as f64)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sine += other.sine;
        self.cosine += other.cosine;
    }

    /// Takes in more directions, which are finite. `turn` is a full turn in their unit.
    pub(crate) fn fold<N: Number>(&mut self, values: &[N], turn: f64) {
        for value in values {
            // The remainder is exact, and `libm` is the same everywhere, which the system's functions are not.
            let (sine, cosine) = libm::sincos(value.value() % turn * (TAU / turn));
            self.sine += sine;
            self.cosine += cosine;
        }
        self.count += values.len() as u64;
    }
}
