//! The distribution of a gauge's values.

use sketches_ddsketch::{Config, DDSketch};

/// The form of the bytes.
const VERSION: u8 = 1;

/// Quantiles of numbers, each of them off by 1 % of its value at most. Sketches of different events can be merged.
#[derive(Clone)]
pub struct Sketch(DDSketch);

/// Bytes that are no sketch of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a sketch: {0}")]
pub struct SketchError(String);

impl Default for Sketch {
    fn default() -> Self {
        Self(DDSketch::new(Config::defaults()))
    }
}

impl Sketch {
    /// Takes in a finite number.
    pub(super) fn add(&mut self, number: f64) {
        self.0.add(number);
    }

    /// How many numbers there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.count() as u64
    }

    /// The number that the part `quantile` (0 to 1) of all is not above; `None` of no numbers.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        self.0.quantile(quantile.clamp(0.0, 1.0)).ok().flatten()
    }

    /// Takes in the numbers of another one.
    pub fn merge(&mut self, other: &Self) {
        // All have the same configuration: only one is ever made or read.
        self.0.merge(&other.0).expect("the configuration of all sketches is the same");
    }

    /// The bytes that are stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_extend(&self.0, vec![VERSION]).expect("a sketch has no type that postcard lacks")
    }

    /// Reads what [`Sketch::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SketchError> {
        match bytes.split_first() {
            Some((&VERSION, sketch)) => {
                postcard::from_bytes(sketch).map(Self).map_err(|error| SketchError(error.to_string()))
            }
            Some((version, _)) => {
                Err(SketchError(format!("its version is {version}, and this program knows {VERSION}")))
            }
            None => Err(SketchError("there are no bytes".to_owned())),
        }
    }
}

impl std::fmt::Debug for Sketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sketch").field("count", &self.count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The form is that of the crate that makes sketches. Writes the frozen file anew with `ICECORE_WRITE_GOLDEN=1`: only ever for a new
    /// version, beside the old one.
    #[test]
    fn version_1_is_written_and_read_as_it_was() {
        let mut sketch = Sketch::default();
        for number in [-2.5, 0.0, 1e-3, 1.0, 1.0, 20.0, 300.5, 1e9] {
            sketch.add(number);
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1/sketch");
        if std::env::var_os("ICECORE_WRITE_GOLDEN").is_some() {
            fs::write(&file, sketch.to_bytes()).unwrap();
        }
        let frozen = fs::read(file).unwrap();
        assert!(frozen == sketch.to_bytes(), "sketches are written otherwise");
        let read = Sketch::from_bytes(&frozen).unwrap();
        assert_eq!(read.count(), 8);
        let quantiles = [0.0, 0.5, 1.0].map(|quantile| read.quantile(quantile).unwrap());
        for (quantile, number) in quantiles.iter().zip([-2.5, 1.0, 1e9_f64]) {
            assert!((quantile - number).abs() <= 0.01 * number.abs(), "{quantile} for {number}");
        }
        let unknown = Sketch::from_bytes(&[2, 0]).unwrap_err().to_string();
        assert_eq!(unknown, "not a sketch: its version is 2, and this program knows 1");
    }
}
