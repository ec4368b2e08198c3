//! What the catalog is told of a manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

use icecore_log::sealed::SealedSummary;
use icecore_log::{Child, LogError, LogReader, Manifest, SealSource};

use super::decision::Sealed;
use crate::segment::{Content, Segment, SegmentId, Share, Span};

/// Tells which part of a segment of so many bytes with these contents belongs to which policy, by the policies that apply and the
/// labels at receipt; the largest part first. [`PolicySet::shares`](crate::policy::PolicySet::shares) does that.
pub type Sharing<'s> = dyn Fn(u64, &[Content]) -> Vec<Share> + 's;

/// A manifest and the sealed segments it brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewManifest {
    /// The manifest's number.
    pub number: u64,
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

impl NewManifest {
    /// What a manifest of the log says. `contents` tells what is in each of its segments: [`contents`] of the segment's footer.
    ///
    /// # Errors
    /// Those of `contents`.
    pub fn of<E>(
        manifest: &Manifest,
        mut contents: impl FnMut(SegmentId) -> Result<Vec<Content>, E>,
    ) -> Result<Self, E> {
        let replaced = |source: &SealSource| match source {
            SealSource::Hot { .. } => None,
            SealSource::Sealed { id, .. } => Some(*id),
        };
        let from = manifest.sources.iter().filter_map(replaced).collect();
        let rows = total(manifest.children.iter().map(|child| child.rows));
        let covered = manifest.positions.end.saturating_sub(manifest.positions.start);
        // What is missing without anybody having accepted it is not lost but wrong; the invariants say so.
        let lost = if manifest.lost.is_empty() { 0 } else { covered.saturating_sub(rows) };
        let segments = manifest.segments().map(|(id, child)| {
            let Child { root, bytes, rows, ref positions, ref received, ref times, .. } = *child;
            let (positions, received, events) = (positions.clone(), span(received), span(times));
            let sealed = Sealed { id, bytes, rows, root, positions, received, events };
            Ok(NewSegment { sealed, contents: contents(id)? })
        });
        let segments = segments.collect::<Result<_, E>>()?;
        Ok(Self { number: manifest.number, from, positions: manifest.positions.clone(), lost, segments })
    }
}

/// What is in a sealed segment, of each schema and device.
#[must_use]
pub fn contents(segment: &SealedSummary) -> Vec<Content> {
    let mut contents: BTreeMap<(&str, &str), Content> = BTreeMap::new();
    for run in &segment.runs {
        let (schema, device) = (run.schema.name(), run.source.device.as_str());
        let (rows, received) = (run.rows, span(&run.received));
        let content = contents.entry((schema, device)).or_insert_with(|| Content {
            schema: schema.to_owned(),
            device: device.to_owned(),
            received,
            rows: 0,
        });
        content.rows += rows;
        content.received.first = content.received.first.min(received.first);
        content.received.last = content.received.last.max(received.last);
    }
    contents.into_values().collect()
}

/// What may be in a segment that cannot be read: events of each of the devices and schemas that its manifest sealed. A policy or a
/// hold that is about any of them is about the segment then: it may be kept longer than it had to be, never shorter.
///
/// # Errors
/// When its manifest cannot be read either.
pub fn possible_contents(log: &LogReader, id: SegmentId, segment: &Child) -> Result<Vec<Content>, LogError> {
    let mut names = BTreeSet::new();
    log.sealed_sources(id.manifest, &mut |source, schema| {
        names.insert((schema.name().to_owned(), source.device.as_str().to_owned()));
    })?;
    if names.is_empty() {
        names.insert((String::new(), String::new()));
    }
    // How many are whose is not known; none goes unmentioned.
    let (each, left) = (segment.rows / names.len() as u64, segment.rows % names.len() as u64);
    let content = |(n, (schema, device)): (u64, (String, String))| Content {
        schema,
        device,
        received: span(&segment.received),
        rows: each + u64::from(n < left),
    };
    Ok((0..).zip(names).map(content).collect())
}

fn span(times: &RangeInclusive<i64>) -> Span {
    Span { first: *times.start(), last: *times.end() }
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
