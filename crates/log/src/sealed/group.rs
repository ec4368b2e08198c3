//! Row groups: the rows of up to a few devices, column by column.
//!
//! A row group is its head (a section with what is known of its columns) and the columns' pages. The batch directory is
//! kept in row groups of its own.

use std::ops::Range;

use icecore_wire::{ColumnType, Schema};

use super::bits::Bits;
use super::cells::{Cells, Growing, SealedColumn, bytes_of, width};
use super::column::{self, ColumnHead, PageAt};
use super::file::SealedFile;
use super::limits::{MAX_GROUP_ROWS, MAX_SECTION_BYTES};
use super::statistics::Statistics;
use super::varint::{self, Fields};
use super::{Decoded, section};
use crate::error::{Damage, LogError};
use crate::fields::crc32c;

/// Bytes that are read at once at most, if pages are not larger.
const READ_BYTES: usize = 4 << 20;

/// The columns of a table: of the events of a schema, or of the batch directory.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// What it is called in errors.
    pub(super) label: String,
    pub(super) columns: Vec<(String, ColumnType)>,
    /// Whether the first column is that of the event times.
    pub(super) timed: bool,
}

impl Shape {
    pub(super) fn of(schema: &Schema) -> Self {
        let fields = schema.fields().iter().map(|field| (field.name().to_owned(), field.ty()));
        let times = ("event time".to_owned(), ColumnType::Timestamp);
        Self {
            label: format!("schema {} v{}", schema.name(), schema.version()),
            columns: std::iter::once(times).chain(fields).collect(),
            timed: true,
        }
    }

    /// The least bytes that a row takes in memory, with or without values.
    pub(super) fn row_bytes(&self) -> u64 {
        self.columns.iter().map(|(_, ty)| bytes_of(*ty) as u64).sum()
    }

    pub(super) fn empty_columns(&self) -> Vec<Growing> {
        self.columns.iter().map(|(_, ty)| Growing::new(*ty)).collect()
    }
}

/// What the footer says of a row group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GroupEntry {
    pub(super) rows: usize,
    /// Bytes its values take in memory.
    pub(super) memory: u64,
    /// Bytes of its head, as stored and unpacked.
    pub(super) head_stored: usize,
    pub(super) head_len: usize,
    /// Bytes of all of it.
    pub(super) len: u64,
    pub(super) hash: [u8; 32],
    /// By column.
    pub(super) statistics: Vec<Statistics>,
}

impl GroupEntry {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        varint::push(out, self.rows as u64);
        varint::push(out, self.memory);
        varint::push(out, self.head_stored as u64);
        varint::push(out, self.head_len as u64);
        varint::push(out, self.len);
        out.extend_from_slice(&self.hash);
        for statistics in &self.statistics {
            statistics.write(out);
        }
    }

    pub(super) fn read(fields: &mut Fields<'_>, shape: &Shape) -> Decoded<Self> {
        let rows = fields.size(MAX_GROUP_ROWS, "rows of a row group")?;
        if rows == 0 {
            return Err("a row group without rows".into());
        }
        let memory = fields.number()?;
        let head_stored = fields.size(MAX_SECTION_BYTES, "bytes of a row group's head")?;
        let head_len = fields.size(MAX_SECTION_BYTES, "bytes of a row group's head")?;
        let len = fields.number()?;
        if len < head_stored as u64 {
            return Err("a row group that is smaller than its head".into());
        }
        let hash = fields.array()?;
        let statistics =
            shape.columns.iter().map(|(_, ty)| Statistics::read(fields, *ty)).collect::<Decoded<_>>()?;
        Ok(Self { rows, memory, head_stored, head_len, len, hash, statistics })
    }
}

/// Encodes the columns of a row group.
pub(super) fn encode(shape: &Shape, columns: &[Growing]) -> (Vec<u8>, GroupEntry) {
    let mut head = Vec::new();
    let mut pages = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let encoded = column::encode(column, shape.timed && index == 0);
        head.extend_from_slice(&encoded.head);
        pages.extend(encoded.pages);
    }
    let mut bytes = section::pack(&head);
    let head_stored = bytes.len();
    for page in pages {
        bytes.extend_from_slice(&page);
    }
    let entry = GroupEntry {
        rows: columns[0].valid.len(),
        memory: columns.iter().map(|column| column.cells.bytes() as u64).sum(),
        head_stored,
        head_len: head.len(),
        len: bytes.len() as u64,
        hash: *blake3::hash(&bytes).as_bytes(),
        statistics: columns.iter().map(Statistics::of).collect(),
    };
    (bytes, entry)
}

/// A row group whose head is read.
pub(super) struct Group<'a> {
    file: &'a SealedFile,
    place: Place<'a>,
    rows: usize,
    columns: Vec<ColumnHead>,
}

/// A row group, for errors.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    pub(super) shape: &'a Shape,
    /// Counted within its table.
    pub(super) group: usize,
    pub(super) offset: u64,
    /// The positions that its rows are of.
    pub(super) positions: Range<u64>,
}

impl Place<'_> {
    /// Damage at `offset`, in a column and one of its pages where they are known.
    fn damage(
        &self,
        file: &SealedFile,
        offset: u64,
        column: Option<usize>,
        page: &str,
        what: &str,
    ) -> Damage {
        let column =
            column.map_or(String::new(), |column| format!(", column {}", self.shape.columns[column].0));
        let what = format!("{}, row group {}{column}{page}: {what}", self.shape.label, self.group);
        file.damage_of(offset, what, self.positions.clone())
    }
}

impl<'a> Group<'a> {
    pub(super) fn open(file: &'a SealedFile, place: Place<'a>, entry: &GroupEntry) -> Result<Self, LogError> {
        let stored = file.read(place.offset, entry.head_stored)?;
        let columns = Self::read_head(&stored, &place, entry)
            .map_err(|what| place.damage(file, place.offset, None, ", head", &what))?;
        Ok(Self { file, place, rows: entry.rows, columns })
    }

    fn read_head(stored: &[u8], place: &Place<'_>, entry: &GroupEntry) -> Decoded<Vec<ColumnHead>> {
        let head = section::unpack(stored, entry.head_len)?;
        let mut fields = Fields::new(&head);
        let mut offset = place.offset + entry.head_stored as u64;
        let mut columns = Vec::with_capacity(place.shape.columns.len());
        for (index, (_, ty)) in place.shape.columns.iter().enumerate() {
            let timed = place.shape.timed && index == 0;
            columns.push(ColumnHead::read(&mut fields, *ty, entry.rows, timed, &mut offset)?);
        }
        fields.end()?;
        if offset.checked_sub(place.offset) == Some(entry.len) {
            Ok(columns)
        } else {
            Err("its pages do not add up to what the footer says".into())
        }
    }

    /// Damage that is not of one page.
    pub(super) fn damage(&self, what: &str) -> Damage {
        self.place.damage(self.file, self.place.offset, None, "", what)
    }

    /// Damage that is not of one page, in a column.
    pub(super) fn damage_in(&self, column: usize, what: &str) -> Damage {
        self.place.damage(self.file, self.place.offset, Some(column), "", what)
    }

    /// The pages that do not match their checksums; `bytes` are those of the whole row group.
    pub(super) fn bad_pages(&self, bytes: &[u8]) -> Vec<Damage> {
        let mut bad = Vec::new();
        for (index, column) in self.columns.iter().enumerate() {
            let pages = column.pages.iter().enumerate().map(|(page, at)| (format!(", page {page}"), at));
            for (page, at) in column.validity.iter().map(|at| (", validity".to_owned(), at)).chain(pages) {
                let start = (at.offset - self.place.offset) as usize;
                if let Err(what) = checked(&bytes[start..start + at.len], at) {
                    bad.push(self.place.damage(self.file, at.offset, Some(index), &page, &what));
                }
            }
        }
        bad
    }

    /// What is known of its columns.
    #[cfg(test)]
    pub(super) fn columns(&self) -> &[ColumnHead] {
        &self.columns
    }

    /// The type of a column.
    pub(super) fn ty(&self, column: usize) -> ColumnType {
        self.columns[column].ty
    }

    /// How many rows have a value in a column.
    pub(super) fn value_count(&self, column: usize) -> usize {
        self.columns[column].values
    }

    /// Whether the head tells the ranges of all pages of times, or this is another column.
    pub(super) fn time_ranges_hold(&self, column: usize, times: &[i64]) -> bool {
        let ColumnHead { ranges, per_page, .. } = &self.columns[column];
        ranges.is_empty() || times.chunks(*per_page).map(column::range_of).eq(ranges.iter().copied())
    }

    /// How many rows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// By page of event times that holds any of `rows`: all rows it holds, and the least and the greatest time.
    pub(super) fn time_ranges_of(
        &self,
        rows: &Range<usize>,
    ) -> impl Iterator<Item = (Range<usize>, (i64, i64))> + '_ {
        let times = &self.columns[0];
        let pages = rows.start / times.per_page..(rows.end.div_ceil(times.per_page)).min(times.ranges.len());
        pages.map(|page| (times.page_values(page), times.ranges[page]))
    }

    /// Reads the rows `ranges` (ascending) of a column.
    pub(super) fn column(&self, index: usize, ranges: &[Range<usize>]) -> Result<SealedColumn, LogError> {
        let head = &self.columns[index];
        let rows = ranges.iter().map(Range::len).sum();
        let wrong = |what: String| self.place.damage(self.file, self.place.offset, Some(index), "", &what);
        let validity = self.validity(index)?;
        let Some(values) = head.wanted(ranges, validity.as_ref()) else {
            let mut none = Bits::default();
            none.extend(false, rows);
            let column = SealedColumn::new(head.ty, rows, Some(none), Cells::new(head.ty));
            return Ok(column.map_err(wrong)?);
        };
        let cells = self.values(index, &values)?;
        let valid = validity.map(|all| {
            let mut valid = Bits::default();
            ranges.iter().for_each(|range| all.iter(range.clone()).for_each(|bit| valid.push(bit)));
            valid
        });
        Ok(SealedColumn::new(head.ty, rows, valid, cells).map_err(wrong)?)
    }

    /// Which rows of a column have a value, if only some have.
    pub(super) fn validity(&self, index: usize) -> Result<Option<Bits>, LogError> {
        let head = &self.columns[index];
        let Some(at) = head.validity else { return Ok(None) };
        let stored = self.file.read_pages(at.offset, at.len, 1)?;
        let bits = checked(&stored, &at).and_then(|page| head.validity(page));
        let bits =
            bits.map_err(|what| self.place.damage(self.file, at.offset, Some(index), ", validity", &what))?;
        Ok(Some(bits))
    }

    /// Reads the values `wanted` (ascending) of a column, counted by the rows that have one.
    pub(super) fn values(&self, index: usize, wanted: &[Range<usize>]) -> Result<Cells, LogError> {
        let head = &self.columns[index];
        let width = width(head.ty);
        let mut cells = Cells::new(head.ty);
        let wrong = |at: u64, page: usize, what: &str| {
            self.place.damage(self.file, at, Some(index), &format!(", page {page}"), what)
        };
        let mut decoder = head.decoder().map_err(|what| wrong(self.place.offset, 0, &what))?;
        let mut wanted = wanted.iter().cloned().peekable();
        for pages in head.reads(&mut wanted.clone()) {
            let start = head.pages[pages.start].offset;
            let len: usize = head.pages[pages.clone()].iter().map(|page| page.len).sum();
            let stored = self.file.read_pages(start, len, pages.len())?;
            for page in pages {
                let (at, held) = (head.pages[page], head.page_values(page));
                let bytes = &stored[(at.offset - start) as usize..][..at.len];
                let mut wrong = |what: String| wrong(at.offset, page, &what);
                let page_bytes = checked(bytes, &at).map_err(&mut wrong)?;
                let count = held.len() * width;
                if wanted.peek().is_some_and(|range| range.start <= held.start && held.end <= range.end) {
                    decoder.append(page, page_bytes, count, &mut cells).map_err(&mut wrong)?;
                    wanted.next_if(|range| range.end == held.end);
                    continue;
                }
                let decoded = decoder.page(page, page_bytes, count).map_err(&mut wrong)?;
                while let Some(range) = wanted.peek() {
                    let part = range.start.max(held.start)..range.end.min(held.end);
                    if !part.is_empty() {
                        let flat = (part.start - held.start) * width..(part.end - held.start) * width;
                        cells.extend_from_page(&decoded, flat).map_err(&mut wrong)?;
                    }
                    if range.end > held.end {
                        break;
                    }
                    wanted.next();
                }
            }
        }
        Ok(cells)
    }
}

impl ColumnHead {
    /// The values (counted by the rows that have one) of the rows `ranges`; `None` if no row of the group has one.
    fn wanted(&self, ranges: &[Range<usize>], validity: Option<&Bits>) -> Option<Vec<Range<usize>>> {
        if self.values == 0 {
            return None;
        }
        let Some(validity) = validity else { return Some(ranges.to_vec()) };
        let (mut row, mut value) = (0, 0);
        let value_range = |range: &Range<usize>| {
            let start = value + validity.count(row..range.start);
            let end = start + validity.count(range.clone());
            (row, value) = (range.end, end);
            start..end
        };
        Some(ranges.iter().map(value_range).filter(|range| !range.is_empty()).collect())
    }

    /// The pages that hold the values `wanted`, neighbours together.
    fn reads(&self, wanted: &mut dyn Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
        let mut reads: Vec<(Range<usize>, usize)> = Vec::new();
        for range in wanted {
            for page in range.start / self.per_page..=(range.end - 1) / self.per_page {
                let len = self.pages[page].len;
                match reads.last_mut() {
                    Some((pages, _)) if pages.contains(&page) => {}
                    Some((pages, bytes)) if pages.end == page && *bytes + len <= READ_BYTES => {
                        pages.end += 1;
                        *bytes += len;
                    }
                    _ => reads.push((page..page + 1, len)),
                }
            }
        }
        reads.into_iter().map(|(pages, _)| pages).collect()
    }
}

fn checked<'a>(bytes: &'a [u8], at: &PageAt) -> Decoded<&'a [u8]> {
    if crc32c(bytes) == at.crc { Ok(bytes) } else { Err("the checksum does not match".into()) }
}
