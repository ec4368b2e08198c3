//! Sealed segments that are lost: what was in them counts as missing from then on.

use std::collections::HashMap;
use std::sync::Arc;

use icecore_wire::SequenceRanges;

use super::LogReader;
use crate::error::LogError;
use crate::manifest::{self, SealedPart};
use crate::record::Source;
use crate::sealed::SealedEntry;
use crate::sealed_store::SealedStore;
use crate::segment_id::SegmentId;

/// What is stored of a source.
type Stored = (Arc<Source>, SequenceRanges);

/// What became of the search for what lost segments held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LostEvents {
    /// Events that count as missing from now on.
    pub events: u64,
    /// The position of the first of their segments; `None` if nothing is lost.
    pub from: Option<u64>,
    /// Lost segments of which it cannot be told what they held, because another one that was sealed with them left nothing behind
    /// either: their events count as stored, and are not asked for again.
    pub unknown: u64,
}

impl LogReader {
    /// Puts on record what was in the sealed segments for which `is_lost` holds: it does not count as stored any more, and devices that
    /// have it send it again. Of the other segments a file or a tail has to be here. What was on record before, and is not lost any
    /// more, is taken back. No writer may run meanwhile.
    ///
    /// # Errors
    /// When a manifest or a segment cannot be read, or the disk refuses.
    pub fn lose(&self, is_lost: &dyn Fn(SegmentId) -> bool) -> Result<LostEvents, LogError> {
        let SealedStore { disk, layout, .. } = &self.store;
        let mut all = LostEvents::default();
        for part in &self.segments.sealed {
            let number = part.manifest.number;
            let lost: Vec<_> = part.segments.iter().filter(|segment| is_lost(segment.id)).collect();
            manifest::lost::remove(&**disk, layout, number)?;
            let Some(from) = lost.iter().map(|segment| segment.child.positions.start).min() else { continue };
            all.from = Some(all.from.map_or(from, |first| first.min(from)));
            let Some(ranges) = self.only_in(part, is_lost)? else {
                all.unknown += lost.len() as u64;
                continue;
            };
            all.events += ranges.iter().map(|(_, ranges)| ranges.count()).sum::<u64>();
            let ranges: Vec<_> = ranges.iter().map(|(source, ranges)| (&**source, ranges.clone())).collect();
            manifest::lost::write(&**disk, layout, number, &ranges)?;
        }
        Ok(all)
    }

    /// What the manifest of a part says is stored, and none of its segments has but those that are lost; `None` if that cannot be told.
    fn only_in(
        &self,
        part: &SealedPart,
        is_lost: &dyn Fn(SegmentId) -> bool,
    ) -> Result<Option<Vec<Stored>>, LogError> {
        let SealedStore { disk, layout, .. } = &self.store;
        let facts = manifest::read_facts(&**disk, layout, part.manifest.number)?;
        let mut left = facts.into_stored();
        let sources = left.iter().enumerate();
        let at: HashMap<_, _> =
            sources.map(|(at, (source, _))| ((source.device.clone(), source.epoch), at)).collect();
        for segment in part.segments.iter().filter(|segment| !is_lost(segment.id)) {
            let open = match self.store.open_for_lookup(segment) {
                Err(LogError::Forgotten { .. } | LogError::Absent { .. }) => return Ok(None),
                open => open?,
            };
            for entry in open.entries() {
                let SealedEntry { source, batch, .. } = entry?;
                if let Some(at) = at.get(&(source.device.clone(), source.epoch)) {
                    left[*at].1.remove(batch.first_sequence..batch.first_sequence + u64::from(batch.count));
                }
            }
        }
        left.retain(|(_, ranges)| !ranges.is_empty());
        Ok(Some(left))
    }
}
