//! Lengths of time, as policies write them.

use std::fmt;
use std::str::FromStr;

/// A length of time, not negative, in nanoseconds. Written in seconds, minutes, hours, days, weeks and years:
/// `30s`, `15m`, `6h`, `90d`, `2w`, `1y`, or several together, `1d12h`. A day has 24 hours and a year 365 days: policies
/// know no calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(i64);

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 24 * 3_600 * SECOND;

/// Letters and lengths in nanoseconds, longest first.
const UNITS: [(char, i64); 6] =
    [('y', 365 * DAY), ('w', 7 * DAY), ('d', DAY), ('h', 3_600 * SECOND), ('m', 60 * SECOND), ('s', SECOND)];

impl Period {
    /// Two centuries are more than anybody waits, and any instant of our time plus them fits.
    pub(super) const LONGEST: Self = Self(200 * 365 * DAY);

    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// So many days of 24 hours.
    #[must_use]
    pub const fn days(days: u16) -> Self {
        Self(days as i64 * DAY)
    }

    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u16) -> Self {
        Self(seconds as i64 * SECOND)
    }

    /// So many hours.
    #[must_use]
    pub const fn hours(hours: u16) -> Self {
        Self(hours as i64 * 3_600 * SECOND)
    }

    /// Its nanoseconds.
    #[must_use]
    pub const fn nanoseconds(self) -> i64 {
        self.0
    }

    /// The instant this long after `instant`, both in nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn after(self, instant: i64) -> i64 {
        instant.saturating_add(self.0)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        // Weeks are written as days, and years where they do not come out even: nobody reads `12w6d` and `1y25d`.
        let whole_years = self.0 % UNITS[0].1 == 0;
        let mut rest = self.0;
        for (letter, length) in UNITS {
            if rest >= length && (letter != 'y' || whole_years) && letter != 'w' {
                write!(f, "{}{letter}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

/// A text that is no [`Period`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a length of time such as \"6h\", \"90d\" or \"1y\" (s, m, h, d, w, y), not {0:?}")]
pub struct InvalidPeriod(String);

impl FromStr for Period {
    type Err = InvalidPeriod;

    fn from_str(text: &str) -> Result<Self, InvalidPeriod> {
        let parse = || {
            let mut total = 0_i64;
            let mut rest = text;
            while !rest.is_empty() {
                let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
                let letter = after.chars().next()?;
                let (_, length) = UNITS.into_iter().find(|unit| unit.0 == letter)?;
                total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(length)?)?;
                rest = &after[letter.len_utf8()..];
            }
            Some(Self(total)).filter(|period| !text.is_empty() && *period <= Self::LONGEST)
        };
        parse().ok_or_else(|| InvalidPeriod(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_written_as_it_is_read() {
        for text in ["0s", "30s", "15m", "6h", "2d", "7d", "90d", "1y", "10y", "1d12h", "36d1m"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        assert_eq!("365d".parse::<Period>(), "1y".parse());
        assert_eq!("2w".parse::<Period>().unwrap().to_string(), "14d");
        assert_eq!("60m".parse::<Period>().unwrap().to_string(), "1h");
    }

    #[test]
    fn what_is_no_period_says_how_one_is_written() {
        for text in ["", "6", "h", "6 h", "-6h", "1M", "6hours", "201y", "99999999999999999999d", "1.5h"] {
            let message = text.parse::<Period>().unwrap_err().to_string();
            assert!(message.contains("\"90d\"") && message.ends_with(&format!("not {text:?}")), "{message}");
        }
    }
}
