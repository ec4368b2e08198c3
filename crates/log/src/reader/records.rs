//! The iterator over a log's records.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::follow::{Follower, Following};
use super::part::PartRecords;
use super::{AbsentSegment, LogReader, OnAbsent, OnDamage, Point, Scan, Segments};
use crate::block::{Announced, BlockReader, DecodedBlock};
use crate::directory::DirectoryFile;
use crate::error::{Damage, LogError};
use crate::manifest::{self, CurrentSegment, Placed, SealedPart};
use crate::record::Record;
use crate::sealed::InLogOrder;
use crate::sealed_store::SealedStore;
use crate::segment_id::SegmentId;
use crate::walk::{Step, Walk};

/// The records of a [`Scan`], in position order.
pub struct Records<'a> {
    reader: &'a LogReader,
    scan: Scan<'a>,
    segments: Segments,
    /// The next sealed part.
    part: usize,
    /// Hot segments still to be read, after all sealed parts.
    indexes: Range<usize>,
    current: Option<Current>,
    /// The last hot segment that was read to its end.
    newest: Option<Box<HotSegment>>,
    /// What is before this has been read or passed over; a newer segment may hold a copy of the last block.
    next: Point,
    /// Where reading ends.
    until: Point,
    blocks: BlockReader,
    pending: VecDeque<Damage>,
    passed: Vec<Damage>,
    absent: Vec<AbsentSegment>,
    reads: Reads,
    pages: Vec<Arc<AtomicU64>>,
    /// What comes now was received later than is wanted.
    past: bool,
    ended: bool,
}

/// What was read for records, beyond manifests and directories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    /// Blocks of hot segments.
    pub blocks: u64,
    /// Sealed segments that were opened.
    pub segments: Vec<SegmentId>,
    /// Pages of their columns.
    pub pages: u64,
}

/// What is being read.
enum Current {
    Part(PartRecords, Point),
    Hot(Box<HotSegment>),
}

/// The hot segment being read.
struct HotSegment {
    index: usize,
    walk: Walk,
    announced: Announced,
    /// Everything announced in the segment is known beforehand, so that blocks can be passed over.
    complete: bool,
    /// The numbers of the blocks with records of wanted devices, ascending, where a directory tells them.
    blocks: Option<Vec<u64>>,
    block: Option<OpenBlock>,
}

struct OpenBlock {
    block: DecodedBlock,
    /// It was read before, in an older segment.
    copy: bool,
    faulty: bool,
}

impl<'a> Records<'a> {
    /// Everything in the reader's view.
    pub(super) fn new(reader: &'a LogReader, scan: Scan<'a>) -> Self {
        let start = Point { block: 0, position: 0 };
        Self::between(reader, scan, start..reader.end, 0..usize::MAX)
    }

    /// Everything in the hot segment at `index` in the reader's view, wherever it has gone since.
    pub(super) fn of_hot_segment(reader: &'a LogReader, index: usize) -> Self {
        let headers = &reader.segments.headers;
        let until = headers.get(index + 1).map_or(reader.end, Point::start_of);
        Self::between(reader, Scan::default(), Point::start_of(&headers[index])..until, index..index + 1)
    }

    fn between(reader: &'a LogReader, scan: Scan<'a>, view: Range<Point>, indexes: Range<usize>) -> Self {
        Self {
            reader,
            scan,
            segments: reader.segments.clone(),
            part: 0,
            indexes,
            current: None,
            newest: None,
            next: view.start,
            until: view.end,
            blocks: BlockReader::new(),
            pending: reader.segments.damage.iter().cloned().collect(),
            passed: Vec::new(),
            absent: Vec::new(),
            reads: Reads::default(),
            pages: Vec::new(),
            past: false,
            ended: false,
        }
    }

    /// The damage passed over so far.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.passed
    }

    /// What was read so far.
    #[must_use]
    pub fn reads(&self) -> Reads {
        let pages = self.pages.iter().map(|pages| pages.load(Ordering::Relaxed)).sum();
        Reads { pages, ..self.reads.clone() }
    }

    /// The sealed segments passed over since this was called last.
    pub fn take_absent(&mut self) -> Vec<AbsentSegment> {
        std::mem::take(&mut self.absent)
    }

    /// Follows the log from where these records end: at the end of the view, once all of them were taken. Devices, schemas and
    /// positions are no longer looked at.
    #[must_use]
    pub fn follow(self) -> Follower {
        // Everything announced in a segment is known only if it was read, not if it was passed over.
        let newest = self.newest.filter(|newest| !newest.complete && newest.walk.at.block == self.next.block);
        let current = newest.map(|newest| Following {
            number: self.segments.headers[newest.index].number,
            walk: newest.walk,
            announced: newest.announced,
            block: None,
        });
        let SealedStore { disk, layout, .. } = &self.reader.store;
        Follower::new(Arc::clone(disk), layout.clone(), self.next, current, self.blocks)
    }

    fn try_next(&mut self) -> Result<Option<Record>, LogError> {
        loop {
            if let Some(damage) = self.pending.pop_front() {
                self.pass_over(damage)?;
                continue;
            }
            let found = match self.current {
                _ if self.past => return Ok(None),
                None => {
                    if !self.open_segment()? {
                        return Ok(None);
                    }
                    None
                }
                Some(Current::Part(..)) => self.next_sealed()?,
                Some(Current::Hot(_)) => self.next_hot()?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// The next wanted record of the part being read, if there is one at once.
    fn next_sealed(&mut self) -> Result<Option<Record>, LogError> {
        let Some(Current::Part(records, end)) = &mut self.current else { return Ok(None) };
        match records.next() {
            Some(Ok((position, record))) => {
                let wanted = self.scan.wants(&record, &(position..position));
                Ok(wanted.then_some(record))
            }
            Some(Err(LogError::Damaged(damage))) => self.pass_over(*damage).map(|()| None),
            Some(Err(error)) => Err(error),
            None => {
                self.next = *end;
                self.current = None;
                Ok(None)
            }
        }
    }

    /// The next wanted record of the hot segment being read, if there is one at once.
    fn next_hot(&mut self) -> Result<Option<Record>, LogError> {
        let Some(Current::Hot(current)) = &mut self.current else { return Ok(None) };
        let Some(open) = &mut current.block else {
            self.open_block()?;
            return Ok(None);
        };
        match open.block.next_record(&mut current.announced) {
            Some(Ok(record)) if !open.copy && self.scan.wants(&record, &open.block.header.positions()) => {
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
        Ok(None)
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
        if let Some(part) = self.segments.sealed.get(self.part).cloned() {
            let before = self.part.checked_sub(1).map(|before| &self.segments.sealed[before]);
            if before.is_some_and(|before| self.scan.is_past(before.manifest.received)) {
                self.past = true;
                return Ok(true);
            }
            self.part += 1;
            self.open_part(&part)?;
            return Ok(true);
        }
        let index = self.indexes.next();
        let Some((index, header)) = index.and_then(|index| Some((index, self.segments.headers.get(index)?)))
        else {
            self.indexes = 0..0;
            return Ok(self.reach(self.until, &self.reader.store.layout.hot.clone()));
        };
        let start = Point::start_of(header);
        if start.block >= self.until.block {
            return Ok(true);
        }
        let path = self.reader.store.layout.segment(header.number);
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
        let whole = directory.as_ref().filter(|directory| directory.damage().is_empty());
        if whole.is_some_and(|directory| self.scan.wants_none_of(directory.sources())) {
            self.next = end;
            return Ok(true);
        }
        let limits = self.reader.limits(&self.segments, index);
        let walk = match Walk::open(&*self.reader.store.disk, &self.reader.store.layout, header, limits) {
            Ok(walk) => walk,
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.refresh(index)?;
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let wanted = self.scan.devices.as_ref();
        let (known, blocks) = match (&directory, &self.reader.active) {
            (None, Some(active)) => active.of(header.number, wanted.map(|wanted| &**wanted)).unzip(),
            _ => {
                let of = |directory: &DirectoryFile| wanted.and_then(|wanted| directory.blocks_of(wanted));
                (directory.as_ref().and_then(DirectoryFile::announced), whole.map(of))
            }
        };
        let (complete, announced) = (known.is_some(), known.unwrap_or_default());
        let blocks = blocks.flatten();
        let segment = HotSegment { index, walk, announced, complete, blocks, block: None };
        self.current = Some(Current::Hot(Box::new(segment)));
        Ok(true)
    }

    /// Opens the segments of a sealed part that may hold something wanted.
    fn open_part(&mut self, part: &SealedPart) -> Result<(), LogError> {
        let Range { start, mut end } = Point::of_part(part);
        if start.block >= self.until.block || end.block <= self.next.block {
            return Ok(());
        }
        let layout = &self.reader.store.layout;
        let manifest = part.manifest.number;
        if self.reach(start, &layout.manifest(manifest)) {
            self.part -= 1;
            return Ok(());
        }
        if end.block > self.until.block {
            end = self.until;
        }
        if self.scan.excludes(&(start.position..end.position)) {
            self.next = end;
            return Ok(());
        }
        for damage in part.damage(layout) {
            if !damage.positions.as_ref().is_some_and(|positions| self.scan.excludes(positions)) {
                self.pass_over(damage)?;
            }
        }
        let settled = if self.scan.batches_only { Vec::new() } else { self.settled(manifest)? };
        // What is before this was read before a recovery or a seal moved the rest.
        let all = self.next.position..end.position;
        let wanted = self.scan.positions.as_ref().unwrap_or(&all);
        let positions = all.start.max(wanted.start)..all.end.min(wanted.end);
        if let Some(segments) = self.open_sealed(part, &positions)? {
            let records = PartRecords::new(segments, settled, &self.next, &end);
            self.current = Some(Current::Part(records, end));
        }
        Ok(())
    }

    /// What a manifest has on record without events.
    fn settled(&mut self, manifest: u64) -> Result<Vec<Placed>, LogError> {
        let SealedStore { disk, layout, .. } = &self.reader.store;
        match manifest::read_facts(&**disk, layout, manifest) {
            Ok(facts) => Ok(facts.settled),
            Err(LogError::Damaged(damage)) => self.pass_over(*damage).map(|()| Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Opens the segments of a part with wanted events in `positions`. `None` if one was split meanwhile: then the part is
    /// opened again.
    fn open_sealed(
        &mut self,
        part: &SealedPart,
        positions: &Range<u64>,
    ) -> Result<Option<Vec<InLogOrder>>, LogError> {
        let mut segments = Vec::new();
        let mut absent = Vec::new();
        for segment in &part.segments {
            let CurrentSegment { id, child } = segment;
            if self.scan.wants_none_in(child, positions) {
                continue;
            }
            let open = self.reader.store.open(segment);
            if let Ok(open) = &open {
                self.reads.segments.push(*id);
                self.pages.push(open.pages_read());
            }
            match open.and_then(|open| open.in_log_order(&self.scan.rows_at(positions))) {
                Ok(batches) => segments.push(batches),
                Err(LogError::Damaged(mut damage)) => {
                    damage.positions.get_or_insert_with(|| child.positions.clone());
                    self.pass_over(*damage)?;
                }
                Err(LogError::Absent { .. }) if self.was_split(*id)? => return Ok(None),
                Err(why @ (LogError::Absent { .. } | LogError::Io { .. }))
                    if self.scan.on_absent == OnAbsent::Skip =>
                {
                    absent.push(AbsentSegment { id: *id, child: child.clone(), why });
                }
                Err(error) => return Err(error),
            }
        }
        self.absent.extend(absent);
        Ok(Some(segments))
    }

    /// Whether a segment was split since the view was opened. If so, its parts are read instead.
    fn was_split(&mut self, id: SegmentId) -> Result<bool, LogError> {
        let SealedStore { disk, layout, .. } = &self.reader.store;
        let newer = Segments::read(&**disk, layout)?;
        let is_there = newer.sealed.iter().flat_map(|part| &part.segments).any(|segment| segment.id == id);
        if !is_there {
            // What is hot in the old view and sealed in the new one is found when it is missing.
            self.segments.sealed = newer.sealed;
            self.part = 0;
        }
        Ok(!is_there)
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
        let Some(Current::Hot(current)) = &mut self.current else { return Ok(()) };
        let step = match current.walk.next_header()? {
            Step::Block(header) => {
                let positions = header.positions();
                if self.scan.positions.as_ref().is_some_and(|wanted| positions.start >= wanted.end) {
                    self.current = None;
                    self.indexes = 0..0;
                    self.until = self.next;
                    return Ok(());
                }
                let is_of_none =
                    current.blocks.as_ref().is_some_and(|of| of.binary_search(&header.number).is_err());
                if current.complete
                    && (is_of_none || self.scan.excludes(&positions) || header.number < self.next.block)
                {
                    self.next.pass(&current.walk);
                    return Ok(());
                }
                if self.scan.is_past(header.received) {
                    self.past = true;
                    return Ok(());
                }
                self.reads.blocks += 1;
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
            Step::End => {
                if let Some(Current::Hot(ended)) = self.current.take() {
                    self.newest = Some(ended);
                }
            }
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
        let newer = Segments::read(&*self.reader.store.disk, &self.reader.store.layout)?;
        let moved = newer.headers.iter().any(|header| header.number > number && header.first_block <= block);
        if moved {
            self.go_on_in(newer, number);
        }
        Ok(moved)
    }

    /// The segment at `index` has gone: a recovery has replaced it, or it was sealed.
    fn refresh(&mut self, index: usize) -> Result<(), LogError> {
        let gone = self.segments.headers[index].number;
        let newer = Segments::read(&*self.reader.store.disk, &self.reader.store.layout)?;
        self.go_on_in(newer, gone);
        Ok(())
    }

    fn go_on_in(&mut self, segments: Segments, behind: u64) {
        let start = segments.headers.partition_point(|header| header.number <= behind);
        self.current = None;
        self.segments = segments;
        // Parts that were read are passed by.
        self.part = 0;
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
    pub(super) fn pass(&mut self, walk: &Walk) {
        if walk.at.block > self.block {
            *self = Self { block: walk.at.block, position: walk.at.position };
        }
    }
}
