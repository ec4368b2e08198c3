//! How long to wait between two connections.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Backoff;

/// A connection that lasted this long was a good one: the next attempt starts from the shortest wait again.
const STEADY: Duration = Duration::from_secs(5);

/// At first an outage is taken for a restart, and waits stay short: the server is to be found soon after it is back.
const RESTART: Duration = Duration::from_secs(10);
const RESTART_WAIT: Duration = Duration::from_secs(1);

/// Exponential backoff with full jitter: however many connections end at once, they come back spread out.
pub(super) struct Wait {
    bounds: Backoff,
    next: Duration,
    /// When the first attempt after the last good connection began.
    outage: Option<Instant>,
}

impl Wait {
    pub(super) fn new(bounds: Backoff) -> Self {
        Self { bounds, next: bounds.min, outage: None }
    }

    /// A connection, or an attempt at one, has ended that `began` then.
    pub(super) fn ended(&mut self, began: Instant, now: Instant) {
        if now - began >= STEADY {
            self.reset();
        }
        self.outage.get_or_insert(now);
    }

    /// All is well.
    pub(super) fn reset(&mut self) {
        self.next = self.bounds.min;
        self.outage = None;
    }

    /// How long to wait now, and not less than the server wished for. What it wishes for it wishes of many at once.
    pub(super) fn next(&mut self, now: Instant, wish: Option<Duration>) -> Duration {
        let is_young = self.outage.is_some_and(|began| now - began < RESTART);
        let most = if is_young { self.bounds.max.min(RESTART_WAIT) } else { self.bounds.max };
        let full = self.next.min(most);
        self.next = full.saturating_mul(2).min(self.bounds.max);
        let wish = wish.unwrap_or_default();
        full.mul_f64(share()).max(wish + (wish / 2).mul_f64(share()))
    }
}

/// A random number from 0 to 1.
pub(super) fn share() -> f64 {
    let mut random = [0; 4];
    // Without random numbers devices merely come back at the same time.
    let _ = getrandom::fill(&mut random);
    f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Backoff = Backoff { min: Duration::from_millis(50), max: Duration::from_secs(15) };

    #[test]
    fn waits_double_stay_short_at_first_and_start_over() {
        let mut wait = Wait::new(BOUNDS);
        let began = Instant::now();
        wait.ended(began, began);
        for full in [50, 100, 200, 400, 800, 1000, 1000, 1000] {
            assert!(wait.next(began, None) <= Duration::from_millis(full), "{full}");
        }
        let mut longest = Duration::ZERO;
        for _ in 0..50 {
            longest = longest.max(wait.next(began + RESTART, None));
        }
        assert!(longest > RESTART_WAIT && longest <= BOUNDS.max, "{longest:?}");
        wait.ended(began, began + STEADY);
        assert!(wait.next(began + STEADY, None) <= BOUNDS.min);
    }

    #[test]
    fn waits_of_many_differ_and_the_servers_wish_is_the_least() {
        let now = Instant::now();
        let waits: Vec<_> = (0..100).map(|_| Wait::new(BOUNDS).next(now, None)).collect();
        assert!(waits.iter().any(|wait| *wait < BOUNDS.min / 4));
        assert!(waits.iter().any(|wait| *wait > BOUNDS.min / 2));
        let wish = Duration::from_secs(20);
        let wished: Vec<_> = (0..100).map(|_| Wait::new(BOUNDS).next(now, Some(wish))).collect();
        assert!(wished.iter().all(|wait| (wish..=wish * 3 / 2).contains(wait)));
        assert!(wished.iter().any(|wait| *wait > wish + wish / 4));
    }
}
