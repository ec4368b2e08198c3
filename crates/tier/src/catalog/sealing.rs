//! What the catalog is told of a manifest.

use std::ops::Range;

use super::decision::Sealed;
use crate::segment::{Content, Segment, SegmentId, Share};

/// Tells which part of a segment of so many bytes with these contents belongs to which policy, by the policies that apply and the
/// labels at receipt; the largest part first. [`PolicySet::shares`](crate::policy::PolicySet::shares) does that.
pub type Sharing<'s> = dyn Fn(u64, &[Content]) -> Vec<Share> + 's;

/// A manifest and the sealed segments it brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealing {
    /// The manifest's number.
    pub manifest: u64,
    /// The sealed segments that these replace; empty where hot segments were sealed.
    pub from: Vec<SegmentId>,
    /// The positions it covers. Manifests of hot segments follow each other without gap or overlap: positions that were lost before
    /// its first event are among them.
    pub positions: Range<u64>,
    /// Of the events at these positions, how many were lost to damage that the operator accepted before they were sealed.
    pub lost: u64,
    /// The segments, by their number among the children.
    pub segments: Vec<NewSegment>,
}

/// A segment that a manifest brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSegment {
    /// What is known of it.
    pub sealed: Sealed,
    /// What is in it.
    pub contents: Vec<Content>,
}

impl NewSegment {
    /// The segment as it is when its manifest is written: local, and nowhere else.
    pub(super) fn segment(&self, sharing: &Sharing<'_>) -> Segment {
        let Sealed { id, bytes, rows, root, positions, received, events } = self.sealed.clone();
        let shares = sharing(bytes, &self.contents);
        let (copies, deletion) = (Vec::new(), None);
        Segment { id, bytes, rows, root, positions, received, events, shares, local: true, copies, deletion }
    }
}

/// Events all together. A journal that was tampered with may say anything, so it ends at the largest number.
pub(super) fn total(rows: impl Iterator<Item = u64>) -> u64 {
    rows.fold(0, u64::saturating_add)
}
