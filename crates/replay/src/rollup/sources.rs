//! Events of earlier manifests, in the windows that one touched.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use icecore_log::sealed::SealedSegment;
use icecore_log::{LogError, LogReader, SegmentId};
use icecore_wire::{DeviceName, SchemaId};

use super::{Series, overlap};
use crate::ReplayError;

/// Segments that are kept open. A device's window is mostly in the last ones.
const OPEN: usize = 32;
/// The widest windows there are: so far from its events those of the same window may be.
const WIDEST: i64 = 24 * 3_600 * 1_000_000_000;

/// Segments with events of one device and schema, each with the times of these.
type WithEvents = Vec<(SegmentId, RangeInclusive<i64>)>;

/// The segments of earlier manifests, and which of them have events of the same windows.
#[derive(Debug)]
pub(super) struct Older<'a> {
    reader: &'a LogReader,
    /// By device and schema.
    with_events: HashMap<(DeviceName, SchemaId), WithEvents>,
    /// Times of segments of which nobody knows any more what was in them.
    forgotten: Vec<RangeInclusive<i64>>,
    open: Vec<(SegmentId, Pages)>,
}

/// The pages of a segment.
#[derive(Debug, Clone)]
enum Pages {
    There(SealedSegment),
    /// They were deleted, lost or damaged.
    Gone,
}

/// The segments with events of one series at some times.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) segments: Vec<SealedSegment>,
    /// Times of which there were events that are not to be had any more.
    pub(super) lost: Vec<RangeInclusive<i64>>,
}

impl<'a> Older<'a> {
    /// What the segments before the position `end` have of `series` around their times. Each footer is read once.
    pub(super) fn of(reader: &'a LogReader, series: &[Series], end: u64) -> Result<Self, ReplayError> {
        let mut wanted: HashMap<(&DeviceName, SchemaId), RangeInclusive<i64>> = HashMap::new();
        for Series { device, schema, times, .. } in series {
            let around = times.start().saturating_sub(WIDEST)..=times.end().saturating_add(WIDEST);
            wanted.insert((device, schema.id()), around);
        }
        let first = wanted.values().map(|times| *times.start()).min();
        let last = wanted.values().map(|times| *times.end()).max();
        let all = first.zip(last).map(|(first, last)| first..=last);
        let (with_events, forgotten, open) = (HashMap::new(), Vec::new(), Vec::new());
        let mut older = Self { reader, with_events, forgotten, open };
        for (id, child) in reader.sealed().filter(|(_, child)| child.positions.end <= end) {
            if !all.as_ref().is_some_and(|all| overlap(all, &child.times)) {
                continue;
            }
            let Some(footer) = older.footer(id)? else {
                older.forgotten.push(child.times.clone());
                continue;
            };
            for run in &footer.summary().runs {
                let key = (&run.source.device, run.schema.id());
                if wanted.get(&key).is_some_and(|wanted| overlap(wanted, &run.times)) {
                    let key = (run.source.device.clone(), run.schema.id());
                    older.with_events.entry(key).or_default().push((id, run.times.clone()));
                }
            }
        }
        Ok(older)
    }

    /// Where there are events of `series` at these `times`.
    pub(super) fn sources(
        &mut self,
        series: &Series,
        times: &RangeInclusive<i64>,
    ) -> Result<Sources, ReplayError> {
        let lost = self.forgotten.iter().filter(|lost| overlap(lost, times)).cloned().collect();
        let mut sources = Sources { segments: Vec::new(), lost };
        let key = (series.device.clone(), series.schema.id());
        let mut with_events = self.with_events.get(&key).cloned().unwrap_or_default();
        with_events.retain(|(_, at)| overlap(at, times));
        for of_one in with_events.chunk_by(|(a, _), (b, _)| a == b) {
            match self.pages(of_one[0].0)? {
                Pages::There(segment) => sources.segments.push(segment),
                Pages::Gone => sources.lost.extend(of_one.iter().map(|(_, times)| times.clone())),
            }
        }
        Ok(sources)
    }

    fn pages(&mut self, id: SegmentId) -> Result<Pages, ReplayError> {
        if let Some((_, pages)) = self.open.iter().find(|(known, _)| *known == id) {
            return Ok(pages.clone());
        }
        let pages = match self.reader.open_sealed(id) {
            Ok(segment) => Pages::There(segment),
            Err(LogError::Absent { .. }) if self.reader.still_counts(id)? => Pages::Gone,
            Err(LogError::Damaged(_)) => Pages::Gone,
            Err(error) => return Err(error.into()),
        };
        if self.open.len() >= OPEN {
            self.open.remove(0);
        }
        self.open.push((id, pages.clone()));
        Ok(pages)
    }

    /// The footer of a segment; `None` if nobody has it any more.
    fn footer(&self, id: SegmentId) -> Result<Option<SealedSegment>, ReplayError> {
        let here = self.reader.open_footer(id);
        // A segment that came from a store has no tail here.
        let footer =
            if matches!(here, Err(LogError::Absent { .. })) { self.reader.open_sealed(id) } else { here };
        match footer {
            Ok(footer) => Ok(Some(footer)),
            Err(LogError::Absent { .. }) if self.reader.still_counts(id)? => Ok(None),
            Err(LogError::Forgotten { .. } | LogError::Damaged(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
