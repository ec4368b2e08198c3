//! Times and durations as people write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::{SignedDuration, Timestamp};

/// The system clock in nanoseconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}

/// Reads an event time: integer nanoseconds since the Unix epoch, or RFC 3339 with an offset. `None` also when the
/// instant lies outside what an `i64` of nanoseconds can hold (1677–2262).
pub(crate) fn parse_event_time(text: &str) -> Option<i64> {
    if let Ok(nanoseconds) = text.parse::<i64>() {
        return Some(nanoseconds);
    }
    let timestamp: Timestamp = text.parse().ok()?;
    i64::try_from(timestamp.as_nanosecond()).ok()
}

/// Reads a positive duration such as `60s`, `1h30m` or `7d` (a day is 24 hours).
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a duration such as 60s, 1h30m or 7d".to_owned();
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        return Ok(Duration::from_hours(24 * u64::from(days)));
    }
    let duration: SignedDuration = text.parse().map_err(|_| expected())?;
    Duration::try_from(duration).map_err(|_| expected())
}

/// Writes an instant as RFC 3339 in UTC, to the second.
pub(crate) fn display_seconds(nanoseconds: i64) -> String {
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    Timestamp::from_second(seconds).map_or_else(|_| format!("{nanoseconds} ns"), |time| time.to_string())
}

/// Writes how long something takes or took in its two largest units: `3d 4h`, `2h 5m`, `41s`, `1.2s`.
pub(crate) fn display_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match seconds {
        0..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m {}s", seconds % 60),
        3_600..86_400 => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_times() {
        assert_eq!(parse_event_time("1970-01-01T00:00:01.5Z"), Some(1_500_000_000));
        assert_eq!(parse_event_time("1970-01-01T02:00:00+02:00"), Some(0));
        assert_eq!(parse_event_time("-12"), Some(-12));
        assert_eq!(parse_event_time("1969-12-31T23:59:59.999999999Z"), Some(-1));
        assert_eq!(parse_event_time("1500-01-01T00:00:00Z"), None, "before 1677 i64 nanoseconds run out");
        assert_eq!(parse_event_time("2024-01-01 10:00"), None, "no offset: whose clock?");
        assert_eq!(parse_event_time(""), None);
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_hours(168)));
        assert!(parse_duration("-1h").is_err());
        assert!(parse_duration("60").is_err());
    }

    #[test]
    fn durations_read_well() {
        let shown = |seconds| display_duration(Duration::from_secs_f64(seconds));
        assert_eq!(
            [shown(1.23), shown(41.9), shown(7_500.0), shown(273_600.0)],
            ["1.2s", "41s", "2h 5m", "3d 4h"]
        );
    }
}
