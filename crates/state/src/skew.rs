//! How far a device's clock is off.

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::{MAX_FUTURE, SKEW_WINDOW};

/// An estimate of how far the server's clock is ahead of the device's: the smallest delay (received less event time) of the
/// events of the current and of the last window of received time.
///
/// A delay is the clocks' difference and the time on the way; the smallest one has the least of the way in it, whatever else
/// came late. It is negative when the device's clock is ahead. Events whose time the device called uncertain say nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Skew {
    current: Option<Window>,
    previous: Option<Window>,
}

/// Delays of the events received in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
struct Window {
    number: i64,
    least: i64,
}

impl Skew {
    /// The estimate in nanoseconds; `None` while nothing speaks for one.
    #[must_use]
    pub fn estimate(&self) -> Option<i64> {
        let adjacent = |previous: &&Window| self.current.is_some_and(|now| now.number - previous.number <= 1);
        let previous = self.previous.as_ref().filter(adjacent);
        self.current.iter().chain(previous).map(|window| window.least).min()
    }

    /// Whether no event that was ahead of its time has any part in it: each would have left a delay below this.
    pub(crate) fn is_credible(&self) -> bool {
        let mut windows = self.current.iter().chain(&self.previous);
        windows.all(|window| window.least >= -(MAX_FUTURE.as_nanos() as i64))
    }

    /// Takes in events of which the newest has this event time.
    pub(crate) fn fold(&mut self, received: i64, newest_time: i64) {
        let number = received.div_euclid(SKEW_WINDOW.as_nanos() as i64);
        let least = received.saturating_sub(newest_time);
        match &mut self.current {
            // Received times never step back.
            Some(window) if window.number >= number => window.least = window.least.min(least),
            current => self.previous = current.replace(Window { number, least }),
        }
    }
}
