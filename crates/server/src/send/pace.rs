//! How fast rows are let through.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Waits shorter than this are not worth a timer; rows then go through in small bursts.
const RESOLUTION: Duration = Duration::from_millis(2);

/// Lets rows through at a given speed.
pub(crate) struct Pace {
    limit: Limit,
    start: Instant,
}

enum Limit {
    None,
    /// So many rows a second.
    Rate {
        per_second: f64,
        rows: u64,
    },
    /// So many seconds of event time a second; the latest event time so far counts.
    Speed {
        factor: f64,
        times: Option<(i64, i64)>,
    },
}

impl Pace {
    pub(crate) fn new(rate: Option<f64>, speed: Option<f64>) -> Self {
        let limit = match (rate, speed) {
            (Some(per_second), _) => Limit::Rate { per_second, rows: 0 },
            (None, Some(factor)) => Limit::Speed { factor, times: None },
            (None, None) => Limit::None,
        };
        Self { limit, start: Instant::now() }
    }

    /// Waits until the next row, which happened at `event_time`, is due.
    pub(crate) async fn admit(&mut self, event_time: i64) {
        let due = match &mut self.limit {
            Limit::None => return,
            Limit::Rate { per_second, rows } => {
                *rows += 1;
                (*rows - 1) as f64 / *per_second
            }
            Limit::Speed { factor, times } => {
                let (first, latest) = times.get_or_insert((event_time, event_time));
                *latest = event_time.max(*latest);
                latest.abs_diff(*first) as f64 / 1e9 / *factor
            }
        };
        let due = self.start + Duration::try_from_secs_f64(due).unwrap_or(Duration::MAX / 4);
        if due.duration_since(Instant::now()) > RESOLUTION {
            sleep_until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds_for(rate: Option<f64>, speed: Option<f64>, times: &[i64]) -> f64 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut pace = Pace::new(rate, speed);
            for time in times {
                pace.admit(*time).await;
            }
            pace.start.elapsed().as_secs_f64()
        })
    }

    #[test]
    fn a_rate_spaces_rows_and_a_speed_follows_event_times() {
        assert!((0.09..0.5).contains(&seconds_for(Some(100.0), None, &[0; 11])));
        let minute = 60_000_000_000;
        assert!((0.06..0.5).contains(&seconds_for(None, Some(1000.0), &[0, minute, 0, -minute])));
        assert!(seconds_for(None, None, &[0; 1000]) < 0.05);
    }
}
