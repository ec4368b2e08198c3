//! Reading the log, beside a running writer or without one.

mod follow;
mod lost;
mod part;
mod records;
mod scan;
mod segments;
mod terms;
mod verify;

use std::fmt;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use icecore_wire::{DeviceName, Schema};

use crate::block::BlockReader;
use crate::directory::{ActiveDirectory, DirectoryFile};
use crate::disk::Disk;
use crate::error::{Damage, LogError};
use crate::manifest::{self, Child, CurrentSegment, History, Manifest, SealedPart};
use crate::record::{Fact, Source};
use crate::sealed::{Footers, SchemaFilter, SealedSegment};
use crate::sealed_store::{Elsewhere, SealedStore};
use crate::segment::{self, Layout, SegmentHeader};
use crate::segment_id::SegmentId;
use crate::walk::{Limits, Step, Walk};
use crate::watermark::Watermark;

pub use follow::{Followed, Follower};
pub use lost::LostEvents;
pub use records::{Reads, Records};
pub use segments::{OpenSegment, SealedSegments};

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

/// What to do about sealed segments that are neither here nor [elsewhere](LogReader::with_elsewhere), or cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnAbsent {
    /// Yield the error and end; [`LogError::Absent`] where a segment is nowhere.
    #[default]
    Fail,
    /// Read what is here; [`Records::take_absent`] tells what was passed over.
    Skip,
}

/// A sealed segment that was passed over.
#[derive(Debug)]
pub struct AbsentSegment {
    /// Its name.
    pub id: SegmentId,
    /// What its manifest knows of it.
    pub child: Child,
    /// [`LogError::Absent`], or why it could not be opened.
    pub why: LogError,
}

/// Says of a device whether it is wanted.
pub type DeviceFilter<'a> = Box<dyn Fn(&DeviceName) -> bool + 'a>;

/// What to read.
#[derive(Default)]
pub struct Scan<'a> {
    /// Only batches with events in these positions, and the other records of their blocks; of what is sealed, the other
    /// records that stand at these positions. Batches are yielded whole.
    pub positions: Option<Range<u64>>,
    /// Only records of devices for which this holds.
    pub devices: Option<DeviceFilter<'a>>,
    /// Only batches: what has no events is not looked up.
    pub batches_only: bool,
    /// Only batches of schemas for which this holds.
    pub schemas: Option<SchemaFilter<'a>>,
    /// Leaves out the batches of which it is known without reading them that they have no events at these event times,
    /// nanoseconds since the Unix epoch; others may remain.
    pub times: Option<RangeInclusive<i64>>,
    /// Only what was received by this time, nanoseconds since the Unix epoch. Received times never step back, so nothing behind it is
    /// read.
    pub known_at: Option<i64>,
    /// What to do about damage.
    pub on_damage: OnDamage,
    /// What to do about sealed segments that are not here.
    pub on_absent: OnAbsent,
}

impl fmt::Debug for Scan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("positions", &self.positions)
            .field("times", &self.times)
            .field("known_at", &self.known_at)
            .field("on_damage", &self.on_damage)
            .field("on_absent", &self.on_absent)
            .finish()
    }
}

/// [`DirectoryFile::open`] or [`DirectoryFile::open_whole`].
type OpenDirectory = fn(&dyn Disk, &Layout, &SegmentHeader) -> Result<Option<DirectoryFile>, LogError>;

/// A view of the log as it was when it was opened. A clone is the same view.
#[derive(Clone)]
pub struct LogReader {
    store: SealedStore,
    segments: Segments,
    /// Where the view ends.
    end: Point,
    /// Of the writer, where that is in this process.
    active: Option<ActiveDirectory>,
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

    /// Where a sealed part begins and ends.
    fn of_part(part: &SealedPart) -> Range<Self> {
        let Manifest { blocks, positions, .. } = &*part.manifest;
        Self { block: blocks.start, position: positions.start }..Self {
            block: blocks.end,
            position: positions.end,
        }
    }
}

/// The segments of a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Segments {
    manifests: Vec<Arc<Manifest>>,
    /// What was sealed, oldest first.
    sealed: Vec<SealedPart>,
    /// The hot segments that count, oldest first.
    pub(crate) headers: Vec<SegmentHeader>,
    /// What of all that cannot be read.
    damage: Vec<Damage>,
    /// What is missing where the hot log begins.
    missing: Option<Damage>,
}

impl LogReader {
    /// Opens the log in the data directory `data`: up to what the running writer has published, or, without a
    /// writer, up to the last whole block. A directory without a log is an empty log.
    pub fn open(disk: Arc<dyn Disk>, data: &Path) -> Result<Self, LogError> {
        let layout = Layout::new(data);
        // In this order: what the watermark tells of is in the segments listed after it was read.
        let published = published(&*disk, &layout)?;
        let segments = Segments::read(&*disk, &layout)?;
        let mut end = match published {
            Some(mark) => Point { block: mark.next_block, position: mark.position },
            None => last_whole_block(&*disk, &layout, &segments)?,
        };
        // What was sealed is durable, though the watermark may have been older.
        if let Some(sealed) = segments.sealed.last().map(|part| Point::of_part(part).end) {
            end = if sealed.block > end.block { sealed } else { end };
        }
        Ok(Self { store: SealedStore::local(disk, layout), segments, end, active: None })
    }

    /// Reads sealed segments that have no local file from where `elsewhere` says.
    #[must_use]
    pub fn with_elsewhere(self, elsewhere: Arc<Elsewhere>) -> Self {
        Self { store: self.store.with_elsewhere(elsewhere), ..self }
    }

    /// Keeps the footers of sealed segments in `footers`, and takes them from there.
    #[must_use]
    pub fn with_footers(self, footers: Arc<Footers>) -> Self {
        Self { store: self.store.with_footers(footers), ..self }
    }

    /// Of the segment that is being written, reads only what is needed, by what its writer knows of it.
    #[must_use]
    pub fn with_active(self, active: ActiveDirectory) -> Self {
        Self { active: Some(active), ..self }
    }

    /// The manifests of this view that can be read, oldest first.
    #[must_use]
    pub fn manifests(&self) -> &[Arc<Manifest>] {
        &self.segments.manifests
    }

    /// The sealed segments of this view that count, oldest first: children of manifests that were not split.
    pub fn sealed(&self) -> impl Iterator<Item = (SegmentId, &Child)> {
        self.segments
            .sealed
            .iter()
            .flat_map(|part| &part.segments)
            .map(|segment| (segment.id, &segment.child))
    }

    /// Opens a sealed segment of this view that counts.
    ///
    /// # Errors
    /// [`LogError::Absent`] if it is neither here nor elsewhere; or when it cannot be read.
    pub fn open_sealed(&self, id: SegmentId) -> Result<SealedSegment, LogError> {
        self.store.open(self.current(id)?)
    }

    /// Opens what is here of a sealed segment of this view that counts: whether or not its pages are, its footer can be looked at.
    ///
    /// # Errors
    /// [`LogError::Absent`] or [`LogError::Forgotten`] if nothing of it is here; or when it cannot be read.
    pub fn open_footer(&self, id: SegmentId) -> Result<SealedSegment, LogError> {
        self.store.open_for_lookup(self.current(id)?)
    }

    /// Whether the file of a sealed segment is in the data directory.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn is_here(&self, id: SegmentId) -> Result<bool, LogError> {
        self.store.is_here(id)
    }

    /// Whether a sealed segment of this view still counts: since the view was opened, it may have been split.
    ///
    /// # Errors
    /// When the manifests cannot be read.
    pub fn still_counts(&self, id: SegmentId) -> Result<bool, LogError> {
        let SealedStore { disk, layout, .. } = &self.store;
        Ok(History::read(&**disk, layout)?.find(id).is_ok())
    }

    fn current(&self, id: SegmentId) -> Result<&CurrentSegment, LogError> {
        let mut all = self.segments.sealed.iter().flat_map(|part| &part.segments);
        all.find(|segment| segment.id == id).ok_or(LogError::Absent { id, positions: 0..0 })
    }

    /// Events before this position are sealed: the payloads of their batches may have been made anew, of the same rows.
    #[must_use]
    pub fn sealed_to(&self) -> u64 {
        self.segments.manifests.last().map_or(0, |newest| newest.positions.end)
    }

    /// The positions this view holds.
    #[must_use]
    pub fn positions(&self) -> Range<u64> {
        let sealed = self.segments.sealed.first().map(|part| part.manifest.positions.start);
        let hot = || self.segments.headers.first().map(|header| header.first_position);
        let start = sealed.or_else(hot).unwrap_or(self.end.position);
        start.min(self.end.position)..self.end.position
    }

    /// The number of the block behind this view.
    #[must_use]
    pub fn next_block(&self) -> u64 {
        self.end.block
    }

    /// The log's hash chain before a block: what [`LogPoint::chain`](crate::LogPoint::chain) is there. `None` where it cannot be
    /// told any more: because the block was sealed, is damaged or beyond the end, or because a recovery has written the block before
    /// it again, which then has the nonce of another segment and so another hash.
    pub fn chain_before(&self, block: u64) -> Result<Option<[u8; 32]>, LogError> {
        let ends_there = |manifest: &&Arc<Manifest>| manifest.blocks.end == block;
        if let Some(manifest) = self.segments.manifests.iter().rev().find(ends_there) {
            return Ok(Some(manifest.chain));
        }
        let headers = &self.segments.headers;
        let index = headers.partition_point(|header| header.first_block <= block).checked_sub(1);
        let Some(index) = index.filter(|_| block <= self.end.block) else { return Ok(None) };
        // A segment may begin with the block, or have the copy of the block before it as its first.
        let is_behind_copy =
            |header: &SegmentHeader| header.begins_with_copy && block == header.first_block + 1;
        if is_behind_copy(&headers[index])
            || index.checked_sub(1).is_some_and(|before| is_behind_copy(&headers[before]))
        {
            return Ok(None);
        }
        let limits = self.limits(&self.segments, index);
        let mut walk = Walk::open(&*self.store.disk, &self.store.layout, &headers[index], limits)?;
        while walk.at.block < block {
            if !matches!(walk.next_header()?, Step::Block(_)) {
                return Ok(None);
            }
        }
        Ok(walk.at.chain)
    }

    /// The id of the log; `None` of an empty directory.
    #[must_use]
    pub fn log(&self) -> Option<[u8; 16]> {
        let sealed = self.segments.manifests.first().map(|manifest| manifest.log);
        sealed.or_else(|| Some(self.segments.headers.first()?.log))
    }

    /// Reads records in position order, in constant memory.
    #[must_use]
    pub fn scan<'a>(&'a self, scan: Scan<'a>) -> Records<'a> {
        Records::new(self, scan)
    }

    /// Tells every fact of the log, without reading events where a manifest or a batch directory saves it. What was lost
    /// before it was sealed is on record in [`LogReader::manifests`], and is no error here: nothing is said of it.
    pub fn facts(&self, tell: &mut dyn FnMut(&Fact<'_>)) -> Result<(), LogError> {
        if let Some(damage) = self.segments.damage().next() {
            return Err(damage.clone().into());
        }
        for part in &self.segments.sealed {
            let SealedStore { disk, layout, .. } = &self.store;
            manifest::read_facts(&**disk, layout, part.manifest.number)?.tell(tell);
        }
        for index in 0..self.segments.headers.len() {
            if let Some(directory) = self.directory(&self.segments, index, DirectoryFile::open_whole)? {
                if let Some(damage) = directory.damage().first() {
                    return Err(damage.clone().into());
                }
                directory.facts(tell)?;
                continue;
            }
            for record in Records::of_hot_segment(self, index) {
                tell(&record?.fact());
            }
        }
        Ok(())
    }

    /// Tells the devices whose batches a manifest sealed, with the schemas of each: all that is known of what is in its segments
    /// where these cannot be read.
    ///
    /// # Errors
    /// When there is no such manifest, or it is damaged.
    pub fn sealed_sources(
        &self,
        manifest: u64,
        tell: &mut dyn FnMut(&Source, &Schema),
    ) -> Result<(), LogError> {
        let SealedStore { disk, layout, .. } = &self.store;
        manifest::read_facts(&**disk, layout, manifest)?.tell(&mut |fact| {
            if let Fact::Schema { source, schema } = fact {
                tell(source, schema);
            }
        });
        // A split has what it replaced.
        let known = self.manifests().iter().find(|known| known.number == manifest);
        for replaced in known.iter().flat_map(|known| known.replaced()) {
            self.sealed_sources(replaced.manifest, tell)?;
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
        let directory = open(&*self.store.disk, &self.store.layout, header)?;
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
            .field("store", &self.store)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Segments {
    pub(crate) fn read(disk: &dyn Disk, layout: &Layout) -> Result<Self, LogError> {
        // In this order: what was sealed and removed after it was listed is found among the sealed.
        let numbers = match segment::list(disk, layout) {
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
            numbers => numbers?,
        };
        let mut headers = Vec::new();
        for number in numbers {
            match segment::read_header(disk, layout, number) {
                Ok(header) => headers.push((number, Ok(header))),
                Err(LogError::Damaged(damage)) => headers.push((number, Err(*damage))),
                // A seal or a recovery has just removed it.
                Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let history = History::read(disk, layout)?;
        let sealed = history.end();
        let mut segments = Self {
            sealed: history.parts(),
            manifests: history.manifests,
            damage: history.damage,
            ..Self::default()
        };
        let hot = headers.into_iter().filter(|(number, _)| Some(*number) > sealed.map(|end| end.hot_segment));
        for (_, header) in hot {
            match header {
                Ok(header) => {
                    segments.headers.pop_if(|last| last.first_block >= header.first_block);
                    segments.headers.push(header);
                }
                Err(damage) => segments.damage.push(damage),
            }
        }
        let first = segments.headers.first();
        segments.missing = first.and_then(|first| first.missing_before(layout, sealed.as_ref()));
        Ok(segments)
    }

    /// What cannot be read, and what is missing.
    pub(crate) fn damage(&self) -> impl Iterator<Item = &Damage> {
        self.damage.iter().chain(&self.missing)
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
