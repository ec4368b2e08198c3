//! The footer: everything that is known of a segment without reading its row groups.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use icecore_wire::limits::MAX_SEQUENCE;
use icecore_wire::{ColumnType, DeviceName, Epoch, Schema};

use super::group::{GroupEntry, Place, Shape};
use super::limits::MAX_BATCHES;
use super::statistics::Statistics;
use super::varint::{self, Fields};
use super::{Decoded, SealedRun};
use crate::record::Source;

/// Columns of the batch directory.
pub(super) mod directory {
    pub(crate) const FIRST_SEQUENCE: usize = 0;
    pub(crate) const EVENTS: usize = 1;
    pub(crate) const POSITION: usize = 2;
    pub(crate) const RECEIVED: usize = 3;
    pub(crate) const FLAGS: usize = 4;
    pub(crate) const DIGEST: usize = 5;
    pub(crate) const PAYLOAD: usize = 6;

    /// A flag: the device had no trustworthy clock.
    pub(crate) const TIME_UNCERTAIN: u64 = 1;
}

/// The batch directory as a table.
pub(super) fn directory_shape() -> Shape {
    let columns = [
        ("first sequence", ColumnType::U64),
        ("events", ColumnType::U64),
        ("position", ColumnType::U64),
        ("received time", ColumnType::Timestamp),
        ("flags", ColumnType::U64),
        ("digest", ColumnType::Bytes),
        ("payload", ColumnType::Bytes),
    ];
    let columns = columns.map(|(name, ty)| (name.to_owned(), ty)).into();
    Shape { label: "batch directory".into(), columns, timed: false }
}

/// A schema, and the row groups of its events.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) shape: Shape,
    pub(super) groups: Vec<GroupAt>,
}

/// A row group, and where it is.
#[derive(Debug)]
pub(super) struct GroupAt {
    pub(super) entry: GroupEntry,
    /// From the start of the file.
    pub(super) offset: u64,
    /// Its rows, counted over all row groups of events, or of the directory.
    pub(super) rows: Range<u64>,
    /// The positions its rows are of.
    pub(super) positions: Range<u64>,
}

/// Where a run's rows and batches are.
#[derive(Debug, Clone)]
pub(super) struct RunAt {
    /// Its schema's table.
    pub(super) table: usize,
    /// Counted over all row groups of events.
    pub(super) rows: Range<u64>,
    /// Counted over the batch directory.
    pub(super) batches: Range<u64>,
}

#[derive(Debug)]
pub(super) struct Footer {
    pub(super) log: [u8; 16],
    /// By schema, in order.
    pub(super) tables: Vec<Table>,
    pub(super) directory: Table,
    pub(super) runs: Vec<SealedRun>,
    pub(super) places: Vec<RunAt>,
}

/// What a footer is written of.
pub(super) struct Contents<'a> {
    pub(super) log: [u8; 16],
    pub(super) runs: &'a [SealedRun],
    /// By schema, in order; schemas stand in the order of the runs.
    pub(super) tables: &'a [Vec<GroupEntry>],
    pub(super) directory: &'a [GroupEntry],
}

pub(super) fn write(contents: &Contents<'_>) -> Vec<u8> {
    let mut out = contents.log.to_vec();
    let mut schemas: Vec<&Arc<Schema>> = contents.runs.iter().map(|run| &run.schema).collect();
    schemas.dedup();
    varint::push(&mut out, schemas.len() as u64);
    schemas.iter().for_each(|schema| varint::push_bytes(&mut out, schema.canonical()));
    let sources = sources(contents.runs);
    varint::push(&mut out, sources.len() as u64);
    for source in &sources {
        varint::push_bytes(&mut out, source.device.as_str().as_bytes());
        out.extend_from_slice(source.epoch.as_bytes());
        varint::push(&mut out, u64::from(source.number));
    }
    varint::push(&mut out, contents.runs.len() as u64);
    let mut schema = 0;
    for run in contents.runs {
        // Runs are in the order of their schemas.
        schema += schemas[schema..].iter().position(|schema| **schema == run.schema).expect("it is listed");
        varint::push(&mut out, schema as u64);
        let source = sources.binary_search_by(|source| order(source).cmp(&order(&run.source)));
        varint::push(&mut out, source.expect("it is listed") as u64);
        varint::push(&mut out, run.rows);
        varint::push(&mut out, run.batches);
        for range in [&run.sequences, &run.positions] {
            varint::push(&mut out, range.start);
            varint::push(&mut out, range.end - range.start);
        }
        for range in [&run.times, &run.received] {
            varint::push_signed(&mut out, *range.start());
            varint::push(&mut out, range.end().wrapping_sub(*range.start()) as u64);
        }
    }
    for groups in contents.tables.iter().map(Vec::as_slice).chain([contents.directory]) {
        varint::push(&mut out, groups.len() as u64);
        groups.iter().for_each(|group| group.write(&mut out));
    }
    out
}

/// What rows, and the sources in the footer, are ordered by.
pub(super) fn order(source: &Source) -> (&str, u32, Epoch) {
    (source.device.as_str(), source.number, source.epoch)
}

fn sources(runs: &[SealedRun]) -> Vec<&Arc<Source>> {
    let mut sources: Vec<&Arc<Source>> = runs.iter().map(|run| &run.source).collect();
    sources.sort_by(|a, b| order(a).cmp(&order(b)));
    sources.dedup();
    sources
}

/// Reads a footer; the row groups lie from `start` to `end`.
pub(super) fn read(bytes: &[u8], start: u64, end: u64) -> Decoded<Footer> {
    let mut fields = Fields::new(bytes);
    let log = fields.array()?;
    let schemas = (0..fields.count("schemas")?)
        .map(|_| {
            let schema = Schema::from_canonical(fields.bytes()?).map_err(|error| error.to_string())?;
            Ok(Arc::new(schema))
        })
        .collect::<Decoded<Vec<_>>>()?;
    let sources = (0..fields.count("sources")?)
        .map(|_| read_source(&mut fields).map(Arc::new))
        .collect::<Decoded<Vec<_>>>()?;
    if !sources.is_sorted_by(|a, b| order(a) < order(b)) {
        return Err("its sources are out of order".into());
    }
    let (runs, places) = read_runs(&mut fields, &schemas, &sources)?;
    let (rows, batches) = places.last().map_or((0, 0), |last| (last.rows.end, last.batches.end));
    let mut reading = Reading { fields, offset: start, row: 0 };
    let mut tables = Vec::with_capacity(schemas.len());
    for (index, schema) in schemas.iter().enumerate() {
        let table = reading.table(Shape::of(schema))?;
        let runs_so_far = places.partition_point(|place| place.table <= index);
        if places[..runs_so_far].last().map(|place| (place.table, place.rows.end))
            != Some((index, reading.row))
        {
            return Err(format!(
                "the row groups of {} hold other rows than the device index says",
                table.shape.label
            ));
        }
        tables.push(table);
    }
    if reading.row != rows {
        return Err("row groups and device index differ".into());
    }
    reading.row = 0;
    let mut directory = reading.table(directory_shape())?;
    if reading.row != batches {
        return Err(format!("{} batches in the directory, {batches} in the device index", reading.row));
    }
    if reading.offset != end {
        return Err("its row groups do not fill the file".into());
    }
    reading.fields.end()?;
    let of_events = tables.iter_mut().flat_map(|table| &mut table.groups);
    tell_positions(of_events, &runs, &places, |place| place.rows.clone());
    tell_positions(directory.groups.iter_mut(), &runs, &places, |place| place.batches.clone());
    Ok(Footer { log, tables, directory, runs, places })
}

fn read_source(fields: &mut Fields<'_>) -> Decoded<Source> {
    let device = str::from_utf8(fields.bytes()?).map_err(|_| "a device name that is not UTF-8")?;
    let device = DeviceName::try_from(device).map_err(|error| error.to_string())?;
    let epoch = Epoch::from_bytes(fields.array()?);
    Ok(Source { device, epoch, number: fields.at_most(u32::MAX.into(), "an epoch's number")? as u32 })
}

fn read_runs(
    fields: &mut Fields<'_>,
    schemas: &[Arc<Schema>],
    sources: &[Arc<Source>],
) -> Decoded<(Vec<SealedRun>, Vec<RunAt>)> {
    let (mut runs, mut places): (Vec<SealedRun>, Vec<RunAt>) = Default::default();
    let (mut row, mut batch) = (0_u64, 0_u64);
    let mut before = None;
    for _ in 0..fields.count("runs")? {
        let table = fields.number()? as usize;
        let source = fields.number()? as usize;
        if before.is_some_and(|before| before >= (table, source)) {
            return Err("the device index is out of order".into());
        }
        before = Some((table, source));
        let schema = schemas.get(table).ok_or("a run of a schema that is not there")?;
        let source = sources.get(source).ok_or("a run of a source that is not there")?;
        let (rows, batches) = (fields.number()?, fields.at_most(MAX_BATCHES as u64, "batches")?);
        let (sequences, positions) = (read_range(fields)?, read_range(fields)?);
        let (times, received) = (read_times(fields)?, read_times(fields)?);
        if batches == 0 || rows < batches || sequences.end > MAX_SEQUENCE {
            return Err(format!("{rows} rows in {batches} batches, sequences up to {}", sequences.end));
        }
        let (rows_end, batches_end) = (row.checked_add(rows).ok_or("too many rows")?, batch + batches);
        if batches_end > MAX_BATCHES as u64 {
            return Err(format!("more than {MAX_BATCHES} batches"));
        }
        places.push(RunAt { table, rows: row..rows_end, batches: batch..batches_end });
        (row, batch) = (rows_end, batches_end);
        let (schema, source) = (Arc::clone(schema), Arc::clone(source));
        runs.push(SealedRun {
            schema,
            source,
            rows,
            batches,
            sequences,
            positions,
            times,
            received,
            bytes: 0,
        });
    }
    Ok((runs, places))
}

fn read_range(fields: &mut Fields<'_>) -> Decoded<Range<u64>> {
    let start = fields.number()?;
    Ok(start..start.checked_add(fields.number()?).ok_or("a range that ends nowhere")?)
}

fn read_times(fields: &mut Fields<'_>) -> Decoded<RangeInclusive<i64>> {
    let start = fields.signed()?;
    Ok(start..=start.checked_add_unsigned(fields.number()?).ok_or("a time out of range")?)
}

/// Row groups are read one after the other, and tile the file.
struct Reading<'a> {
    fields: Fields<'a>,
    offset: u64,
    row: u64,
}

impl Reading<'_> {
    fn table(&mut self, shape: Shape) -> Decoded<Table> {
        let mut groups = Vec::new();
        for _ in 0..self.fields.count("row groups")? {
            let entry = GroupEntry::read(&mut self.fields, &shape)?;
            let (offset, row) = (self.offset, self.row);
            self.offset = offset.checked_add(entry.len).ok_or("a row group behind the end of the file")?;
            self.row = row.checked_add(entry.rows as u64).ok_or("too many rows")?;
            groups.push(GroupAt { entry, offset, rows: row..self.row, positions: 0..0 });
        }
        Ok(Table { shape, groups })
    }
}

/// Tells every row group which positions its rows are of: both are in the same order.
fn tell_positions<'a>(
    groups: impl Iterator<Item = &'a mut GroupAt>,
    runs: &[SealedRun],
    places: &[RunAt],
    extent: impl Fn(&RunAt) -> Range<u64>,
) {
    for group in groups {
        let first = places.partition_point(|place| extent(place).end <= group.rows.start);
        let end = places.partition_point(|place| extent(place).start < group.rows.end);
        let runs = &runs[first..end];
        let start = runs.iter().map(|run| run.positions.start).min().unwrap_or(0);
        group.positions = start..runs.iter().map(|run| run.positions.end).max().unwrap_or(start);
    }
}

impl Table {
    /// The row group with this index, for errors.
    pub(super) fn place(&self, group: usize) -> Place<'_> {
        let GroupAt { offset, positions, .. } = &self.groups[group];
        Place { shape: &self.shape, group, offset: *offset, positions: positions.clone() }
    }

    /// The row groups that hold any of these rows.
    pub(super) fn groups_of(&self, rows: &Range<u64>) -> Range<usize> {
        let start = self.groups.partition_point(|group| group.rows.end <= rows.start);
        start..self.groups.partition_point(|group| group.rows.start < rows.end)
    }
}

impl Footer {
    /// About how many bytes it takes in memory, with what is told of it.
    pub(super) fn memory(&self) -> usize {
        // With its schema's and source's share; the summary has the runs as well.
        let runs = self.runs.len() * (2 * size_of::<SealedRun>() + size_of::<RunAt>() + 128);
        let groups = self.tables.iter().chain([&self.directory]).flat_map(|table| &table.groups);
        let of_group =
            |group: &GroupAt| size_of::<GroupAt>() + group.entry.statistics.len() * size_of::<Statistics>();
        runs + groups.map(of_group).sum::<usize>()
    }

    /// Gives every run its share of the bytes of its row groups.
    pub(super) fn share_bytes(&mut self) {
        for (run, place) in self.runs.iter_mut().zip(&self.places) {
            let table = &self.tables[place.table];
            for group in &table.groups[table.groups_of(&place.rows)] {
                let rows = place.rows.end.min(group.rows.end) - place.rows.start.max(group.rows.start);
                let share = u128::from(group.entry.len) * u128::from(rows) / group.entry.rows as u128;
                run.bytes += share as u64;
            }
        }
    }
}
