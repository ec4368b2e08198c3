//! Reading the log, beside a running writer or without one.

mod records;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use icecore_wire::DeviceName;

use crate::block::BlockReader;
use crate::directory::DirectoryFile;
use crate::disk::Disk;
use crate::error::{Damage, LogError};
use crate::record::Fact;
use crate::segment::{self, Layout, SegmentHeader};
use crate::walk::{Limits, Step, Walk};
use crate::watermark::Watermark;

pub use records::Records;

/// How often, and with which pauses, a reader looks for the watermark of a writer that is only just starting.
const WATERMARK_TRIES: usize = 50;
const WATERMARK_PAUSE: Duration = Duration::from_millis(10);

/// What to do about damage while reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDamage {
    /// Yield it as an error and end.
    #[default]
    Fail,
    /// Read around it; [`Records::damage`] lists what was passed over.
    Skip,
}

/// Says of a device whether it is wanted.
pub type DeviceFilter<'a> = Box<dyn Fn(&DeviceName) -> bool + 'a>;

/// What to read.
#[derive(Default)]
pub struct Scan<'a> {
    /// Only batches with events in these positions, and the other records of their blocks. Batches are yielded whole.
    pub positions: Option<Range<u64>>,
    /// Only records of devices for which this holds.
    pub devices: Option<DeviceFilter<'a>>,
    /// What to do about damage.
    pub on_damage: OnDamage,
}

impl fmt::Debug for Scan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("positions", &self.positions)
            .field("on_damage", &self.on_damage)
            .finish()
    }
}

/// [`DirectoryFile::open`] or [`DirectoryFile::open_whole`].
type OpenDirectory = fn(&dyn Disk, &Layout, &SegmentHeader) -> Result<Option<DirectoryFile>, LogError>;

/// A view of the log as it was when it was opened.
pub struct LogReader {
    disk: Arc<dyn Disk>,
    layout: Layout,
    segments: Segments,
    /// Where the view ends.
    end: Point,
}

/// A place between two blocks of the log.
#[derive(Debug, Clone, Copy)]
struct Point {
    /// The number of the block behind it.
    block: u64,
    /// The position of the first event behind it.
    position: u64,
}

impl Point {
    /// Where a segment begins.
    fn start_of(header: &SegmentHeader) -> Self {
        Self { block: header.first_block, position: header.first_position }
    }
}

/// The segments of a log.
#[derive(Debug, Clone, Default)]
struct Segments {
    /// Those that count, oldest first.
    headers: Vec<SegmentHeader>,
    /// Those whose headers cannot be read, and what is missing.
    damage: Vec<Damage>,
}

impl LogReader {
    /// Opens the log in the data directory `data`: up to what the running writer has published, or, without a
    /// writer, up to the last whole block. A directory without a log is an empty log.
    pub fn open(disk: Arc<dyn Disk>, data: &Path) -> Result<Self, LogError> {
        let layout = Layout::new(data);
        // In this order: what the watermark tells of is in the segments listed after it was read.
        let published = published(&*disk, &layout)?;
        let segments = Segments::read(&*disk, &layout)?;
        let end = match published {
            Some(mark) => Point { block: mark.next_block, position: mark.position },
            None => last_whole_block(&*disk, &layout, &segments)?,
        };
        Ok(Self { disk, layout, segments, end })
    }

    /// The positions this view holds.
    #[must_use]
    pub fn positions(&self) -> Range<u64> {
        let start = self.segments.headers.first().map_or(self.end.position, |header| header.first_position);
        start.min(self.end.position)..self.end.position
    }

    /// Reads records in position order, in constant memory.
    #[must_use]
    pub fn scan<'a>(&'a self, scan: Scan<'a>) -> Records<'a> {
        Records::new(self, scan, 0..usize::MAX)
    }

    /// Tells every fact of the log, without reading events where a batch directory saves it.
    pub fn facts(&self, tell: &mut dyn FnMut(&Fact<'_>)) -> Result<(), LogError> {
        if let Some(damage) = self.segments.damage.first() {
            return Err(damage.clone().into());
        }
        for index in 0..self.segments.headers.len() {
            if let Some(directory) = self.directory(&self.segments, index, DirectoryFile::open_whole)? {
                if let Some(damage) = directory.damage().first() {
                    return Err(damage.clone().into());
                }
                directory.facts(tell)?;
                continue;
            }
            for record in Records::new(self, Scan::default(), index..index + 1) {
                tell(&record?.fact());
            }
        }
        Ok(())
    }

    /// The batch directory of a finished segment, if it is there and whole.
    fn directory(
        &self,
        segments: &Segments,
        index: usize,
        open: OpenDirectory,
    ) -> Result<Option<DirectoryFile>, LogError> {
        let Some([header, next]) = segments.headers.get(index..index + 2) else { return Ok(None) };
        let directory = open(&*self.disk, &self.layout, header)?;
        Ok(directory.filter(|directory| {
            let end = directory.extent.blocks.end;
            end == next.first_block && end <= self.end.block
        }))
    }

    /// What counts in a segment.
    fn limits(&self, segments: &Segments, index: usize) -> Limits {
        match segments.headers.get(index + 1) {
            Some(next) if next.first_block <= self.end.block => Limits::up_to(next),
            _ => Limits::exactly(self.end.block, self.end.position),
        }
    }
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader")
            .field("layout", &self.layout)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Segments {
    fn read(disk: &dyn Disk, layout: &Layout) -> Result<Self, LogError> {
        let numbers = match segment::list(disk, layout) {
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
            numbers => numbers?,
        };
        let mut segments = Self::default();
        for number in numbers {
            match segment::read_header(disk, layout, number) {
                Ok(header) => {
                    segments.headers.pop_if(|last| last.first_block >= header.first_block);
                    segments.headers.push(header);
                }
                Err(LogError::Damaged(damage)) => segments.damage.push(*damage),
                // Recovery has just removed one that does not count any more.
                Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        segments.damage.extend(segments.headers.first().and_then(|first| first.missing_before(layout)));
        Ok(segments)
    }
}

/// What the running writer has published; `None` if no writer runs.
fn published(disk: &dyn Disk, layout: &Layout) -> Result<Option<Watermark>, LogError> {
    let lock = layout.lock();
    for _ in 0..WATERMARK_TRIES {
        if !disk.is_locked(&lock).map_err(LogError::io("look at the lock", &lock))? {
            return Ok(None);
        }
        if let Some(mark) = Watermark::read(disk, layout) {
            return Ok(Some(mark));
        }
        thread::sleep(WATERMARK_PAUSE);
    }
    let what = "a writer runs but has published nothing yet; try again when it is ready".to_owned();
    Err(LogError::Foreign { file: layout.watermark(), what })
}

/// Where the log ends when nobody writes to it.
fn last_whole_block(disk: &dyn Disk, layout: &Layout, segments: &Segments) -> Result<Point, LogError> {
    let mark = Watermark::read(disk, layout);
    let Some(newest) = segments.headers.last() else {
        return Ok(mark.map_or(Point { block: 0, position: 0 }, |m| Point {
            block: m.next_block,
            position: m.position,
        }));
    };
    let limits = Limits::of_newest(newest, mark.as_ref());
    let mut walk = Walk::open(disk, layout, newest, limits)?;
    let mut last = None;
    loop {
        match walk.next_header()? {
            Step::Block(header) => last = Some((walk.before.clone(), header)),
            Step::Damage(_) => last = None,
            Step::End => break,
        }
    }
    let mut end = Point { block: walk.at.block, position: walk.at.position };
    if let Some((place, header)) = last.filter(|(place, _)| place.block >= limits.durable) {
        let read = BlockReader::new().read(&*walk.file, place.offset, header);
        if read.map_err(LogError::io("read", &walk.path))?.is_err() {
            end = Point { block: place.block, position: place.position };
        }
    }
    Ok(end)
}
