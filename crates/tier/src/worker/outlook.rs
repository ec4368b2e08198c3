//! For how long the disk lasts.

use std::collections::VecDeque;

const SECOND: i64 = 1_000_000_000;
/// What the rate of ingestion is measured over.
const SPAN: i64 = 3_600 * SECOND;
/// Measurements are kept this far apart at least, so that there are a hundred and a few of them at most.
const STEP: i64 = 30 * SECOND;
/// A rate wants to be measured for this long.
const LEAST: i64 = 20 * SECOND;

/// Measures how fast the disk fills. Instants are arguments, in nanoseconds since the Unix epoch.
#[derive(Debug, Default)]
pub struct Outlook {
    /// Instants, and the bytes written until then; ascending.
    measured: VecDeque<(i64, u64)>,
}

impl Outlook {
    /// At `now`, this many bytes had been written, since whenever.
    pub fn note(&mut self, now: i64, written: u64) {
        let last = self.measured.back().copied();
        if last.is_some_and(|(instant, bytes)| now < instant || written < bytes) {
            self.measured.clear(); // the clock was set back, or it is counted anew
        }
        // The newest is replaced, as long as it is near the one before it.
        if self.measured.len() > 1 && now - self.measured[self.measured.len() - 2].0 < STEP {
            self.measured.pop_back();
        }
        self.measured.push_back((now, written));
        while self.measured.len() > 2 && now - self.measured[1].0 >= SPAN {
            self.measured.pop_front();
        }
    }

    /// Bytes a second, over the last hour or as long as it has been measured; 0 before that is 20 seconds.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let (Some(first), Some(last)) = (self.measured.front(), self.measured.back()) else { return 0.0 };
        if last.0 - first.0 < LEAST {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let (bytes, seconds) = ((last.1 - first.1) as f64, (last.0 - first.0) as f64 / SECOND as f64);
        bytes / seconds
    }

    /// For how many hours `free` bytes last at that rate; `None` if nothing is written.
    #[must_use]
    pub fn hours_left(&self, free: u64) -> Option<f64> {
        let rate = self.rate();
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let hours = free as f64 / rate / 3_600.0;
        (rate > 0.0).then_some(hours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_hour() {
        let mut outlook = Outlook::default();
        assert_eq!(outlook.hours_left(1), None);
        let mut written = 0;
        for second in 0..3 * 3_600 {
            written += if second < 3_600 { 1_000_000 } else { 1_000 };
            outlook.note(second * SECOND, written);
            assert!(outlook.measured.len() < 130);
        }
        assert!((outlook.rate() - 1_000.0).abs() < 20.0, "{}", outlook.rate());
        let hours = outlook.hours_left(36_000_000).unwrap();
        assert!((hours - 10.0).abs() < 0.2, "{hours}");
    }

    #[test]
    fn counters_and_clocks_that_go_back_begin_it_anew() {
        let mut outlook = Outlook::default();
        outlook.note(0, 0);
        outlook.note(100 * SECOND, 1_000);
        assert!(outlook.hours_left(1).is_some());
        outlook.note(200 * SECOND, 10);
        assert_eq!(outlook.hours_left(1), None);
        outlook.note(300 * SECOND, 20);
        outlook.note(250 * SECOND, 30);
        assert_eq!(outlook.hours_left(1), None);
    }
}
