//! Times as people write and read them.

use jiff::{Span, SpanRelativeTo, Timestamp};

use crate::export::TimeText;

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a time: {problem}; write RFC 3339 (2013-01-31T12:00:00Z), nanoseconds since 1970 \
     (1359633600000000000), or a time relative to now (-2h, -1d12h)"
)]
pub struct InvalidInstant {
    text: String,
    problem: String,
}

/// Reads a time: RFC 3339 with an offset, integer nanoseconds since the Unix epoch, or a signed duration relative to
/// `now` in weeks, days of 24 hours, hours, minutes, seconds and fractions (`-2h`, `-1d12h`, `+30s`).
///
/// `now` and the result are nanoseconds since the Unix epoch.
///
/// ```
/// use icecore_replay::parse_instant;
///
/// let now = 1_000_000_000_000;
/// assert_eq!(parse_instant("-2m", now), Ok(now - 120_000_000_000));
/// assert_eq!(parse_instant("1970-01-01T01:00:00.5+01:00", now), Ok(500_000_000));
/// assert_eq!(parse_instant("-7", now), Ok(-7));
/// ```
pub fn parse_instant(text: &str, now: i64) -> Result<i64, InvalidInstant> {
    let invalid = |problem: String| InvalidInstant { text: text.to_owned(), problem };
    let beyond =
        || invalid("it is outside of the years 1677 to 2262, which 64 bits of nanoseconds can hold".into());
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| beyond());
    }
    if digits.len() < text.len() {
        let span: Span = text.parse().map_err(|error: jiff::Error| invalid(error.to_string()))?;
        let offset = span
            .to_duration(SpanRelativeTo::days_are_24_hours())
            .map_err(|_| invalid("months and years have no fixed length".into()))?;
        let offset = i64::try_from(offset.as_nanos()).map_err(|_| beyond())?;
        return now.checked_add(offset).ok_or_else(beyond);
    }
    let instant: Timestamp = text.parse().map_err(|error: jiff::Error| invalid(error.to_string()))?;
    i64::try_from(instant.as_nanosecond()).map_err(|_| beyond())
}

/// Writes a time, nanoseconds since the Unix epoch, as RFC 3339 in UTC with nine decimals.
pub fn format_instant(time: i64) -> String {
    let mut text = Vec::new();
    TimeText::default().push(&mut text, time);
    String::from_utf8(text).expect("an RFC 3339 time is ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000_000_000;

    #[test]
    fn takes_the_three_forms() {
        assert_eq!(parse_instant("0", NOW), Ok(0));
        assert_eq!(parse_instant("-9223372036854775808", NOW), Ok(i64::MIN));
        assert_eq!(parse_instant("2013-01-01T05:00:00Z", NOW), Ok(1_357_016_400_000_000_000));
        assert_eq!(parse_instant("1969-12-31T23:59:59.999999999Z", NOW), Ok(-1));
        assert_eq!(parse_instant("-1d12h", NOW), Ok(NOW - 36 * 3_600_000_000_000));
        assert_eq!(parse_instant("+1w", NOW), Ok(NOW + 7 * 24 * 3_600_000_000_000));
        assert_eq!(parse_instant("-250ms", NOW), Ok(NOW - 250_000_000));
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, problem) in [
            ("", "2013-01-31T12:00:00Z"),
            ("yesterday", "\"yesterday\" is not a time"),
            ("2013-01-01T05:00:00", "not a time"),
            ("-1mo", "months and years"),
            ("9223372036854775808", "1677 to 2262"),
            ("2300-01-01T00:00:00Z", "1677 to 2262"),
            ("-", "not a time"),
        ] {
            let error = parse_instant(text, NOW).expect_err(text).to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for time in [0, -1, 1, i64::MIN, i64::MAX, NOW, 951_782_400_000_000_000, 4_107_542_399_999_999_999] {
            let text = format_instant(time);
            assert_eq!(parse_instant(&text, 0), Ok(time), "{text}");
        }
    }
}
