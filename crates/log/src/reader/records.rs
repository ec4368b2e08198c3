//! The iterator over a log's records.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::Path;

use super::{LogReader, OnDamage, Point, Scan, Segments};
use crate::block::{Announced, BlockHeader, BlockReader, DecodedBlock};
use crate::directory::DirectoryFile;
use crate::error::{Damage, LogError};
use crate::record::Record;
use crate::walk::{Step, Walk};

/// The records of a [`Scan`], in position order.
pub struct Records<'a> {
    reader: &'a LogReader,
    scan: Scan<'a>,
    segments: Segments,
    /// Segments still to be read.
    indexes: Range<usize>,
    current: Option<Current>,
    /// What is before this has been read or passed over; a newer segment may hold a copy of the last block.
    next: Point,
    /// Where reading ends.
    until: Point,
    blocks: BlockReader,
    pending: VecDeque<Damage>,
    passed: Vec<Damage>,
    ended: bool,
}

/// The segment being read.
struct Current {
    index: usize,
    walk: Walk,
    announced: Announced,
    /// Everything announced in the segment is known beforehand, so that blocks can be passed over.
    complete: bool,
    block: Option<OpenBlock>,
}

struct OpenBlock {
    block: DecodedBlock,
    /// It was read before, in an older segment.
    copy: bool,
    faulty: bool,
}

impl<'a> Records<'a> {
    pub(super) fn new(reader: &'a LogReader, scan: Scan<'a>, indexes: Range<usize>) -> Self {
        let headers = &reader.segments.headers;
        let until = headers.get(indexes.end).map_or(reader.end, Point::start_of);
        let next = headers.get(indexes.start).map_or(Point { block: 0, position: 0 }, Point::start_of);
        Self {
            reader,
            scan,
            segments: reader.segments.clone(),
            indexes,
            current: None,
            next,
            until,
            blocks: BlockReader::new(),
            pending: reader.segments.damage.iter().cloned().collect(),
            passed: Vec::new(),
            ended: false,
        }
    }

    /// The damage passed over so far.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.passed
    }

    fn try_next(&mut self) -> Result<Option<Record>, LogError> {
        loop {
            if let Some(damage) = self.pending.pop_front() {
                self.pass_over(damage)?;
                continue;
            }
            let Some(current) = &mut self.current else {
                if !self.open_segment()? {
                    return Ok(None);
                }
                continue;
            };
            let Some(open) = &mut current.block else {
                self.open_block()?;
                continue;
            };
            match open.block.next_record(&mut current.announced) {
                Some(Ok(record)) if !open.copy && self.scan.wants(&record, &open.block.header) => {
                    return Ok(Some(record));
                }
                Some(Err(what)) if !open.copy && !open.faulty => {
                    open.faulty = true;
                    let (file, offset) = (current.walk.path.clone(), current.walk.before.offset);
                    let positions = Some(open.block.header.positions());
                    self.pending.push_back(Damage { file, offset, what, positions });
                }
                Some(_) => {}
                None => self.blocks.recycle(current.block.take().expect("the block was open").block),
            }
        }
    }

    fn pass_over(&mut self, damage: Damage) -> Result<(), LogError> {
        if self.scan.on_damage == OnDamage::Fail {
            return Err(damage.into());
        }
        self.passed.push(damage);
        Ok(())
    }

    /// Opens the next segment that may hold something wanted; `false` if there is none.
    fn open_segment(&mut self) -> Result<bool, LogError> {
        let index = self.indexes.next();
        let Some((index, header)) = index.and_then(|index| Some((index, self.segments.headers.get(index)?)))
        else {
            self.indexes = 0..0;
            return Ok(self.reach(self.until, &self.reader.layout.hot.clone()));
        };
        let start = Point::start_of(header);
        if start.block >= self.until.block {
            return Ok(true);
        }
        let path = self.reader.layout.segment(header.number);
        if self.reach(start, &path) {
            self.indexes.start = index;
            return Ok(true);
        }
        let header = &self.segments.headers[index];
        let end = self.segments.headers.get(index + 1).map_or(self.until, Point::start_of);
        if self.scan.excludes(&(start.position..end.position)) {
            self.next = end;
            return Ok(true);
        }
        let directory = self.reader.directory(&self.segments, index, DirectoryFile::open)?;
        if directory.as_ref().is_some_and(|directory| self.scan.wants_none_of(directory)) {
            self.next = end;
            return Ok(true);
        }
        let limits = self.reader.limits(&self.segments, index);
        let walk = match Walk::open(&*self.reader.disk, &self.reader.layout, header, limits) {
            Ok(walk) => walk,
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.refresh(index)?;
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let known = directory.and_then(|directory| directory.announced());
        let (complete, announced) = (known.is_some(), known.unwrap_or_default());
        self.current = Some(Current { index, walk, announced, complete, block: None });
        Ok(true)
    }

    /// Goes on at `point`, where a segment begins or the view ends. Blocks before it that were not found are missing.
    /// Says whether there are any.
    fn reach(&mut self, point: Point, file: &Path) -> bool {
        let is_missing = self.next.block < point.block;
        if is_missing {
            let what = format!("blocks {} to {} before it are missing", self.next.block, point.block);
            let positions = Some(self.next.position..point.position);
            self.pending.push_back(Damage { file: file.to_path_buf(), offset: 0, what, positions });
            self.next = point;
        }
        is_missing
    }

    /// Opens the next block of the current segment, or leaves the segment.
    fn open_block(&mut self) -> Result<(), LogError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let step = match current.walk.next_header()? {
            Step::Block(header) => {
                let positions = header.positions();
                if self.scan.positions.as_ref().is_some_and(|wanted| positions.start >= wanted.end) {
                    self.current = None;
                    self.indexes = 0..0;
                    self.until = self.next;
                    return Ok(());
                }
                if current.complete && (self.scan.excludes(&positions) || header.number < self.next.block) {
                    self.next.pass(&current.walk);
                    return Ok(());
                }
                current.walk.read_block(&mut self.blocks, header)?
            }
            Step::Damage(damage) => Step::Damage(damage),
            Step::End => Step::End,
        };
        match step {
            Step::Block(block) => {
                let copy = block.header.number < self.next.block;
                self.next.pass(&current.walk);
                current.block = Some(OpenBlock { block, copy, faulty: false });
            }
            Step::Damage(damage) => {
                let (index, block) = (current.index, current.walk.before.block);
                let behind = Point { block: current.walk.at.block, position: current.walk.at.position };
                if !self.moved(index, block)? {
                    self.pending.push_back(damage);
                    self.next = behind;
                }
            }
            Step::End => self.current = None,
        }
        Ok(())
    }

    /// Whether a recovery has moved `block`, which was in the segment at `index` when the view was opened, to a newer
    /// segment. If so, reading goes on there.
    fn moved(&mut self, index: usize, block: u64) -> Result<bool, LogError> {
        if index + 1 < self.segments.headers.len() {
            return Ok(false);
        }
        let number = self.segments.headers[index].number;
        let newer = Segments::read(&*self.reader.disk, &self.reader.layout)?;
        let moved = newer.headers.iter().any(|header| header.number > number && header.first_block <= block);
        if moved {
            self.go_on_in(newer, number);
        }
        Ok(moved)
    }

    /// The segment at `index` has gone: a recovery has replaced it.
    fn refresh(&mut self, index: usize) -> Result<(), LogError> {
        let gone = self.segments.headers[index].number;
        let newer = Segments::read(&*self.reader.disk, &self.reader.layout)?;
        self.go_on_in(newer, gone);
        Ok(())
    }

    fn go_on_in(&mut self, segments: Segments, behind: u64) {
        let start = segments.headers.partition_point(|header| header.number <= behind);
        self.current = None;
        self.segments = segments;
        self.indexes = start..usize::MAX;
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.try_next();
        self.ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

impl std::fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("scan", &self.scan).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Point {
    /// Moves behind what the walk has passed.
    fn pass(&mut self, walk: &Walk) {
        if walk.at.block > self.block {
            *self = Self { block: walk.at.block, position: walk.at.position };
        }
    }
}

impl Scan<'_> {
    fn wants_none_of(&self, directory: &DirectoryFile) -> bool {
        let Some(wanted) = &self.devices else { return false };
        directory.damage().is_empty() && !directory.sources().any(|source| wanted(&source.device))
    }

    /// Whether nothing at these positions is wanted. What has no events belongs to the position it stands at.
    fn excludes(&self, positions: &Range<u64>) -> bool {
        let end = positions.end.max(positions.start.saturating_add(1));
        self.positions.as_ref().is_some_and(|wanted| end <= wanted.start || positions.start >= wanted.end)
    }

    fn wants(&self, record: &Record, block: &BlockHeader) -> bool {
        let excluded = match record {
            Record::Batch(batch) => self.excludes(&(batch.position..batch.position + u64::from(batch.count))),
            Record::Refused(_) | Record::Dropped(_) => self.excludes(&block.positions()),
        };
        !excluded && self.devices.as_ref().is_none_or(|wanted| wanted(&record.source().device))
    }
}
