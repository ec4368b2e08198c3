//! The sealed segments of a view, opened one after the other, for who reads their rows as they lie.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use icecore_wire::Schema;

use super::{AbsentSegment, LogReader, OnAbsent, OnDamage, Point, Scan, Segments};
use crate::error::{Damage, LogError};
use crate::manifest::{Child, CurrentSegment, SealedPart};
use crate::sealed::{Rows, SealedSegment};
use crate::sealed_store::SealedStore;
use crate::segment_id::SegmentId;

/// The sealed segments that may hold rows of a [`Scan`], oldest first. What is not sealed is behind [`LogReader::sealed_to`], where a
/// scan of positions finds it.
#[derive(Debug)]
pub struct SealedSegments<'a> {
    reader: &'a LogReader,
    scan: &'a Scan<'a>,
    parts: VecDeque<SealedPart>,
    /// Segments of the part being read, with the positions that count in it.
    queue: VecDeque<(CurrentSegment, Range<u64>)>,
    passed: Vec<Damage>,
    absent: Vec<AbsentSegment>,
    failed: bool,
}

/// A sealed segment that was opened.
#[derive(Debug)]
pub struct OpenSegment {
    /// Its name.
    pub id: SegmentId,
    /// What its manifest knows of it.
    pub child: Child,
    segment: SealedSegment,
    positions: Range<u64>,
}

impl OpenSegment {
    /// Its rows of `scan`, in the order of (schema, device, epoch, sequence). Times are looked at by page only.
    #[must_use]
    pub fn rows<'s>(&'s self, scan: &'s Scan<'_>) -> Rows<'s> {
        self.segment.rows(scan.rows_at(&self.positions))
    }

    /// How many row groups it has of the schemas for which `wanted` holds.
    #[must_use]
    pub fn row_groups(&self, wanted: impl Fn(&Schema) -> bool) -> u64 {
        let schemas = self.segment.schemas().filter(|schema| wanted(schema));
        schemas.map(|schema| self.segment.statistics(schema).count() as u64).sum()
    }

    /// Counts the pages of columns that are read of it from here on.
    #[must_use]
    pub fn pages_read(&self) -> Arc<AtomicU64> {
        self.segment.pages_read()
    }
}

impl LogReader {
    /// Opens the sealed segments that may hold rows of `scan`.
    #[must_use]
    pub fn sealed_segments<'a>(&'a self, scan: &'a Scan<'a>) -> SealedSegments<'a> {
        SealedSegments {
            reader: self,
            scan,
            parts: self.segments.sealed.iter().cloned().collect(),
            queue: VecDeque::new(),
            passed: Vec::new(),
            absent: Vec::new(),
            failed: false,
        }
    }
}

impl SealedSegments<'_> {
    /// The damage passed over since this was called last.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.passed)
    }

    /// The segments passed over since this was called last.
    pub fn take_absent(&mut self) -> Vec<AbsentSegment> {
        std::mem::take(&mut self.absent)
    }

    fn try_next(&mut self) -> Result<Option<OpenSegment>, LogError> {
        loop {
            let Some((segment, positions)) = self.queue.pop_front() else {
                let Some(part) = self.parts.pop_front() else { return Ok(None) };
                self.enter(part)?;
                continue;
            };
            if self.scan.wants_none_in(&segment.child, &positions) {
                continue;
            }
            match self.reader.store.open(&segment) {
                Ok(open) => {
                    let CurrentSegment { id, child } = segment;
                    return Ok(Some(OpenSegment { id, child, segment: open, positions }));
                }
                Err(LogError::Damaged(mut damage)) => {
                    damage.positions.get_or_insert_with(|| segment.child.positions.clone());
                    self.pass_over(*damage)?;
                }
                Err(why @ (LogError::Absent { .. } | LogError::Io { .. })) => {
                    if matches!(why, LogError::Absent { .. }) && self.replace(segment.id, &positions)? {
                        continue;
                    }
                    if self.scan.on_absent == OnAbsent::Fail {
                        return Err(why);
                    }
                    self.absent.push(AbsentSegment { id: segment.id, child: segment.child, why });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Goes on with the segments of a part, as far as it is in the view.
    fn enter(&mut self, part: SealedPart) -> Result<(), LogError> {
        let Range { start, end } = Point::of_part(&part);
        let end = end.position.min(self.reader.end.position);
        let all = start.position..end;
        let wanted = self.scan.positions.as_ref().unwrap_or(&all);
        let positions = all.start.max(wanted.start)..all.end.min(wanted.end);
        if positions.is_empty() {
            return Ok(());
        }
        for damage in part.damage(&self.reader.store.layout) {
            if !damage.positions.as_ref().is_some_and(|lost| self.scan.excludes(lost)) {
                self.pass_over(damage)?;
            }
        }
        self.queue.extend(part.segments.into_iter().map(|segment| (segment, positions.clone())));
        Ok(())
    }

    /// Goes on with what a segment was split into since the view was opened, if it was.
    fn replace(&mut self, id: SegmentId, positions: &Range<u64>) -> Result<bool, LogError> {
        let SealedStore { disk, layout, .. } = &self.reader.store;
        let newer = Segments::read(&**disk, layout)?;
        let split =
            newer.manifests.iter().find(|manifest| manifest.replaced().any(|replaced| replaced == id));
        let Some(split) = split else { return Ok(false) };
        for (id, child) in split.segments() {
            self.queue.push_front((CurrentSegment { id, child: child.clone() }, positions.clone()));
        }
        Ok(true)
    }

    fn pass_over(&mut self, damage: Damage) -> Result<(), LogError> {
        if self.scan.on_damage == OnDamage::Fail {
            return Err(damage.into());
        }
        self.passed.push(damage);
        Ok(())
    }
}

impl Iterator for SealedSegments<'_> {
    type Item = Result<OpenSegment, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.try_next();
        self.failed = next.is_err();
        next.transpose()
    }
}
