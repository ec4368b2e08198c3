//! How a number of durations is spread.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Median, 99th percentile and maximum, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// How many durations there were; the others are 0 without any.
    pub(crate) count: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Spread {
    pub(crate) fn of(durations: impl IntoIterator<Item = Duration>) -> Self {
        let mut sorted = durations.into_iter().collect::<Vec<_>>();
        sorted.sort_unstable();
        let Some(last) = sorted.len().checked_sub(1) else { return Self::default() };
        let at = |quantile: f64| sorted[(last as f64 * quantile).round() as usize].as_secs_f64() * 1_000.0;
        Self { count: sorted.len(), p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) }
    }

    /// This 99th percentile over another's.
    pub(crate) fn p99_over(&self, calm: &Self) -> f64 {
        self.p99_ms / calm.p99_ms
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, p50_ms, p99_ms, max_ms } = self;
        write!(f, "p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, max {max_ms:.1} ms of {count}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_durations() {
        let spread = Spread::of((0..=100).rev().map(Duration::from_millis));
        assert_eq!(spread, Spread { count: 101, p50_ms: 50.0, p99_ms: 99.0, max_ms: 100.0 });
        assert_eq!(Spread::of([]), Spread::default());
    }
}
