//! A limit on bytes a second, so that tiering leaves the line to others.

use std::time::{Duration, Instant};

/// How much may go at once: a second's worth.
const BURST: Duration = Duration::from_secs(1);

/// Says how long to wait before the next bytes. It has no clock: instants are arguments.
#[derive(Debug)]
pub(super) struct Bandwidth {
    bytes_per_s: u64,
    /// When all that was let through has had its time.
    paid: Option<Instant>,
}

impl Bandwidth {
    /// At most `bytes_per_s`; 0 is no limit.
    pub(super) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, paid: None }
    }

    /// Takes `bytes` at `now`, and returns how long to wait before they may go.
    pub(super) fn take(&mut self, bytes: u64, now: Instant) -> Duration {
        if self.bytes_per_s == 0 {
            return Duration::ZERO;
        }
        // What was not used longer ago than a burst is lost.
        let oldest = now.checked_sub(BURST).unwrap_or(now);
        let from = self.paid.map_or(oldest, |paid| paid.max(oldest));
        let wait = from.saturating_duration_since(now);
        #[expect(clippy::cast_precision_loss, reason = "a duration to a part in 2^53")]
        let time = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        self.paid = Some(from + time);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_passes_in_the_long_run() {
        let mut bandwidth = Bandwidth::new(1000);
        let start = Instant::now();
        let mut now = start;
        for _ in 0..100 {
            now += bandwidth.take(500, now);
        }
        let took = now - start;
        assert!(took >= Duration::from_millis(48_000) && took <= Duration::from_millis(50_000), "{took:?}");
    }

    #[test]
    fn a_rest_is_worth_a_burst_and_no_more() {
        let mut bandwidth = Bandwidth::new(1000);
        let later = Instant::now() + Duration::from_secs(3600);
        assert_eq!(bandwidth.take(1000, later), Duration::ZERO);
        assert_eq!(bandwidth.take(1000, later), Duration::ZERO);
        assert_eq!(bandwidth.take(1000, later), Duration::from_secs(1));
    }

    #[test]
    fn nothing_waits_without_a_limit() {
        assert_eq!(Bandwidth::new(0).take(u64::MAX, Instant::now()), Duration::ZERO);
    }
}
