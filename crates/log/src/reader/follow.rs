//! Reading on where a view ended, as the writer goes on.

use std::io;
use std::sync::Arc;

use super::Point;
use crate::block::{Announced, BlockReader, DecodedBlock};
use crate::disk::Disk;
use crate::error::{Damage, LogError};
use crate::record::Record;
use crate::segment::{self, Layout, SegmentHeader};
use crate::walk::{Limits, Step, Walk};
use crate::watermark::Watermark;

/// Yields the records that the log's writer makes durable behind where a reader ended. It keeps one hot segment open, and
/// looks at the watermark when it has read up to the last one.
pub struct Follower {
    disk: Arc<dyn Disk>,
    layout: Layout,
    /// The writer as it was seen last.
    mark: Option<Watermark>,
    /// What is before this has been yielded.
    next: Point,
    current: Option<Following>,
    blocks: BlockReader,
}

/// What comes next.
#[derive(Debug)]
pub enum Followed {
    /// A record.
    Record(Record),
    /// Nothing: everything that is durable was yielded.
    Idle,
    /// What comes next is no hot segment any more, or another process writes the log now: a new view of it has what comes
    /// next, from [`Follower::position`] on.
    Behind,
}

/// The hot segment that is being read.
pub(super) struct Following {
    pub(super) number: u64,
    pub(super) walk: Walk,
    pub(super) announced: Announced,
    /// With whether it was yielded before.
    pub(super) block: Option<(DecodedBlock, bool)>,
}

impl Follower {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        layout: Layout,
        next: Point,
        current: Option<Following>,
        blocks: BlockReader,
    ) -> Self {
        Self { disk, layout, mark: None, next, current, blocks }
    }

    /// Everything before this position was yielded or passed over, up to the last records without events.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next.position
    }

    /// The next record.
    ///
    /// # Errors
    /// When a block that is durable cannot be read.
    #[expect(clippy::should_implement_trait, reason = "that there is nothing now is not the end")]
    pub fn next(&mut self) -> Result<Followed, LogError> {
        loop {
            if let Some(record) = self.next_in_block()? {
                return Ok(Followed::Record(record));
            }
            if self.mark.is_none_or(|mark| mark.next_block <= self.next.block) {
                let seen = self.mark;
                let Some(mark) = Watermark::read(&*self.disk, &self.layout) else {
                    return Ok(Followed::Idle);
                };
                if seen.is_some_and(|seen| (seen.log, seen.term) != (mark.log, mark.term)) {
                    return Ok(Followed::Behind);
                }
                self.mark = Some(mark);
                if mark.next_block <= self.next.block {
                    return Ok(Followed::Idle);
                }
                if !self.go_on(&mark)? {
                    return Ok(Followed::Behind);
                }
            } else if self.is_at_end_of_segment() && !self.go_on_at_last_mark()? {
                return Ok(Followed::Behind);
            }
            self.open_block()?;
        }
    }

    fn next_in_block(&mut self) -> Result<Option<Record>, LogError> {
        let Some(current) = &mut self.current else { return Ok(None) };
        while let Some((block, is_copy)) = &mut current.block {
            match block.next_record(&mut current.announced) {
                Some(Ok(_)) if *is_copy => {}
                Some(Ok(record)) => return Ok(Some(record)),
                Some(Err(what)) => {
                    let positions = Some(block.header.positions());
                    let (file, offset) = (current.walk.path.clone(), current.walk.before.offset);
                    return Err(Damage { file, offset, what, positions }.into());
                }
                None => self.blocks.recycle(current.block.take().expect("the block was open").0),
            }
        }
        Ok(None)
    }

    fn is_at_end_of_segment(&self) -> bool {
        self.current.as_ref().is_none_or(|current| current.walk.is_at_stop())
    }

    fn go_on_at_last_mark(&mut self) -> Result<bool, LogError> {
        let mark = self.mark.expect("it was looked at");
        self.go_on(&mark)
    }

    /// Makes the segment with the next block the current one, up to where it counts; `false` if it is not there.
    fn go_on(&mut self, mark: &Watermark) -> Result<bool, LogError> {
        let Some((header, limits)) = self.locate(mark)? else { return Ok(false) };
        if let Some(current) = self.current.as_mut().filter(|current| current.number == header.number) {
            current.walk.go_on_to(limits)?;
            return Ok(true);
        }
        match Walk::open(&*self.disk, &self.layout, &header, limits) {
            Ok(walk) => {
                let announced = Announced::default();
                self.current = Some(Following { number: header.number, walk, announced, block: None });
                Ok(true)
            }
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The segment with the next block, and what counts in it.
    fn locate(&self, mark: &Watermark) -> Result<Option<(SegmentHeader, Limits)>, LogError> {
        let known = self.current.as_ref().map_or(0, |current| current.number);
        let mut found = None;
        for number in segment::list(&*self.disk, &self.layout)? {
            if number < known || number > mark.segment {
                continue;
            }
            let header = match segment::read_header(&*self.disk, &self.layout, number) {
                Ok(header) => header,
                // A seal has just removed it.
                Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if header.first_block > self.next.block {
                return Ok(found.map(|found| (found, Limits::up_to(&header))));
            }
            found = Some(header);
        }
        let limits = Limits::exactly(mark.next_block, mark.position);
        Ok(found.filter(|found| found.number == mark.segment).map(|found| (found, limits)))
    }

    fn open_block(&mut self) -> Result<(), LogError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        match current.walk.next_block(&mut self.blocks)? {
            Step::Block(block) => {
                let is_copy = block.header.number < self.next.block;
                self.next.pass(&current.walk);
                current.block = Some((block, is_copy));
                Ok(())
            }
            Step::Damage(damage) => Err(damage.into()),
            Step::End => Ok(()),
        }
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("next", &self.next).finish_non_exhaustive()
    }
}
