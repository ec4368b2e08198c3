//! Whether the server's memory stays flat.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use icecore_load::server::TestServer;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

/// How often it is sampled.
const EVERY: Duration = Duration::from_secs(1);
/// The share of the samples that is of the time before everything is as large as it gets.
const WARM_UP: f64 = 0.2;
/// The later median may be this many times the earlier one. On the fleet of 2,000 it is 1.00; with the directory of every
/// finished segment left in memory, 64 bytes a batch, it was 1.14.
const FLAT: f64 = 1.1;
/// Fewer samples than this say nothing about growth.
const LEAST_SAMPLES: usize = 60;

/// Memory of the server that no file backs, sampled while the fleet sent: without a warm-up, in two halves.
#[derive(Debug, Serialize)]
pub(super) struct Memory {
    samples: usize,
    first: Half,
    second: Half,
    /// The second half's median over the first's.
    ratio: f64,
}

#[derive(Debug, Serialize)]
struct Half {
    median_bytes: u64,
    max_bytes: u64,
}

impl Memory {
    /// Samples the memory of `server` from now until `end`.
    ///
    /// # Errors
    /// When the server is gone.
    pub(super) async fn watch(server: &TestServer, end: Instant) -> Result<Self> {
        let mut samples = Vec::new();
        let mut due = Instant::now();
        while due < end {
            sleep_until(due).await;
            samples.push(server.anonymous_bytes()?);
            due += EVERY;
        }
        Ok(Self::of(&samples))
    }

    fn of(samples: &[u64]) -> Self {
        let warm = &samples[(samples.len() as f64 * WARM_UP) as usize..];
        let (first, second) = warm.split_at(warm.len() / 2);
        let [first, second] = [first, second].map(Half::of);
        let ratio = second.median_bytes as f64 / first.median_bytes.max(1) as f64;
        Self { samples: samples.len(), first, second, ratio }
    }

    /// # Errors
    /// When the memory has grown.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.samples < LEAST_SAMPLES || self.ratio <= FLAT,
            "the server's memory grew to {:.2} times what it was; {FLAT} is the limit",
            self.ratio
        );
        Ok(())
    }
}

impl Half {
    fn of(samples: &[u64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let median_bytes = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        Self { median_bytes, max_bytes: sorted.last().copied().unwrap_or_default() }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "first half {}, second half {}, ratio {:.3}", self.first, self.second, self.ratio)
    }
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, max] = [self.median_bytes, self.max_bytes].map(|bytes| bytes as f64 / 1e6);
        write!(f, "median {median:.1} MB, max {max:.1} MB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_from_a_warm_up() {
        let flat = (0..100).map(|second: u64| 1_000 * second.min(20) + second % 3).collect::<Vec<_>>();
        let memory = Memory::of(&flat);
        assert!(memory.check().is_ok());
        assert!(memory.ratio < 1.01);
        assert_eq!(memory.second.max_bytes, 20_002);
        let growing = (1..=100).map(|second| 1_000 * second).collect::<Vec<_>>();
        assert!(Memory::of(&growing).check().unwrap_err().to_string().contains("grew to"));
        assert!(Memory::of(&growing[..10]).check().is_ok(), "too short to tell");
        assert_eq!(Memory::of(&[]).first.median_bytes, 0);
    }
}
