//! Lines that a storm of clients must not multiply.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time for which one line stands.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lets one log line of a kind through a second, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl LogLimit {
    /// Whether a line may be written now; the number of lines that were left out before it.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_says_how_many_it_stands_for() {
        let (limit, start) = (LogLimit::default(), Instant::now());
        assert_eq!(limit.admit(start), Some(0));
        assert_eq!(limit.admit(start), None);
        assert_eq!(limit.admit(start + INTERVAL / 2), None);
        assert_eq!(limit.admit(start + INTERVAL), Some(2));
        assert_eq!(limit.admit(start + 3 * INTERVAL), Some(0));
    }
}
