//! Checking all of a sealed segment.

use std::ops::{Range, RangeInclusive};
use std::slice::from_ref;

use icecore_wire::Values;

use super::bits::Bits;
use super::cells::{Cells, Growing};
use super::column;
use super::file::SealedFile;
use super::footer::{GroupAt, RunAt, Table};
use super::group::Group;
use super::listing::Listing;
use super::segment::{Listed, SealedSegment};
use super::statistics::Statistics;
use super::{SealedRun, cover, cover_inclusive, trailer};
use crate::error::{Damage, LogError};

impl SealedSegment {
    /// Reads everything and compares it with its checksums, hashes, and what footer and heads tell of it. Gives all damage
    /// there is, by column, row group and page; if there is none, the segment is whole.
    ///
    /// That the file is the one it should be is not known here: compare its root ([`SealedSummary`](super::SealedSummary))
    /// with the manifest's.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn verify(&self) -> Result<Vec<Damage>, LogError> {
        let mut found = Vec::new();
        if self.file.read(0, trailer::HEADER_BYTES)? != trailer::header() {
            found.push(self.file.damage(0, "it does not begin as a sealed segment does".into()));
        }
        for table in self.footer.tables.iter().chain([&self.footer.directory]) {
            for index in 0..table.groups.len() {
                verify_group(&self.file, table, index, &mut found)?;
            }
        }
        if found.is_empty() {
            self.verify_index(&mut found)?;
        }
        Ok(found)
    }

    /// The same for the batch directory alone, which is all that is kept of some segments.
    pub(crate) fn verify_directory(&self) -> Result<Vec<Damage>, LogError> {
        let mut found = Vec::new();
        for index in 0..self.footer.directory.groups.len() {
            verify_group(&self.file, &self.footer.directory, index, &mut found)?;
        }
        Ok(found)
    }

    /// Compares the device index with the batch directory and the event times of all rows.
    fn verify_index(&self, found: &mut Vec<Damage>) -> Result<(), LogError> {
        let (mut listing, mut group) = (Listing::default(), None);
        for (run, place) in self.footer.runs.iter().zip(&self.footer.places) {
            let entry = self.batches_of(place, &mut listing).and_then(|batches| {
                let times = self.times_of(place, &mut group)?;
                Ok(index_entry(run, &batches, times))
            });
            match entry {
                Ok(Some(entry)) if entry == *run => {}
                Ok(_) => {
                    let (device, schema) = (&run.source.device, run.schema.name());
                    let what = format!(
                        "device index: the batches of {} in {schema} are not those it tells of",
                        device.as_str()
                    );
                    let offset = self.footer.directory.groups[0].offset;
                    found.push(self.file.damage_of(offset, what, run.positions.clone()));
                }
                Err(LogError::Damaged(damage)) => found.push(*damage),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How many rows of a run have event times, and the least and the greatest.
    /// `last` is the row group that was read last.
    fn times_of<'a>(
        &'a self,
        place: &RunAt,
        last: &mut Option<((usize, usize), Group<'a>)>,
    ) -> Result<(u64, RangeInclusive<i64>), LogError> {
        let table = &self.footer.tables[place.table];
        let (mut rows, mut range) = (0, None);
        for index in table.groups_of(&place.rows) {
            let GroupAt { rows: held, .. } = &table.groups[index];
            let part = place.rows.start.max(held.start)..place.rows.end.min(held.end);
            let part = (part.start - held.start) as usize..(part.end - held.start) as usize;
            let at = (place.table, index);
            let group = match last.take() {
                Some((last_at, group)) if last_at == at => group,
                _ => self.group(place.table, index)?,
            };
            let column = group.column(0, from_ref(&part))?;
            *last = Some((at, group));
            let Values::Timestamp(times) = column.view().values else {
                unreachable!("event times are timestamps");
            };
            let (min, max) = column::range_of(times);
            rows += times.len() as u64;
            range = Some(range.map_or(min..=max, |range| cover_inclusive(&range, &(min..=max))));
        }
        Ok((rows, range.unwrap_or(0..=0)))
    }

    fn batches_of(&self, place: &RunAt, listing: &mut Listing) -> Result<Vec<Listed>, LogError> {
        let mut batches = Vec::new();
        let (mut next, mut row) = (place.batches.start, place.rows.start);
        while next < place.batches.end {
            let listed = listing.read(self, &(next..place.batches.end))?;
            next += listed.len() as u64;
            batches.extend_from_slice(listed);
        }
        for batch in &batches {
            let rows = row..row.saturating_add(batch.count.into());
            self.group_of(place, &rows)?;
            row = rows.end;
        }
        Ok(batches)
    }
}

/// What the device index should say of a run; `None` if its batches overlap or do not have these rows.
fn index_entry(
    run: &SealedRun,
    batches: &[Listed],
    (rows, times): (u64, RangeInclusive<i64>),
) -> Option<SealedRun> {
    let first = batches.first()?;
    let empty = |at: u64| at..at;
    let mut entry = SealedRun {
        rows: 0,
        batches: batches.len() as u64,
        sequences: empty(first.first_sequence),
        positions: empty(first.position),
        received: first.received..=first.received,
        times,
        ..run.clone()
    };
    for batch in batches {
        let count = u64::from(batch.count);
        if batch.first_sequence < entry.sequences.end {
            return None;
        }
        entry.rows += count;
        entry.sequences.end = batch.first_sequence.checked_add(count)?;
        entry.positions = cover(&entry.positions, &(batch.position..batch.position.checked_add(count)?));
        entry.received = cover_inclusive(&entry.received, &(batch.received..=batch.received));
    }
    (entry.rows == rows).then_some(entry)
}

/// Checks one row group.
fn verify_group(
    file: &SealedFile,
    table: &Table,
    index: usize,
    found: &mut Vec<Damage>,
) -> Result<(), LogError> {
    let GroupAt { entry, offset, .. } = &table.groups[index];
    let bytes = file.read(*offset, entry.len as usize)?;
    let known = found.len();
    let group = match Group::open(file, table.place(index), entry) {
        Ok(group) => group,
        Err(LogError::Damaged(damage)) => {
            found.push(*damage);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    found.extend(group.bad_pages(&bytes));
    if found.len() == known && *blake3::hash(&bytes).as_bytes() != entry.hash {
        found.push(group.damage("it does not match its hash"));
    }
    if found.len() > known {
        return Ok(());
    }
    drop(bytes);
    for (column, statistics) in entry.statistics.iter().enumerate() {
        match verify_column(&group, column, statistics) {
            Ok(()) => {}
            Err(LogError::Damaged(damage)) => found.push(*damage),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Decodes a column and compares it with what is told of it.
fn verify_column(group: &Group<'_>, index: usize, statistics: &Statistics) -> Result<(), LogError> {
    let column = group.growing(index)?;
    let (mut expected, mut actual) = (Vec::new(), Vec::new());
    statistics.write(&mut expected);
    Statistics::of(&column).write(&mut actual);
    if expected != actual {
        return Err(group.damage_in(index, "the values are not those of its statistics").into());
    }
    match &column.cells {
        Cells::I64(times) if !group.time_ranges_hold(index, times) => {
            Err(group.damage_in(index, "the times of its pages are not those in the head").into())
        }
        _ => Ok(()),
    }
}

impl Group<'_> {
    /// All rows of a column, as they were when it was encoded.
    fn growing(&self, index: usize) -> Result<Growing, LogError> {
        let (ty, rows) = (self.ty(index), self.rows());
        let valid = match self.validity(index)? {
            Some(valid) => valid,
            None => {
                let mut all = Bits::default();
                all.extend(self.value_count(index) > 0, rows);
                all
            }
        };
        let values = self.value_count(index);
        let all: Range<usize> = 0..values;
        let cells = if values == 0 { Cells::new(ty) } else { self.values(index, &[all])? };
        Ok(Growing { ty, valid, cells, nulls: rows - values })
    }
}
