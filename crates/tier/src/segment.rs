//! What the catalog knows of a sealed segment, and the planner needs of it.

use std::ops::Range;

pub use icecore_log::SegmentId;
use serde::{Deserialize, Serialize};

use crate::instant;

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
/// The object of a segment's copy in this storage class; `None` is the store's usual one. Copies of different classes have
/// different names, so that the one that is there stays as it is until the other was verified.
#[must_use]
pub fn object_name(segment: SegmentId, class: Option<&str>) -> String {
    match class {
        Some(class) => format!("segments/{segment}.{class}.ice"),
        None => format!("segments/{segment}.ice"),
    }
}

/// The segment and the storage class of the object of this name, if it is that of a copy.
#[must_use]
pub fn parse_object(name: &str) -> Option<(SegmentId, Option<&str>)> {
    let file = name.strip_prefix("segments/")?.strip_suffix(".ice")?;
    let (id, class) = file.split_once('.').map_or((file, None), |(id, class)| (id, Some(class)));
    Some((id.parse().ok()?, class))
}

impl Copy {
    /// The object of this copy of `segment`.
    #[must_use]
    pub fn object(&self, segment: SegmentId) -> String {
        object_name(segment, self.class.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_by_segment_and_class() {
        let id = SegmentId { manifest: 12, child: 3 };
        assert_eq!(object_name(id, None), "segments/000000000012-003.ice");
        for class in [None, Some("GLACIER_IR"), Some("v1.2")] {
            assert_eq!(parse_object(&object_name(id, class)), Some((id, class)));
        }
        for other in ["segments/12-3.ice", "segments/000000000012-003", "manifests/000000000012-003.ice"] {
            assert_eq!(parse_object(other), None, "{other}");
        }
    }
}
