//! An open sealed segment.

use std::ops::Range;
use std::path::PathBuf;
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use icecore_wire::{DeviceName, Digest, Epoch, Schema, Values};

use super::file::SealedFile;
use super::footer::{self, Footer, RunAt, directory};
use super::footers::Footers;
use super::group::Group;
use super::limits::DIRECTORY_STEP;
use super::statistics::Statistics;
use super::trailer::{self, HEADER_BYTES, TRAILER_BYTES, Trailer};
use super::{ReadAt, SealedEntry, SealedRun, SealedSummary, section};
use crate::directory::BatchEntry;
use crate::error::LogError;

/// Bytes read from the end of a file to find the footer; a larger footer takes a second read.
const TAIL_BYTES: u64 = 64 << 10;

/// An open sealed segment. Its footer is in memory; pages are read when they are asked for.
///
/// Clones are the same segment.
#[derive(Clone)]
pub struct SealedSegment {
    pub(super) file: SealedFile,
    pub(super) footer: Arc<Footer>,
    summary: Arc<SealedSummary>,
}

/// What the directory says of a batch, as far as it was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    pub(super) first_sequence: u64,
    pub(super) count: u32,
    pub(super) position: u64,
    pub(super) received: i64,
    pub(super) time_uncertain: bool,
}

impl SealedSegment {
    /// Opens the segment in `bytes`: finds the footer from the end, checks it against its root and reads it. `name`
    /// stands for the file in errors.
    ///
    /// # Errors
    /// It cannot be read, is no whole sealed segment, or was written by a later version.
    pub fn open(bytes: Arc<dyn ReadAt>, name: PathBuf) -> Result<Self, LogError> {
        let file = SealedFile::open(bytes, name)?;
        let tail_start = file.len.saturating_sub(TAIL_BYTES);
        let mut tail = file.read(tail_start, (file.len - tail_start) as usize)?;
        let trailer_start = tail.len().saturating_sub(TRAILER_BYTES);
        let at_end = |what| file.damage(file.len.saturating_sub(TRAILER_BYTES as u64), what);
        let trailer = Trailer::read(&tail[trailer_start..]).map_err(at_end)?;
        if trailer.version > trailer::VERSION {
            let what = format!("format {} was written by a later version of Icecore", trailer.version);
            return Err(LogError::Foreign { file: file.name, what });
        }
        trailer.check(file.len).map_err(at_end)?;
        let footer_start = file.len - trailer.tail_bytes();
        if footer_start < tail_start {
            let mut all = file.read(footer_start, (tail_start - footer_start) as usize)?;
            all.append(&mut tail);
            tail = all;
        } else {
            tail.drain(..(footer_start - tail_start) as usize);
        }
        let stored = &tail[..trailer.footer_stored as usize];
        let footer = read_footer(stored, &trailer, footer_start);
        let mut footer = footer.map_err(|what| file.damage(footer_start, format!("footer: {what}")))?;
        footer.share_bytes();
        let summary = SealedSummary::new(footer.log, footer.runs.clone(), &trailer);
        Ok(Self { file, footer: Arc::new(footer), summary: Arc::new(summary) })
    }

    /// Opens the segment with this root, which `footers` may know already: then nothing is read, and that it is the same is found out page
    /// by page.
    pub(crate) fn open_known(
        bytes: Arc<dyn ReadAt>,
        name: PathBuf,
        root: &[u8; 32],
        footers: &Footers,
    ) -> Result<Self, LogError> {
        if let Some((footer, summary)) = footers.get(root) {
            let file = SealedFile::open(bytes, name)?;
            if file.len == summary.bytes {
                return Ok(Self { file, footer, summary });
            }
            let what = format!("the file has {} bytes, not {}", file.len, summary.bytes);
            return Err(file.damage(file.len.min(summary.bytes), what).into());
        }
        let open = Self::open(bytes, name)?;
        footers.put(open.summary.root, (Arc::clone(&open.footer), Arc::clone(&open.summary)));
        Ok(open)
    }

    /// What it holds.
    #[must_use]
    pub fn summary(&self) -> &SealedSummary {
        &self.summary
    }

    /// The schemas of its rows, in order.
    pub fn schemas(&self) -> impl Iterator<Item = &Arc<Schema>> {
        let runs = self.summary.runs.chunk_by(|a, b| Arc::ptr_eq(&a.schema, &b.schema));
        runs.map(|runs| &runs[0].schema)
    }

    /// What the footer knows of the columns of a schema, by row group: rows, and statistics of the event times and then of
    /// every field.
    pub fn statistics(&self, schema: &Schema) -> impl Iterator<Item = (usize, &[Statistics])> {
        let index = self.schemas().position(|listed| listed.id() == schema.id());
        let groups = index.map_or(&[][..], |index| &self.footer.tables[index].groups);
        groups.iter().map(|group| (group.entry.rows, group.entry.statistics.as_slice()))
    }

    /// Where the last part of the file begins that is enough to open it and to [find](Self::find) batches: behind the last
    /// page with rows.
    #[must_use]
    pub fn tail_start(&self) -> u64 {
        self.footer.directory.groups.first().map_or(self.file.len, |group| group.offset)
    }

    /// Counts the pages of columns that are read of it from here on, by this one and its clones.
    pub(crate) fn pages_read(&self) -> Arc<AtomicU64> {
        self.file.pages()
    }

    /// Bytes of the whole file.
    pub(crate) fn bytes(&self) -> u64 {
        self.file.len
    }

    /// Bytes of the file as they are.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, LogError> {
        self.file.read(offset, len)
    }

    /// Finds the batch that begins exactly at `first_sequence`, reading a few pages of the batch directory.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged there.
    pub fn find(
        &self,
        device: &DeviceName,
        epoch: &Epoch,
        first_sequence: u64,
    ) -> Result<Option<BatchEntry>, LogError> {
        for (index, run) in self.runs_of(device) {
            if run.source.epoch == *epoch
                && run.sequences.contains(&first_sequence)
                && let Some(entry) = self.find_in(&self.footer.places[index].batches, first_sequence)?
            {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The batch directory, in the order of (schema, device, epoch, sequence).
    #[must_use]
    pub fn entries(&self) -> Entries<'_> {
        Entries { segment: self, run: 0, next: 0, read: Vec::new().into_iter(), failed: false }
    }

    /// How many batches the directory has.
    pub(super) fn batch_count(&self) -> u64 {
        self.footer.places.last().map_or(0, |last| last.batches.end)
    }

    /// The runs of a device, of all schemas.
    fn runs_of(&self, device: &DeviceName) -> impl Iterator<Item = (usize, &SealedRun)> {
        let mut start = 0;
        std::iter::from_fn(move || {
            while start < self.footer.runs.len() {
                let table = self.footer.places[start].table;
                let end = start + self.footer.places[start..].partition_point(|place| place.table == table);
                let runs = &self.footer.runs[start..end];
                let first = start + runs.partition_point(|run| run.source.device < *device);
                let count = self.footer.runs[first..end].partition_point(|run| run.source.device == *device);
                start = end;
                if count > 0 {
                    return Some(first..first + count);
                }
            }
            None
        })
        .flatten()
        .map(|index| (index, &self.footer.runs[index]))
    }

    /// Finds a batch among `batches`, which are in order of sequences: by halves down to what is decoded at once.
    fn find_in(&self, batches: &Range<u64>, first_sequence: u64) -> Result<Option<BatchEntry>, LogError> {
        let mut range = batches.clone();
        while range.end - range.start > DIRECTORY_STEP as u64 {
            let middle = range.start + (range.end - range.start) / 2;
            if self.list(from_ref(&(middle..middle + 1)))?[0].first_sequence <= first_sequence {
                range.start = middle;
            } else {
                range.end = middle;
            }
        }
        let listed = self.list(from_ref(&range))?;
        let Ok(index) = listed.binary_search_by_key(&first_sequence, |listed| listed.first_sequence) else {
            return Ok(None);
        };
        let at = range.start + index as u64;
        let digest = self.digests(from_ref(&(at..at + 1)))?[0];
        let Listed { count, position, .. } = listed[index];
        Ok(Some(BatchEntry { first_sequence, count, digest, position }))
    }

    /// Reads all of the directory about `batches` (ascending) but digests and payloads.
    pub(super) fn list(&self, batches: &[Range<u64>]) -> Result<Vec<Listed>, LogError> {
        let mut all = Vec::new();
        self.each_directory_group(batches, |group, ranges| {
            let column = |index| group.column(index, ranges);
            let (sequences, events) = (column(directory::FIRST_SEQUENCE)?, column(directory::EVENTS)?);
            let (positions, flags) = (column(directory::POSITION)?, column(directory::FLAGS)?);
            let received = column(directory::RECEIVED)?;
            let numbers = (sequences.view().values, events.view().values, positions.view().values);
            let (Values::U64(sequences), Values::U64(events), Values::U64(positions)) = numbers else {
                unreachable!("columns have the types of their shape");
            };
            let (Values::U64(flags), Values::Timestamp(received)) =
                (flags.view().values, received.view().values)
            else {
                unreachable!("columns have the types of their shape");
            };
            for index in 0..sequences.len() {
                all.push(Listed {
                    first_sequence: sequences[index],
                    // What is too large fails where rows are counted.
                    count: u32::try_from(events[index]).unwrap_or(u32::MAX),
                    position: positions[index],
                    received: received[index],
                    time_uncertain: flags[index] & directory::TIME_UNCERTAIN != 0,
                });
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// The digests of `batches` (ascending).
    pub(super) fn digests(&self, batches: &[Range<u64>]) -> Result<Vec<Digest>, LogError> {
        let mut all = Vec::new();
        self.each_directory_group(batches, |group, ranges| {
            let column = group.column(directory::DIGEST, ranges)?;
            let view = column.view();
            for row in 0..column.len() {
                let digest = match view.value(row) {
                    icecore_wire::Value::Bytes(bytes) => bytes.try_into().ok(),
                    _ => None,
                };
                all.push(Digest::from_bytes(
                    digest.ok_or_else(|| group.damage("a digest without 16 bytes"))?,
                ));
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// Opens the directory's row groups that hold any of `batches` (ascending), with the rows there.
    pub(super) fn each_directory_group(
        &self,
        batches: &[Range<u64>],
        mut read: impl FnMut(&Group<'_>, &[Range<usize>]) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return Ok(()) };
        let table = &self.footer.directory;
        for index in table.groups_of(&(first.start..last.end)) {
            let at = &table.groups[index];
            let within = |range: &Range<u64>| {
                let (start, end) = (range.start.max(at.rows.start), range.end.min(at.rows.end));
                (start < end).then(|| (start - at.rows.start) as usize..(end - at.rows.start) as usize)
            };
            let ranges: Vec<Range<usize>> = batches.iter().filter_map(within).collect();
            if !ranges.is_empty() {
                read(&Group::open(&self.file, table.place(index), &at.entry)?, &ranges)?;
            }
        }
        Ok(())
    }

    /// Opens a row group of a table.
    pub(super) fn group(&self, table: usize, index: usize) -> Result<Group<'_>, LogError> {
        let table = &self.footer.tables[table];
        Group::open(&self.file, table.place(index), &table.groups[index].entry)
    }

    /// The row group of `rows` (counted over all), and where they are in it. That of a batch holds all of it.
    pub(super) fn group_of(&self, run: &RunAt, rows: &Range<u64>) -> Result<(usize, Range<usize>), LogError> {
        let table = &self.footer.tables[run.table];
        let index = table.groups.partition_point(|group| group.rows.end <= rows.start);
        match table.groups.get(index) {
            Some(group) if group.rows.start <= rows.start && rows.end <= group.rows.end => {
                let start = group.rows.start;
                Ok((index, (rows.start - start) as usize..(rows.end - start) as usize))
            }
            _ => {
                let what = format!("batch directory: rows {rows:?} do not lie in one row group");
                Err(self.file.damage(self.footer.directory.groups[0].offset, what).into())
            }
        }
    }
}

impl std::fmt::Debug for SealedSegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SealedSummary { rows, batches, positions, .. } = &*self.summary;
        f.debug_struct("SealedSegment")
            .field("file", &self.file.name)
            .field("rows", rows)
            .field("batches", batches)
            .field("positions", positions)
            .finish_non_exhaustive()
    }
}

fn read_footer(stored: &[u8], trailer: &Trailer, end: u64) -> Result<Footer, String> {
    if trailer::root(stored) != trailer.root {
        return Err("it does not match the root".into());
    }
    let footer = section::unpack(stored, trailer.footer_len as usize)?;
    let footer = footer::read(&footer, HEADER_BYTES as u64, end)?;
    if footer.runs.is_empty() { Err("no batches".into()) } else { Ok(footer) }
}

/// The entries of a batch directory, read page by page.
pub struct Entries<'a> {
    segment: &'a SealedSegment,
    run: usize,
    /// The next batch to read.
    next: u64,
    read: std::vec::IntoIter<(Listed, Digest)>,
    failed: bool,
}

impl Entries<'_> {
    fn try_next(&mut self) -> Result<Option<SealedEntry>, LogError> {
        if self.read.len() == 0 {
            let step = self.next..(self.next + DIRECTORY_STEP as u64).min(self.segment.batch_count());
            if step.is_empty() {
                return Ok(None);
            }
            let listed = self.segment.list(from_ref(&step))?;
            let digests = self.segment.digests(from_ref(&step))?;
            self.read = listed.into_iter().zip(digests).collect::<Vec<_>>().into_iter();
        }
        let Some((listed, digest)) = self.read.next() else { return Ok(None) };
        while self.segment.footer.places[self.run].batches.end <= self.next {
            self.run += 1;
        }
        self.next += 1;
        let run = &self.segment.footer.runs[self.run];
        let Listed { first_sequence, count, position, received, time_uncertain } = listed;
        Ok(Some(SealedEntry {
            source: Arc::clone(&run.source),
            schema: Arc::clone(&run.schema),
            batch: BatchEntry { first_sequence, count, digest, position },
            received,
            time_uncertain,
        }))
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<SealedEntry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.try_next();
        self.failed = next.is_err();
        next.transpose()
    }
}

impl std::fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entries").field("next", &self.next).finish_non_exhaustive()
    }
}
