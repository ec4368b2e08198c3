//! Reading rows by device, in the order of (schema, device, epoch, sequence).

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use icecore_wire::Schema;

use super::SealedRun;
use super::cells::SealedColumn;
use super::footer::RunAt;
use super::group::Group;
use super::listing::Listing;
use super::segment::{Listed, SealedSegment};
use super::statistics::{Extremes, Statistics};
use crate::error::LogError;
use crate::reader::DeviceFilter;
use crate::record::Source;

/// Says of a schema whether it is wanted.
pub type SchemaFilter<'a> = Box<dyn Fn(&Schema) -> bool + 'a>;

/// Which rows to read; without restrictions, all.
#[derive(Default)]
pub struct RowQuery<'a> {
    /// Only rows of schemas for which this holds.
    pub schemas: Option<SchemaFilter<'a>>,
    /// Only rows of devices for which this holds.
    pub devices: Option<DeviceFilter<'a>>,
    /// Only rows with sequences in this range, of whatever epoch.
    pub sequences: Option<Range<u64>>,
    /// Only rows at these positions.
    pub positions: Option<Range<u64>>,
    /// Leaves out the rows that statistics tell to be outside of these event times; others outside of them may remain.
    pub times: Option<RangeInclusive<i64>>,
    /// Only rows received by this time, nanoseconds since the Unix epoch.
    pub known_at: Option<i64>,
}

impl fmt::Debug for RowQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowQuery")
            .field("sequences", &self.sequences)
            .field("positions", &self.positions)
            .field("times", &self.times)
            .field("known_at", &self.known_at)
            .finish_non_exhaustive()
    }
}

impl RowQuery<'_> {
    /// Whether a run may hold something wanted.
    pub(super) fn wants(&self, run: &SealedRun) -> bool {
        self.schemas.as_ref().is_none_or(|wanted| wanted(&run.schema))
            && self.devices.as_ref().is_none_or(|wanted| wanted(&run.source.device))
            && overlap(&self.sequences, &run.sequences)
            && overlap(&self.positions, &run.positions)
            && self.wants_times((*run.times.start(), *run.times.end()))
            && self.wants_received(*run.received.start())
    }

    fn wants_received(&self, received: i64) -> bool {
        self.known_at.is_none_or(|known_at| received <= known_at)
    }

    fn wants_times(&self, range: (i64, i64)) -> bool {
        self.times.as_ref().is_none_or(|wanted| holds_any(range, wanted))
    }

    /// Whether a row group with these statistics may hold wanted times.
    pub(super) fn wants_group(&self, statistics: &[Statistics]) -> bool {
        match statistics[0].extremes {
            Some(Extremes::Signed(min, max)) => self.wants_times((min, max)),
            _ => true,
        }
    }

    /// The wanted rows of a batch with these rows (counted over all), and the row group they lie in; `None` if nothing is wanted.
    fn part(
        &self,
        segment: &SealedSegment,
        run: &SealedRun,
        place: &RunAt,
        batch: &Listed,
        rows: Range<u64>,
    ) -> Result<Option<(usize, BatchPart)>, LogError> {
        let wanted = self.rows_of(batch);
        if wanted.is_empty() {
            return Ok(None);
        }
        let (index, within) = segment.group_of(place, &rows)?;
        if !self.wants_group(&segment.footer.tables[place.table].groups[index].entry.statistics) {
            return Ok(None);
        }
        let part = BatchPart {
            source: Arc::clone(&run.source),
            first_sequence: batch.first_sequence.saturating_add(wanted.start),
            position: batch.position.saturating_add(wanted.start),
            count: (wanted.end - wanted.start) as u32,
            received: batch.received,
            time_uncertain: batch.time_uncertain,
            row: within.start + wanted.start as usize,
        };
        Ok(Some((index, part)))
    }

    /// Whether a batch lies over wanted sequences and positions, and was received in time.
    pub(super) fn wants_batch(&self, batch: &Listed) -> bool {
        let Listed { first_sequence, position, count, received, .. } = *batch;
        let from = |first: u64| first..first.saturating_add(count.into());
        self.wants_received(received)
            && overlap(&self.sequences, &from(first_sequence))
            && overlap(&self.positions, &from(position))
    }

    /// The rows of a batch, counted from its first, that have wanted sequences and positions.
    fn rows_of(&self, batch: &Listed) -> Range<u64> {
        if !self.wants_received(batch.received) {
            return 0..0;
        }
        let clip = |rows: Range<u64>, wanted: &Option<Range<u64>>, first: u64| match wanted {
            Some(wanted) => {
                let (start, end) = (wanted.start.saturating_sub(first), wanted.end.saturating_sub(first));
                rows.start.max(start)..rows.end.min(end)
            }
            None => rows,
        };
        let rows = clip(0..batch.count.into(), &self.sequences, batch.first_sequence);
        clip(rows, &self.positions, batch.position)
    }
}

/// Whether any of `wanted` may lie between a least and a greatest time.
fn holds_any((min, max): (i64, i64), wanted: &RangeInclusive<i64>) -> bool {
    min <= *wanted.end() && *wanted.start() <= max
}

/// The parts of `rows` that lie in pages which may hold wanted times.
pub(super) fn in_time(
    times: Option<&RangeInclusive<i64>>,
    group: &Group<'_>,
    rows: Range<usize>,
) -> Vec<Range<usize>> {
    let Some(wanted) = times else { return vec![rows] };
    let pages = group.time_ranges_of(&rows).filter(|(_, range)| holds_any(*range, wanted));
    let mut parts: Vec<Range<usize>> = Vec::new();
    for (page, _) in pages {
        let part = page.start.max(rows.start)..page.end.min(rows.end);
        match parts.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => parts.push(part),
        }
    }
    parts
}

fn overlap(wanted: &Option<Range<u64>>, range: &Range<u64>) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted.start < range.end && range.start < wanted.end)
}

/// Rows of a segment, by row group.
pub struct Rows<'a> {
    segment: &'a SealedSegment,
    query: RowQuery<'a>,
    /// The next run to look at, and how far it was read: batches and rows, counted over all.
    run: usize,
    batch: u64,
    row: u64,
    listing: Listing,
    /// The row group whose rows are being collected.
    current: Option<RowGroup>,
    failed: bool,
}

/// The wanted rows of one row group: of one schema, in the order of (device, epoch, sequence). Nothing of it was read yet.
#[derive(Clone)]
pub struct RowGroup {
    segment: SealedSegment,
    table: usize,
    index: usize,
    schema: Arc<Schema>,
    parts: Vec<BatchPart>,
    times: Option<RangeInclusive<i64>>,
}

/// A row group whose head is read: rows of pages that hold no wanted times are left out. Columns are read when they are asked for.
pub struct OpenRowGroup<'a> {
    group: Group<'a>,
    parts: Vec<BatchPart>,
    /// The rows in the row group, neighbours together.
    ranges: Vec<Range<usize>>,
}

/// Consecutive rows of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPart {
    /// Their device and epoch.
    pub source: Arc<Source>,
    /// The sequence of the first of them.
    pub first_sequence: u64,
    /// The position of the first of them.
    pub position: u64,
    /// How many.
    pub count: u32,
    /// When the batch's block was cut, in nanoseconds since the Unix epoch.
    pub received: i64,
    /// Whether the device had no trustworthy clock.
    pub time_uncertain: bool,
    /// The first of them, counted in the row group.
    row: usize,
}

impl SealedSegment {
    /// Reads rows in the order of (schema, device, epoch, sequence).
    #[must_use]
    pub fn rows<'a>(&'a self, query: RowQuery<'a>) -> Rows<'a> {
        let listing = Listing::default();
        Rows { segment: self, query, run: 0, batch: 0, row: 0, listing, current: None, failed: false }
    }
}

impl Rows<'_> {
    fn try_next(&mut self) -> Result<Option<RowGroup>, LogError> {
        let segment = self.segment;
        loop {
            let Some((run, place)) =
                segment.footer.runs.get(self.run).zip(segment.footer.places.get(self.run))
            else {
                return Ok(self.current.take());
            };
            if self.batch < place.batches.start {
                (self.batch, self.row) = (place.batches.start, place.rows.start);
            }
            if self.batch == place.batches.end || !self.query.wants(run) {
                self.run += 1;
                continue;
            }
            let batches = self.listing.read(segment, &(self.batch..place.batches.end))?;
            for batch in batches {
                let rows = self.row..self.row.saturating_add(batch.count.into());
                let Some((index, part)) = self.query.part(segment, run, place, batch, rows.clone())? else {
                    (self.batch, self.row) = (self.batch + 1, rows.end);
                    continue;
                };
                let is_same = |group: &RowGroup| (group.table, group.index) == (place.table, index);
                if self.current.as_ref().is_some_and(|current| !is_same(current)) {
                    // The batch is looked at again for the next row group.
                    return Ok(self.current.take());
                }
                (self.batch, self.row) = (self.batch + 1, rows.end);
                let group = self.current.get_or_insert_with(|| RowGroup {
                    segment: segment.clone(),
                    table: place.table,
                    index,
                    schema: Arc::clone(&run.schema),
                    parts: Vec::new(),
                    times: self.query.times.clone(),
                });
                group.parts.push(part);
            }
        }
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<RowGroup, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.try_next();
        self.failed = next.is_err();
        next.transpose()
    }
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("query", &self.query).field("run", &self.run).finish_non_exhaustive()
    }
}

impl RowGroup {
    /// The rows' schema.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The batches that the rows are of, in order; together they have all rows.
    #[must_use]
    pub fn parts(&self) -> &[BatchPart] {
        &self.parts
    }

    /// How many rows at most.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.count)).sum()
    }

    /// What is known of the values of the whole row group: of the event times, then of every field.
    #[must_use]
    pub fn statistics(&self) -> &[Statistics] {
        &self.segment.footer.tables[self.table].groups[self.index].entry.statistics
    }

    /// The same rows in two halves, for who reads around damage; `None` if they are of one batch.
    #[must_use]
    pub fn halves(&self) -> Option<[Self; 2]> {
        let (first, second) = self.parts.split_at(self.parts.len() / 2);
        let half = |parts: &[BatchPart]| Self { parts: parts.to_vec(), ..self.clone() };
        (!first.is_empty()).then(|| [half(first), half(second)])
    }

    /// Reads the head of the row group.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged there.
    pub fn open(&self) -> Result<OpenRowGroup<'_>, LogError> {
        let group = self.segment.group(self.table, self.index)?;
        let (mut parts, mut ranges): (Vec<BatchPart>, Vec<Range<usize>>) =
            (Vec::with_capacity(self.parts.len()), Vec::new());
        for part in &self.parts {
            let all = part.row..part.row + part.count as usize;
            for range in in_time(self.times.as_ref(), &group, all) {
                parts.push(part.rows(&range));
                match ranges.last_mut() {
                    Some(last) if last.end == range.start => last.end = range.end,
                    _ => ranges.push(range),
                }
            }
        }
        Ok(OpenRowGroup { group, parts, ranges })
    }
}

impl fmt::Debug for RowGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowGroup")
            .field("schema", &self.schema.name())
            .field("index", &self.index)
            .field("parts", &self.parts.len())
            .finish_non_exhaustive()
    }
}

impl BatchPart {
    /// Those of its rows that are `range` in the row group.
    fn rows(&self, range: &Range<usize>) -> Self {
        let offset = (range.start - self.row) as u64;
        Self {
            first_sequence: self.first_sequence.saturating_add(offset),
            position: self.position.saturating_add(offset),
            count: range.len() as u32,
            row: range.start,
            ..self.clone()
        }
    }
}

impl OpenRowGroup<'_> {
    /// The batches that the rows are of, in order; together they have all rows.
    #[must_use]
    pub fn parts(&self) -> &[BatchPart] {
        &self.parts
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.iter().map(Range::len).sum()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Reads the event times, nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged there.
    pub fn times(&self) -> Result<SealedColumn, LogError> {
        self.group.column(0, &self.ranges)
    }

    /// Reads the column of a field. Panics when the schema has no such field.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged there.
    pub fn column(&self, field: usize) -> Result<SealedColumn, LogError> {
        self.group.column(field + 1, &self.ranges)
    }
}

impl fmt::Debug for OpenRowGroup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenRowGroup").field("parts", &self.parts).finish_non_exhaustive()
    }
}
