//! The names of sealed segments.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::segment::Layout;

/// The id of a sealed segment: which seal made it, and which of its children it is. Written `000000000012-003`; ids
/// ascend with the seals, as numbers and as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The number of the manifest that names it as a child.
    pub manifest: u64,
    /// Which of that manifest's children, from 0.
    pub child: u32,
}

/// A text that is no id of a sealed segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the id of a sealed segment; they look like 000000000012-003")]
pub struct InvalidSegmentId {
    text: String,
}

impl SegmentId {
    /// Where the segment's file is in the data directory `data`, if it is there.
    #[must_use]
    pub fn file(self, data: &Path) -> PathBuf {
        Layout::new(data).sealed(self)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}-{:03}", self.manifest, self.child)
    }
}

impl FromStr for SegmentId {
    type Err = InvalidSegmentId;

    fn from_str(text: &str) -> Result<Self, InvalidSegmentId> {
        let parsed = text.split_once('-').and_then(|(manifest, child)| {
            Some(Self { manifest: manifest.parse().ok()?, child: child.parse().ok()? })
        });
        // One text for each id, so that no two files can claim to be the same segment.
        parsed.filter(|id| id.to_string() == text).ok_or_else(|| InvalidSegmentId { text: text.to_owned() })
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
    fn ids_are_written_and_read_back_in_order() {
        let id = SegmentId { manifest: 12, child: 3 };
        assert_eq!(id.to_string(), "000000000012-003");
        for id in [id, SegmentId { manifest: 0, child: 0 }, SegmentId { manifest: u64::MAX, child: u32::MAX }]
        {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert!(id < SegmentId { manifest: 12, child: 4 } && id < SegmentId { manifest: 13, child: 0 });
    }

    #[test]
    fn anything_else_is_no_id() {
        for text in
            ["", "12-3", "000000000012", "000000000012-003.ice", "+00000000012-003", "000000000012-0003"]
        {
            assert!(text.parse::<SegmentId>().is_err(), "{text}");
        }
    }
}
