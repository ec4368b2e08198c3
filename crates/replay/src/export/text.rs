//! Numbers, times and bytes as text, appended to a buffer.

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// Appends an integer.
#[inline]
pub(super) fn push_integer(text: &mut Vec<u8>, number: impl itoa::Integer) {
    text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a finite float with as few digits as read back equal: `270`, not `270.0`.
#[inline]
pub(super) fn push_finite(text: &mut Vec<u8>, number: impl zmij::Float) {
    let mut buffer = zmij::Buffer::new();
    let digits = buffer.format_finite(number).as_bytes();
    text.extend_from_slice(digits.strip_suffix(b".0").unwrap_or(digits));
}

/// The name of a float that is not finite. The bits of a NaN are not told.
pub(super) fn non_finite(number: f64) -> &'static [u8] {
    if number.is_nan() {
        b"NaN"
    } else if number > 0.0 {
        b"inf"
    } else {
        b"-inf"
    }
}

/// Appends bytes as lower-case hexadecimal.
pub(super) fn push_hex(text: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.extend(
        bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
    );
}

/// Appends a JSON string. The text need not be free of anything.
pub(super) fn push_json_string(text: &mut Vec<u8>, string: &str) {
    serde_json::to_writer(text, string).expect("a string serializes and a Vec takes every write");
}

/// Appends a list as a JSON array, each element written by `push`.
pub(super) fn push_array<T: Copy>(text: &mut Vec<u8>, elements: &[T], push: impl Fn(&mut Vec<u8>, T)) {
    text.push(b'[');
    for (i, &element) in elements.iter().enumerate() {
        if i > 0 {
            text.push(b',');
        }
        push(text, element);
    }
    text.push(b']');
}

/// Writes times as RFC 3339 in UTC with nine decimals, 30 characters. Remembers the date of the last one, since the
/// next is mostly of the same day.
#[derive(Debug, Clone)]
pub(crate) struct TimeText {
    day: i64,
    /// `YYYY-MM-DDT` of `day`.
    date: [u8; 11],
}

impl Default for TimeText {
    fn default() -> Self {
        Self { day: 0, date: *b"1970-01-01T" }
    }
}

impl TimeText {
    /// Appends `time`, nanoseconds since the Unix epoch. All 64 bits of them lie between the years 1677 and 2262.
    #[inline]
    pub(crate) fn push(&mut self, text: &mut Vec<u8>, time: i64) {
        let (second, nanosecond) = (time.div_euclid(SECOND), time.rem_euclid(SECOND) as u32);
        let (day, second) = (second.div_euclid(DAY), second.rem_euclid(DAY) as u32);
        if day != self.day {
            (self.day, self.date) = (day, date_text(day));
        }
        let mut clock = *b"00:00:00.000000000Z";
        clock[0..2].copy_from_slice(&two_digits(second / 3600));
        clock[3..5].copy_from_slice(&two_digits(second / 60 % 60));
        clock[6..8].copy_from_slice(&two_digits(second % 60));
        clock[9] += (nanosecond / 100_000_000) as u8;
        for (place, divisor) in [(10, 1_000_000), (12, 10_000), (14, 100), (16, 1)] {
            clock[place..place + 2].copy_from_slice(&two_digits(nanosecond / divisor % 100));
        }
        text.extend_from_slice(&self.date);
        text.extend_from_slice(&clock);
    }
}

#[inline]
fn two_digits(number: u32) -> [u8; 2] {
    [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]
}

/// The proleptic Gregorian date of a day counted from 1970-01-01, after Howard Hinnant's `civil_from_days`: years
/// begin in March, so that the leap day is a year's last, and repeat every 400 years.
fn date_text(day: i64) -> [u8; 11] {
    const DAYS_400_YEARS: i64 = 146_097;
    let from_march_of_year_0 = day + 719_468;
    let (cycle, day) =
        (from_march_of_year_0.div_euclid(DAYS_400_YEARS), from_march_of_year_0.rem_euclid(DAYS_400_YEARS));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let year = (cycle * 400 + year) as u32;

    let mut date = *b"0000-00-00T";
    date[0..2].copy_from_slice(&two_digits(year / 100));
    date[2..4].copy_from_slice(&two_digits(year % 100));
    date[5..7].copy_from_slice(&two_digits(month as u32));
    date[8..10].copy_from_slice(&two_digits(day_of_month as u32));
    date
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut text = Vec::new();
        push(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn floats_are_short() {
        for (number, expected) in
            [(0.0, "0"), (-0.0, "-0"), (270.0, "270"), (0.1, "0.1"), (5e-324, "5e-324"), (1e300, "1e+300")]
        {
            assert_eq!(text(|text| push_finite(text, number)), expected);
        }
        assert_eq!(text(|text| push_finite(text, 0.1f32)), "0.1");
    }

    #[test]
    fn bytes_are_hexadecimal() {
        assert_eq!(text(|text| push_hex(text, &[0, 0x1f, 0xff])), "001fff");
    }

    proptest! {
        #[test]
        fn floats_read_back_bit_for_bit(bits: u64) {
            let number = f64::from_bits(bits);
            if number.is_finite() {
                let read: f64 = text(|text| push_finite(text, number)).parse().unwrap();
                prop_assert_eq!(read.to_bits(), bits);
            }
        }

        #[test]
        fn times_agree_with_jiff(times in prop::collection::vec(any::<i64>(), 1..4)) {
            let mut writer = TimeText::default();
            for time in times {
                let expected = jiff::Timestamp::from_nanosecond(i128::from(time)).unwrap();
                prop_assert_eq!(text(|text| writer.push(text, time)), format!("{expected:.9}"));
            }
        }
    }
}
