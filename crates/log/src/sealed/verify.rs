//! Checking all of a sealed segment.

use std::ops::Range;

use super::bits::Bits;
use super::cells::{Cells, Growing};
use super::file::SealedFile;
use super::footer::{GroupAt, RunAt, Table};
use super::group::Group;
use super::limits::DIRECTORY_STEP;
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
        let mut times = Vec::new();
        for table in self.footer.tables.iter().chain([&self.footer.directory]) {
            for index in 0..table.groups.len() {
                verify_group(&self.file, table, index, &mut found, &mut times)?;
            }
        }
        if found.is_empty() {
            self.verify_index(&times, &mut found)?;
        }
        Ok(found)
    }

    /// Compares the device index with the batch directory and the event times of all rows.
    fn verify_index(&self, times: &[i64], found: &mut Vec<Damage>) -> Result<(), LogError> {
        for (run, place) in self.footer.runs.iter().zip(&self.footer.places) {
            let batches = match self.batches_of(place) {
                Ok(batches) => batches,
                Err(LogError::Damaged(damage)) => {
                    found.push(*damage);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let rows = place.rows.start as usize..place.rows.end as usize;
            if times.get(rows).and_then(|times| index_entry(run, &batches, times)).as_ref() != Some(run) {
                let (device, schema) = (&run.source.device, &run.schema);
                let what = format!(
                    "device index: the batches of {} in {} are not those it tells of",
                    device.as_str(),
                    schema.name()
                );
                found.push(self.file.damage_of(
                    self.footer.directory.groups[0].offset,
                    what,
                    run.positions.clone(),
                ));
            }
        }
        Ok(())
    }

    fn batches_of(&self, place: &RunAt) -> Result<Vec<Listed>, LogError> {
        let mut batches = Vec::new();
        let (mut next, mut row) = (place.batches.start, place.rows.start);
        while next < place.batches.end {
            let step = next..(next + DIRECTORY_STEP as u64).min(place.batches.end);
            next = step.end;
            for batch in self.list(&[step])? {
                let rows = row..row.saturating_add(batch.count.into());
                self.group_of(place, &rows)?;
                row = rows.end;
                batches.push(batch);
            }
        }
        Ok(batches)
    }
}

/// What the device index should say of a run; `None` if its batches overlap or do not have these rows.
fn index_entry(run: &SealedRun, batches: &[Listed], times: &[i64]) -> Option<SealedRun> {
    let mut entry: Option<SealedRun> = None;
    for batch in batches {
        let count = u64::from(batch.count);
        let sequences = batch.first_sequence..batch.first_sequence.checked_add(count)?;
        let positions = batch.position..batch.position.checked_add(count)?;
        let received = batch.received..=batch.received;
        let Some(entry) = &mut entry else {
            let (rows, batches, times) = (count, 1, times.first().map(|time| *time..=*time)?);
            entry = Some(SealedRun { rows, batches, sequences, positions, times, received, ..run.clone() });
            continue;
        };
        if sequences.start < entry.sequences.end {
            return None;
        }
        entry.rows += count;
        entry.batches += 1;
        entry.sequences.end = sequences.end;
        entry.positions = cover(&entry.positions, &positions);
        entry.received = cover_inclusive(&entry.received, &received);
    }
    let mut entry = entry?;
    for time in times {
        entry.times = cover_inclusive(&entry.times, &(*time..=*time));
    }
    (entry.rows == times.len() as u64).then_some(entry)
}

/// Checks one row group; adds its event times, if it has such, to `times`.
fn verify_group(
    file: &SealedFile,
    table: &Table,
    index: usize,
    found: &mut Vec<Damage>,
    times: &mut Vec<i64>,
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
    for column in 0..table.shape.columns.len() {
        match verify_column(&group, column, &entry.statistics[column]) {
            Ok(cells) if table.shape.timed && column == 0 => match cells {
                Cells::I64(of_group) => times.extend(of_group),
                _ => unreachable!("event times are timestamps"),
            },
            Ok(_) => {}
            Err(LogError::Damaged(damage)) => found.push(*damage),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Decodes a column, compares it with its statistics, and gives its values.
fn verify_column(group: &Group<'_>, index: usize, statistics: &Statistics) -> Result<Cells, LogError> {
    let column = group.growing(index)?;
    let mut expected = Vec::new();
    statistics.write(&mut expected);
    let mut actual = Vec::new();
    Statistics::of(&column).write(&mut actual);
    if expected != actual {
        return Err(group.damage_in(index, "the values are not those of its statistics").into());
    }
    if let Cells::I64(times) = &column.cells
        && !group.time_ranges_hold(index, times)
    {
        return Err(group.damage_in(index, "the times of its pages are not those in the head").into());
    }
    Ok(column.cells)
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
