//! Reading batches in the order of the log.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use icecore_wire::{BatchError, EncodeOptions, Payload, Value, Values, encode};

use super::SealedRun;
use super::cells::SealedColumn;
use super::footer::{RunAt, directory};
use super::group::Group;
use super::limits::WINDOW_BYTES;
use super::listing::Listing;
use super::rows::{RowQuery, in_time};
use super::segment::{Listed, SealedSegment};
use crate::error::LogError;
use crate::record::StoredBatch;

/// A batch that is to be read.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    position: u64,
    /// Its first row, counted over all.
    row: u64,
    /// Counted over the directory.
    batch: u32,
    run: u32,
    count: u32,
}

/// A batch that is to be read, the row group it lies in, and its rows there.
type InGroup = (Wanted, usize, Range<usize>);

/// A batch, or why it cannot be read, and its position.
type Read = (u64, Result<StoredBatch, LogError>);

/// Batches of a segment in the order of their positions.
///
/// What is read at once takes about 32 MiB, and every page is decoded once for it. Damage is told in the place of the batches it
/// takes, and those behind it are read.
pub struct InLogOrder {
    segment: SealedSegment,
    /// Still to be read, the next one last.
    wanted: Vec<Wanted>,
    /// The window that was read, the next one last.
    ready: Vec<Read>,
    failed: bool,
}

impl SealedSegment {
    /// Reads batches in the order of their positions, in bounded memory: those that may hold rows of `query`, whole.
    ///
    /// They are what was sealed but for their payloads, which are made anew: plain, of the same rows. A batch's digest is that of
    /// the payload that was sealed.
    ///
    /// # Errors
    /// The batch directory cannot be read, or is damaged.
    pub fn in_log_order(&self, query: &RowQuery<'_>) -> Result<InLogOrder, LogError> {
        let (mut wanted, mut listing) = (Vec::new(), Listing::default());
        let mut pages = TimePages { segment: self, query, last: None };
        for (index, (run, place)) in self.footer.runs.iter().zip(&self.footer.places).enumerate() {
            if !query.wants(run) {
                continue;
            }
            let (mut row, mut next) = (place.rows.start, place.batches.start);
            while next < place.batches.end {
                let listed = listing.read(self, &(next..place.batches.end))?;
                for (batch, listed) in (next..).zip(listed) {
                    let Listed { position, count, .. } = *listed;
                    let rows = row..row.saturating_add(count.into());
                    if query.wants_batch(listed) && pages.may_hold(place, &rows)? {
                        wanted.push(Wanted { position, row, batch: batch as u32, run: index as u32, count });
                    }
                    row = rows.end;
                }
                next += listed.len() as u64;
            }
        }
        wanted.sort_unstable_by_key(|wanted| std::cmp::Reverse(wanted.position));
        Ok(InLogOrder { segment: self.clone(), wanted, ready: Vec::new(), failed: false })
    }
}

/// Finds out of which batches it is known, without reading event times, that they hold none that are wanted.
struct TimePages<'a> {
    segment: &'a SealedSegment,
    query: &'a RowQuery<'a>,
    /// The row group looked at last, by table and number; `None` inside if its head is damaged.
    last: Option<((usize, usize), Option<Group<'a>>)>,
}

impl TimePages<'_> {
    /// Whether a batch with these rows (counted over all) may hold wanted times. Of what is damaged nothing is known: that is
    /// told when it is read.
    fn may_hold(&mut self, place: &RunAt, rows: &Range<u64>) -> Result<bool, LogError> {
        if self.query.times.is_none() {
            return Ok(true);
        }
        let (index, within) = self.segment.group_of(place, rows)?;
        if !self.query.wants_group(&self.segment.footer.tables[place.table].groups[index].entry.statistics) {
            return Ok(false);
        }
        let at = (place.table, index);
        if self.last.as_ref().is_none_or(|(last, _)| *last != at) {
            let group = match self.segment.group(place.table, index) {
                Ok(group) => Some(group),
                Err(LogError::Damaged(_)) => None,
                Err(error) => return Err(error),
            };
            self.last = Some((at, group));
        }
        let group = self.last.as_ref().and_then(|(_, group)| group.as_ref());
        Ok(group.is_none_or(|group| !in_time(self.query.times.as_ref(), group, within).is_empty()))
    }
}

impl InLogOrder {
    fn try_next(&mut self) -> Result<Option<StoredBatch>, LogError> {
        if self.ready.is_empty() && !self.wanted.is_empty() {
            let mut window = self.window()?;
            // Batches are listed, and rows lie, in the same order.
            window.sort_unstable_by_key(|(wanted, ..)| wanted.batch);
            let mut ready = Vec::with_capacity(window.len());
            self.read_around(&window, &mut ready)?;
            ready.sort_unstable_by_key(|(position, _)| std::cmp::Reverse(*position));
            join_damage(&mut ready);
            self.ready = ready;
        }
        self.ready.pop().map(|(_, read)| read).transpose()
    }

    /// Reads a window. Where there is damage, it is halved until it is known which batches can be read.
    fn read_around(&self, window: &[InGroup], ready: &mut Vec<Read>) -> Result<(), LogError> {
        match self.read(window) {
            Ok(batches) => ready.extend(batches.into_iter().map(|batch| (batch.position, Ok(batch)))),
            Err(LogError::Damaged(mut damage)) => match window {
                [(Wanted { position, count, .. }, ..)] => {
                    damage.positions = Some(*position..position.saturating_add((*count).into()));
                    ready.push((*position, Err(LogError::Damaged(damage))));
                }
                _ => {
                    let (first, second) = window.split_at(window.len() / 2);
                    self.read_around(first, ready)?;
                    self.read_around(second, ready)?;
                }
            },
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes as many batches as may be read at once; with each, its row group and the rows there.
    fn window(&mut self) -> Result<Vec<InGroup>, LogError> {
        let (mut window, mut bytes) = (Vec::new(), 0);
        while bytes < WINDOW_BYTES as u64
            && let Some(wanted) = self.wanted.pop()
        {
            let place = &self.segment.footer.places[wanted.run as usize];
            let rows = wanted.row..wanted.row.saturating_add(wanted.count.into());
            let (group, rows) = self.segment.group_of(place, &rows)?;
            let table = &self.segment.footer.tables[place.table];
            let entry = &table.groups[group].entry;
            let of_a_row = (entry.memory / entry.rows as u64).max(table.shape.row_bytes());
            // The batch itself counts as well.
            bytes = of_a_row
                .saturating_mul(wanted.count.into())
                .saturating_add(bytes + size_of::<StoredBatch>() as u64);
            window.push((wanted, group, rows));
        }
        Ok(window)
    }

    fn read(&self, window: &[InGroup]) -> Result<Vec<StoredBatch>, LogError> {
        let batches = ranges(window.iter().map(|(wanted, ..)| u64::from(wanted.batch)));
        let listed = self.segment.list(&batches)?;
        let digests = self.segment.digests(&batches)?;
        let mut kept = self.segment.kept_payloads(&batches)?;
        let run_of = |wanted: &Wanted| &self.segment.footer.runs[wanted.run as usize];
        let table_of = |wanted: &Wanted| self.segment.footer.places[wanted.run as usize].table;
        let mut ready = Vec::with_capacity(window.len());
        let mut at = 0;
        for same in window.chunk_by(|a, b| (table_of(&a.0), a.1) == (table_of(&b.0), b.1)) {
            let made = self.payloads(table_of(&same[0].0), same, &listed[at..], &mut kept[at..])?;
            for ((wanted, ..), (payload, compressed)) in same.iter().zip(made) {
                let SealedRun { source, schema, .. } = run_of(wanted);
                let Listed { first_sequence, count, position, received, .. } = listed[at];
                ready.push(StoredBatch {
                    source: Arc::clone(source),
                    schema: Arc::clone(schema),
                    first_sequence,
                    count,
                    position,
                    received,
                    digest: digests[at],
                    payload,
                    compressed,
                });
                at += 1;
            }
        }
        Ok(ready)
    }

    /// The payloads of batches of one row group: those that were kept, the others made anew.
    fn payloads(
        &self,
        table: usize,
        batches: &[InGroup],
        listed: &[Listed],
        kept: &mut [Option<Payload>],
    ) -> Result<Vec<(Payload, bool)>, LogError> {
        let group = self.segment.group(table, batches[0].1)?;
        let schema = &self.segment.footer.runs[batches[0].0.run as usize].schema;
        let lacking = batches.iter().zip(&*kept).filter(|(_, kept)| kept.is_none());
        let rows: Vec<Range<usize>> = lacking.map(|((.., rows), _)| rows.clone()).collect();
        let mut columns = Vec::with_capacity(schema.fields().len() + 1);
        if !rows.is_empty() {
            for index in 0..=schema.fields().len() {
                columns.push(group.column(index, &rows)?);
            }
        }
        let mut next = 0;
        let mut payloads = Vec::with_capacity(batches.len());
        for (((.., rows), listed), kept) in batches.iter().zip(listed).zip(kept) {
            if let Some(payload) = kept.take() {
                payloads.push((payload, true));
                continue;
            }
            let payload = make(schema, listed, &columns, next..next + rows.len());
            payloads.push((payload.map_err(|error| group.damage(&error.to_string()))?, false));
            next += rows.len();
        }
        Ok(payloads)
    }
}

/// Makes one of the damage to batches that follow each other in the log (`ready` is in reverse), if the place is the same.
fn join_damage(ready: &mut Vec<Read>) {
    ready.dedup_by(|(_, before), (_, behind)| match (before, behind) {
        (Err(LogError::Damaged(before)), Err(LogError::Damaged(behind)))
            if (before.offset, &before.what) == (behind.offset, &behind.what) =>
        {
            match (&before.positions, &mut behind.positions) {
                (Some(before), Some(behind)) if before.end == behind.start => {
                    behind.start = before.start;
                    true
                }
                _ => false,
            }
        }
        _ => false,
    });
}

/// Makes the payload of a batch from its rows of the columns, event times first.
fn make(
    schema: &icecore_wire::Schema,
    listed: &Listed,
    columns: &[SealedColumn],
    rows: Range<usize>,
) -> Result<Payload, BatchError> {
    let Values::Timestamp(times) = columns[0].view().values else {
        unreachable!("event times are timestamps");
    };
    let lent: Vec<_> = columns[1..].iter().map(|column| column.lend(rows.clone())).collect();
    let fields: Vec<_> = lent.iter().map(super::cells::Lent::column).collect();
    let options = EncodeOptions { time_uncertain: listed.time_uncertain, ..EncodeOptions::PLAIN };
    encode(schema, listed.first_sequence, &times[rows], &fields, options)
}

/// Ascending numbers as ranges.
fn ranges(numbers: impl Iterator<Item = u64>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(last) if last.end == number => last.end += 1,
            _ => ranges.push(number..number + 1),
        }
    }
    ranges
}

impl SealedSegment {
    /// The payloads of `batches` (ascending) that are kept because they cannot be made anew.
    fn kept_payloads(&self, batches: &[Range<u64>]) -> Result<Vec<Option<Payload>>, LogError> {
        let mut all = Vec::new();
        self.each_directory_group(batches, |group, ranges| {
            let column = group.column(directory::PAYLOAD, ranges)?;
            let view = column.view();
            let payload = |row| match view.value(row) {
                Value::Bytes(bytes) => Some(Payload::copy_from(bytes)),
                _ => None,
            };
            all.extend((0..column.len()).map(payload));
            Ok(())
        })?;
        Ok(all)
    }
}

impl Iterator for InLogOrder {
    type Item = Result<StoredBatch, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.try_next();
        self.failed = !matches!(next, Ok(_) | Err(LogError::Damaged(_)));
        next.transpose()
    }
}

impl fmt::Debug for InLogOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InLogOrder").field("segment", &self.segment).finish_non_exhaustive()
    }
}
