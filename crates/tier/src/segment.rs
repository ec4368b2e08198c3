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
