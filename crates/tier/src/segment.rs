//! What the catalog knows of a sealed segment, and the planner needs of it.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::instant;

/// Names a sealed segment: the manifest that brought it, and its place there. Written `000000000012-003`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The number of the manifest.
    pub manifest: u64,
    /// The segment's place among the children of that manifest, from 0.
    pub child: u32,
}

/// A sealed segment: what is in it, where its bytes are, and what is decided about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its name.
    pub id: SegmentId,
    /// Bytes of the file.
    pub bytes: u64,
    /// Events in it.
    pub rows: u64,
    /// Root of the file's hashes: what a copy is compared with.
    pub root: [u8; 32],
    /// Positions of its events: the first, and the first behind the last. Other segments may have positions in between.
    pub positions: Range<u64>,
    /// Received times, first and last, in nanoseconds since the Unix epoch.
    pub received: Span,
    /// Event times, first and last, in nanoseconds since the Unix epoch.
    pub events: Span,
    /// Which part of it belongs to which policy, by the policies that apply now and the labels at receipt; the largest
    /// part first, never empty. More than one: the segment is to be split when the first of them is due.
    pub shares: Vec<Share>,
    /// Whether the data directory has the file.
    pub local: bool,
    /// Copies in object storage that were read back and verified; the newest last.
    pub copies: Vec<Copy>,
    /// Set while the segment is on its way to be deleted and can be taken back.
    pub deletion: Option<Deletion>,
}

/// First and last instant, both included, in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first.
    #[serde(with = "instant")]
    pub first: i64,
    /// The last.
    #[serde(with = "instant")]
    pub last: i64,
}

/// The part of a segment that belongs to one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The policy's name.
    pub policy: String,
    /// Events.
    pub rows: u64,
    /// Bytes of the file, in proportion to the events.
    pub bytes: u64,
}

/// Events of one device and one schema in a segment: what policies and holds select by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The schema's name.
    pub schema: String,
    /// The device's name.
    pub device: String,
    /// Received times of its events, first and last.
    pub received: Span,
    /// Events.
    pub rows: u64,
}

/// A copy of a segment in object storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// The name of the store in the configuration.
    pub store: String,
    /// The storage class; `None` is the store's usual one.
    pub class: Option<String>,
    /// When it was verified, in nanoseconds since the Unix epoch.
    pub verified: i64,
}

/// A deletion that can still be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When it was decided, in nanoseconds since the Unix epoch.
    pub marked: i64,
    /// From when on the bytes may go, in nanoseconds since the Unix epoch.
    pub due: i64,
    /// The policy that decided it.
    pub policy: String,
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}-{:03}", self.manifest, self.child)
    }
}

/// A text that is no [`SegmentId`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotASegmentId(String);

impl fmt::Display for NotASegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` names no segment: expected a name such as 000000000012-003", self.0)
    }
}

impl std::error::Error for NotASegmentId {}

impl FromStr for SegmentId {
    type Err = NotASegmentId;

    fn from_str(text: &str) -> Result<Self, NotASegmentId> {
        let parse = || {
            let (manifest, child) = text.split_once('-')?;
            Some(Self { manifest: manifest.parse().ok()?, child: child.parse().ok()? })
        };
        parse().ok_or_else(|| NotASegmentId(text.to_owned()))
    }
}

/// Its text where a person may read, two numbers everywhere else.
impl Serialize for SegmentId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { (self.manifest, self.child).serialize(to) }
    }
}

impl<'de> Deserialize<'de> for SegmentId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            return String::deserialize(from)?.parse().map_err(D::Error::custom);
        }
        let (manifest, child) = Deserialize::deserialize(from)?;
        Ok(Self { manifest, child })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = SegmentId { manifest: 12, child: 3 };
        assert_eq!(id.to_string(), "000000000012-003");
        assert_eq!(id.to_string().parse(), Ok(id));
        let big = SegmentId { manifest: u64::MAX, child: u32::MAX };
        assert_eq!(big.to_string().parse(), Ok(big));
        for bad in ["", "12", "12-", "-3", "a-b"] {
            assert!(bad.parse::<SegmentId>().is_err(), "{bad}");
        }
    }
}
