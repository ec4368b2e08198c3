//! A circuit breaker: a store that fails again and again is left alone, and then tried with one request.

use std::time::{Duration, Instant};

/// Failures in a row after which a store is left alone.
const PATIENCE: u32 = 5;
/// How long it is left alone the first time; each time that the probe fails too, twice as long.
const FIRST_REST: Duration = Duration::from_secs(2);
/// And at most this long.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Lets requests through while they succeed. It has no clock: instants are arguments.
#[derive(Debug)]
pub(super) struct Breaker {
    /// Failures in a row.
    failures: u32,
    rest: Duration,
    state: State,
}

/// What a breaker does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// All pass.
    Closed,
    /// None pass until then.
    Open(Instant),
    /// One has passed, and its outcome decides; if it never comes, another may pass then.
    HalfOpen(Instant),
}

/// A request that is not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resting {
    pub(super) failures: u32,
    pub(super) retry_after: Duration,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { failures: 0, rest: FIRST_REST, state: State::Closed }
    }

    /// Whether a request may go out at `now`; its outcome must be told.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Resting> {
        match self.state {
            State::Closed => Ok(()),
            State::Open(until) | State::HalfOpen(until) if now < until => {
                Err(Resting { failures: self.failures, retry_after: until - now })
            }
            State::Open(_) | State::HalfOpen(_) => {
                self.state = State::HalfOpen(now + self.rest);
                Ok(())
            }
        }
    }

    /// A request was answered. Returns whether that ends a rest.
    pub(super) fn answered(&mut self) -> bool {
        let rested = self.state != State::Closed;
        *self = Self::new();
        rested
    }

    /// A request failed at `now`. `jitter`, in 0..1, spreads the probes of many machines. Returns the rest that begins, if
    /// one does.
    pub(super) fn failed(&mut self, now: Instant, jitter: f64) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        match self.state {
            State::Closed if self.failures < PATIENCE => return None,
            // Requests that were on their way when the rest began say nothing new.
            State::Open(_) => return None,
            State::Closed => {}
            State::HalfOpen(_) => self.rest = (self.rest * 2).min(LONGEST_REST),
        }
        let rest = self.rest.mul_f64(1.0 + jitter / 4.0);
        self.state = State::Open(now + rest);
        Some(rest)
    }

    /// Whether requests pass.
    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_fails_is_left_alone_and_probed_once() {
        let mut breaker = Breaker::new();
        let start = Instant::now();
        for _ in 1..PATIENCE {
            assert_eq!(breaker.admit(start), Ok(()));
            assert_eq!(breaker.failed(start, 0.0), None);
        }
        assert_eq!(breaker.failed(start, 0.0), Some(FIRST_REST));
        let resting = breaker.admit(start + FIRST_REST / 2).unwrap_err();
        assert_eq!(resting, Resting { failures: PATIENCE, retry_after: FIRST_REST / 2 });

        let later = start + FIRST_REST;
        assert_eq!(breaker.admit(later), Ok(()), "the probe");
        assert!(breaker.admit(later).is_err(), "only one");
        assert_eq!(breaker.failed(later, 0.0), Some(FIRST_REST * 2));

        let again = later + FIRST_REST * 2;
        assert_eq!(breaker.admit(again), Ok(()));
        assert!(breaker.answered());
        assert!(breaker.is_closed());
        assert_eq!(breaker.admit(again), Ok(()));
        assert!(!breaker.answered());
    }

    #[test]
    fn a_success_forgets_the_failures_before_it() {
        let mut breaker = Breaker::new();
        let now = Instant::now();
        for _ in 0..3 * PATIENCE {
            breaker.failed(now, 0.0);
            breaker.answered();
        }
        assert!(breaker.is_closed());
    }

    #[test]
    fn rests_grow_to_a_limit_and_are_spread() {
        let mut breaker = Breaker::new();
        let mut now = Instant::now();
        let mut rest = (0..PATIENCE).find_map(|_| breaker.failed(now, 1.0)).unwrap();
        assert_eq!(rest, FIRST_REST.mul_f64(1.25));
        for _ in 0..10 {
            now += rest;
            breaker.admit(now).unwrap();
            rest = breaker.failed(now, 1.0).unwrap();
        }
        assert_eq!(rest, LONGEST_REST.mul_f64(1.25));
    }

    #[test]
    fn a_probe_whose_outcome_never_comes_does_not_end_probing() {
        let mut breaker = Breaker::new();
        let now = Instant::now();
        (0..PATIENCE).for_each(|_| _ = breaker.failed(now, 0.0));
        let probe = now + FIRST_REST;
        breaker.admit(probe).unwrap();
        assert!(breaker.admit(probe + FIRST_REST / 2).is_err());
        assert_eq!(breaker.admit(probe + FIRST_REST), Ok(()));
    }
}
