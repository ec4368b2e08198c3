//! Instants as people read them where a person may read, and as numbers everywhere else.
//!
//! A nanosecond since the Unix epoch is written as RFC 3339 in UTC, exactly, in JSON; in binary rows it stays an `i64`.

use jiff::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The instant in RFC 3339; every `i64` of nanoseconds has one.
pub(crate) fn text(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(i128::from(nanoseconds))
        .map_or_else(|_| format!("{nanoseconds} ns"), |instant| instant.to_string())
}

fn parse(text: &str) -> Option<i64> {
    let instant: Timestamp = text.parse().ok()?;
    i64::try_from(instant.as_nanosecond()).ok()
}

pub(crate) fn serialize<S: Serializer>(nanoseconds: &i64, to: S) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() { text(*nanoseconds).serialize(to) } else { nanoseconds.serialize(to) }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    if !from.is_human_readable() {
        return i64::deserialize(from);
    }
    let text = String::deserialize(from)?;
    parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no instant between 1677 and 2262")))
}

/// The same for an instant that may be absent.
pub(crate) mod optional {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Instant(#[serde(with = "super")] i64);

    pub(crate) fn serialize<S: Serializer>(instant: &Option<i64>, to: S) -> Result<S::Ok, S::Error> {
        instant.map(Instant).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
        Ok(Option::<Instant>::deserialize(from)?.map(|Instant(nanoseconds)| nanoseconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nanosecond_is_read_as_it_was_written() {
        for nanoseconds in [i64::MIN, -1, 0, 1, 1_500_000_000_123_456_789, i64::MAX] {
            assert_eq!(parse(&text(nanoseconds)), Some(nanoseconds));
        }
        assert_eq!(parse("yesterday"), None);
    }
}
