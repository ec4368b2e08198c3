//! Reading rows by device, in the order of (schema, device, epoch, sequence).

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use icecore_wire::{Schema, Values};

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

    fn wants_times(&self, (min, max): (i64, i64)) -> bool {
        self.times.as_ref().is_none_or(|wanted| min <= *wanted.end() && *wanted.start() <= max)
    }

    /// Whether a row group with these statistics may hold wanted times.
    pub(super) fn wants_group(&self, statistics: &[Statistics]) -> bool {
        match statistics[0].extremes {
            Some(Extremes::Signed(min, max)) => self.wants_times((min, max)),
            _ => true,
        }
    }

    /// The parts of `rows` that lie in pages which may hold wanted times.
    pub(super) fn in_time(&self, group: &Group<'_>, rows: Range<usize>) -> Vec<Range<usize>> {
        if self.times.is_none() {
            return vec![rows];
        }
        let wanted = group.time_ranges_of(&rows).filter(|(_, range)| self.wants_times(*range));
        let mut parts: Vec<Range<usize>> = Vec::new();
        for (page, _) in wanted {
            let part = page.start.max(rows.start)..page.end.min(rows.end);
            match parts.last_mut() {
                Some(last) if last.end == part.start => last.end = part.end,
                _ => parts.push(part),
            }
        }
        parts
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

fn overlap(wanted: &Option<Range<u64>>, range: &Range<u64>) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted.start < range.end && range.start < wanted.end)
}

/// Rows of a segment, as [`Stretch`]es.
pub struct Rows<'a> {
    segment: &'a SealedSegment,
    query: RowQuery<'a>,
    /// The next run to look at, and how far it was read: batches and rows, counted over all.
    run: usize,
    batch: u64,
    row: u64,
    listing: Listing,
    group: Option<((usize, usize), Arc<Group<'a>>)>,
    ready: VecDeque<Stretch<'a>>,
    failed: bool,
}

/// Consecutive rows, or nearly so, of one schema, device and epoch. Columns are read when they are asked for.
pub struct Stretch<'a> {
    schema: Arc<Schema>,
    source: Arc<Source>,
    parts: Vec<BatchPart>,
    group: Arc<Group<'a>>,
    /// By part, in the row group.
    ranges: Vec<Range<usize>>,
}

/// Consecutive rows of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPart {
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
}

impl SealedSegment {
    /// Reads rows in the order of (schema, device, epoch, sequence).
    #[must_use]
    pub fn rows<'a>(&'a self, query: RowQuery<'a>) -> Rows<'a> {
        Rows {
            segment: self,
            query,
            run: 0,
            batch: 0,
            row: 0,
            listing: Listing::default(),
            group: None,
            ready: VecDeque::new(),
            failed: false,
        }
    }
}

impl<'a> Rows<'a> {
    fn try_next(&mut self) -> Result<Option<Stretch<'a>>, LogError> {
        let segment = self.segment;
        loop {
            if let Some(stretch) = self.ready.pop_front() {
                return Ok(Some(stretch));
            }
            let Some((run, place)) =
                segment.footer.runs.get(self.run).zip(segment.footer.places.get(self.run))
            else {
                return Ok(None);
            };
            if self.batch < place.batches.start {
                (self.batch, self.row) = (place.batches.start, place.rows.start);
            }
            if self.batch == place.batches.end || !self.query.wants(run) {
                self.run += 1;
                continue;
            }
            let batches = self.listing.read(segment, &(self.batch..place.batches.end))?.to_vec();
            self.batch += batches.len() as u64;
            for batch in &batches {
                self.add(run, place, batch)?;
            }
        }
    }

    /// Adds what is wanted of a batch to the last stretch, or to a new one.
    fn add(&mut self, run: &SealedRun, place: &RunAt, batch: &Listed) -> Result<(), LogError> {
        let wanted = self.query.rows_of(batch);
        let rows = self.row..self.row.saturating_add(batch.count.into());
        self.row = rows.end;
        if wanted.is_empty() {
            return Ok(());
        }
        let (index, within) = self.segment.group_of(place, &rows)?;
        if !self.query.wants_group(&self.segment.footer.tables[place.table].groups[index].entry.statistics) {
            return Ok(());
        }
        let group = self.group(place.table, index)?;
        let wanted = within.start + wanted.start as usize..within.start + wanted.end as usize;
        let ranges = self.query.in_time(&group, wanted);
        if ranges.is_empty() {
            return Ok(());
        }
        let last = self.ready.back_mut().filter(|stretch| Arc::ptr_eq(&stretch.group, &group));
        let stretch = match last {
            Some(stretch) => stretch,
            None => {
                let (schema, source) = (Arc::clone(&run.schema), Arc::clone(&run.source));
                self.ready.push_back(Stretch { schema, source, parts: vec![], group, ranges: vec![] });
                self.ready.back_mut().expect("one was just added")
            }
        };
        for range in ranges {
            let offset = (range.start - within.start) as u64;
            stretch.parts.push(BatchPart {
                first_sequence: batch.first_sequence.saturating_add(offset),
                position: batch.position.saturating_add(offset),
                count: range.len() as u32,
                received: batch.received,
                time_uncertain: batch.time_uncertain,
            });
            stretch.ranges.push(range);
        }
        Ok(())
    }

    fn group(&mut self, table: usize, index: usize) -> Result<Arc<Group<'a>>, LogError> {
        match &self.group {
            Some((at, group)) if *at == (table, index) => Ok(Arc::clone(group)),
            _ => {
                let group = Arc::new(self.segment.group(table, index)?);
                self.group = Some(((table, index), Arc::clone(&group)));
                Ok(group)
            }
        }
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<Stretch<'a>, LogError>;

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

impl Stretch<'_> {
    /// The rows' schema.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The rows' device and epoch.
    #[must_use]
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

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

    /// Whether there are no rows; it is never so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Reads the event times, nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged there.
    pub fn times(&self) -> Result<Vec<i64>, LogError> {
        match self.group.column(0, &self.ranges)?.view().values {
            Values::Timestamp(times) => Ok(times.to_vec()),
            _ => unreachable!("event times are timestamps"),
        }
    }

    /// Reads the column of a field. Panics when the schema has no such field.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged there.
    pub fn column(&self, field: usize) -> Result<SealedColumn, LogError> {
        self.group.column(field + 1, &self.ranges)
    }
}

impl fmt::Debug for Stretch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stretch")
            .field("source", &self.source)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}
