//! Lines of JSON that carry their checksum, so that a bit that flips in one is noticed: those of the registry, of the journal
//! and of terms.
//!
//! The last member of the object is `"crc32c"`: the CRC32C of all bytes of the line before the comma ahead of it, as 8
//! hexadecimal digits.

use crate::fields::crc32c;

/// What goes before the digits, and what behind them.
const KEY: &[u8] = b",\"crc32c\":\"";
const END: &[u8] = b"\"}";
/// Hexadecimal digits of a CRC32C.
const DIGITS: usize = 8;
/// Bytes of the key that may be damaged.
const MAX_DIFFER: usize = 2;

/// What the checksum of a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineCheck {
    /// It is the line that was written.
    Whole,
    /// The line has no checksum: it is of an earlier version, or was written by hand.
    Absent,
    /// The line is not the one that was written.
    Damaged,
}

/// Adds the checksum to a line that is a JSON object with members, without its newline.
///
/// # Panics
/// When it does not end as an object does.
pub fn close(line: &mut Vec<u8>) {
    assert_eq!(line.pop(), Some(b'}'), "only an object gets a checksum");
    let sum = crc32c(line);
    line.extend_from_slice(KEY);
    line.extend_from_slice(format!("{sum:08x}").as_bytes());
    line.extend_from_slice(END);
}

/// Compares a line, without its newline, with its checksum.
#[must_use]
pub fn check(line: &[u8]) -> LineCheck {
    let Some((content, key, digits)) = split(line) else { return LineCheck::Absent };
    match key == KEY && digits == format!("{:08x}", crc32c(content)).as_bytes() {
        true => LineCheck::Whole,
        false => LineCheck::Damaged,
    }
}

/// Content, key and digits. A key that is nearly the right one will do: a bit that flips in it must not make the line one
/// without a checksum.
fn split(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let line = line.strip_suffix(END)?;
    let (line, digits) = line.split_at_checked(line.len().checked_sub(DIGITS)?)?;
    let (content, key) = line.split_at_checked(line.len().checked_sub(KEY.len())?)?;
    let differ = key.iter().zip(KEY).filter(|(found, right)| found != right).count();
    (differ <= MAX_DIFFER).then_some((content, key, digits))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn closed(line: &str) -> Vec<u8> {
        let mut line = line.as_bytes().to_vec();
        close(&mut line);
        line
    }

    #[test]
    fn a_line_and_its_checksum_look_so() {
        assert_eq!(closed(r#"{"a":1}"#), br#"{"a":1,"crc32c":"149cdbb2"}"#);
    }

    #[test]
    fn lines_without_a_checksum_are_told_apart() {
        for line in
            ["", "}", "\"}", r#"{"a":1}"#, r#"{"time":"2026-01-01T00:00:00Z"}"#, r#"{"name":"12345678"}"#]
        {
            assert_eq!(check(line.as_bytes()), LineCheck::Absent, "{line}");
        }
    }

    #[test]
    fn no_single_bit_flips_unnoticed() {
        let line = closed(r#"{"fact":"revoked","name":"pump","time":17}"#);
        assert_eq!(check(&line), LineCheck::Whole);
        for bit in 0..line.len() * 8 {
            let mut flipped = line.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let is_json = serde_json::from_slice::<serde_json::Value>(&flipped).is_ok();
            assert!(check(&flipped) == LineCheck::Damaged || !is_json, "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_checked_without_panic(line in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = check(&line);
        }

        #[test]
        fn what_is_closed_is_whole(name in "[a-z\"\\\\ö]{0,20}") {
            let line = serde_json::json!({ "name": name }).to_string();
            prop_assert_eq!(check(&closed(&line)), LineCheck::Whole);
        }
    }
}
