//! Gauges: how many, the least, the greatest, mean and variance.

use rkyv::{Archive, Deserialize, Serialize};

use super::number::Number;

/// Independent sums, so that one addition need not wait for the one before it. The value with ordinal n goes to lane n mod LANES,
/// whatever batch it came in.
const LANES: usize = 4;

/// The statistics of a level. Sums are of differences from the first value: they lose nothing to a level that is large beside
/// its changes. The relative error of the variance is about the number of values times 2⁻⁵³ at worst.
#[derive(Debug, Clone, Default, PartialEq, Archive, Serialize, Deserialize)]
pub struct Gauge {
    count: u64,
    /// The bits of the first value, the least and the greatest, in the type of the column.
    origin: u64,
    min: u64,
    max: u64,
    sums: [f64; LANES],
    squares: [f64; LANES],
}

impl Gauge {
    /// How many values there were, finite ones only.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bits of the least and the greatest value in the type of the column.
    pub(crate) fn extremes(&self) -> (u64, u64) {
        (self.min, self.max)
    }

    /// Mean, and the sum of the squared differences from it. `N` is the type of the column.
    pub(crate) fn moments<N: Number>(&self) -> (f64, f64) {
        let [sum, squares] = [self.sums, self.squares].map(|[a, b, c, d]| (a + b) + (c + d));
        let count = self.count as f64;
        let mean = N::from_bits(self.origin).value() + sum / count;
        (mean, (squares - sum * sum / count).max(0.0))
    }

    /// Takes in more values, which are finite.
    pub(crate) fn fold<N: Number>(&mut self, values: &[N]) {
        let Some(first) = values.first() else { return };
        if self.count == 0 {
            let bits = first.canonical().to_bits();
            (self.origin, self.min, self.max) = (bits, bits, bits);
        }
        let origin = N::from_bits(self.origin);
        let turn = (self.count % LANES as u64) as usize;
        self.sums.rotate_left(turn);
        self.squares.rotate_left(turn);
        let (mut sums, mut squares) = (self.sums, self.squares);
        let mut lesser = [N::from_bits(self.min); LANES];
        let mut greater = [N::from_bits(self.max); LANES];
        let mut take = |lane: usize, value: N| {
            let difference = value.minus(origin);
            sums[lane] += difference;
            squares[lane] += difference * difference;
            lesser[lane] = lesser[lane].lesser(value);
            greater[lane] = greater[lane].greater(value);
        };
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, value) in chunk.iter().enumerate() {
                take(lane, *value);
            }
        }
        for (lane, value) in rest.iter().enumerate() {
            take(lane, *value);
        }
        self.min = lesser.into_iter().reduce(N::lesser).map_or(self.min, |min| min.canonical().to_bits());
        self.max = greater.into_iter().reduce(N::greater).map_or(self.max, |max| max.canonical().to_bits());
        (self.sums, self.squares) = (sums, squares);
        self.sums.rotate_right(turn);
        self.squares.rotate_right(turn);
        self.count += values.len() as u64;
    }
}
