//! Opening a log for writing: recovery.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::appender::{Appender, Start};
use crate::block::{Chain, Encoder};
use crate::committer::{ActiveSegment, Committer, CommitterParts, Progress};
use crate::directory::{DirectoryFile, Extent, SealedRanges, StoredDirectories};
use crate::disk::{Access, Disk, DiskLock};
use crate::error::{Damage, LogError};
use crate::log_id;
use crate::manifest::{self, History, SealedEnd};
use crate::mutants::{Mutant, planted};
use crate::record::Fact;
use crate::recovery::{ScannedSegment, Tail, rebuild_directory, scan_segment, write_directory};
use crate::seal::{self, Leftovers};
use crate::sealed_store::SealedStore;
use crate::segment::{self, Layout, LogId, SegmentHeader};
use crate::walk::Limits;
use crate::watermark::Watermark;

/// Recovery writes one block again, at this level of compression.
const COPY_LEVEL: i32 = 1;

/// How a log is written.
#[derive(Debug, Clone)]
pub struct Options {
    /// A segment that has reached this many bytes is followed by a new one.
    pub segment_bytes: u64,
    /// A segment this old is followed by a new one.
    pub segment_age: Duration,
    /// A block with this many bytes of records is full. One batch may go beyond it.
    pub block_bytes: usize,
    /// Facts of blocks before this one are known, and need not be told. They may be all the same, where they are read anyway.
    pub known_to: u64,
    /// Names of damage ([`Damage::name`]) the operator has accepted: they do not keep the log from opening.
    pub accept_damage: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            segment_age: Duration::from_secs(3600),
            block_bytes: 1 << 20,
            known_to: 0,
            accept_damage: Vec::new(),
        }
    }
}

/// What recovery found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The position the next event gets.
    pub position: u64,
    /// The number the next block gets.
    pub block: u64,
    /// How many times this log was opened for writing before.
    pub term: u64,
    /// The newest received time in the log, in nanoseconds since the Unix epoch; `i64::MIN` if it has no blocks.
    pub received: i64,
    /// An unfinished write at the end that was set aside.
    pub torn: Option<TornTail>,
    /// Damage that was passed over because the operator accepted it.
    pub accepted: Vec<Damage>,
    /// Facts told.
    pub facts: u64,
}

/// Bytes at the end of the newest segment that are no whole block: a write that was never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Where they began in it.
    pub offset: u64,
    /// How many they are.
    pub bytes: u64,
    /// Where they are kept.
    pub kept_at: PathBuf,
}

/// The log as its one writer opens it.
#[derive(Debug)]
pub struct HotLog;

impl HotLog {
    /// Opens the log in the data directory `data`, creating it where there is none: takes its lock, recovers, tells
    /// every fact in it to `fold`, and starts a new segment. `now` is in nanoseconds since the Unix epoch.
    ///
    /// Damage is an error until [`Options::accept_damage`] names it; a torn tail is not damage. Opening may be cut
    /// short at any point and begun again.
    pub fn open(
        disk: Arc<dyn Disk>,
        data: &Path,
        options: Options,
        now: i64,
        fold: &mut dyn FnMut(&Fact<'_>),
    ) -> Result<(Appender, Committer, Recovery), LogError> {
        let layout = Layout::new(data);
        create_directories(&*disk, &layout)?;
        let lock = disk.lock(&layout.lock()).map_err(LogError::io("lock", &layout.lock()))?;
        let lock = lock.ok_or_else(|| LogError::Locked { file: layout.lock() })?;

        let mut opening = Opening::new(disk, layout, options)?;
        let tail = opening.read_segments(fold)?;
        let torn = opening.keep_torn(tail.as_ref())?;
        opening.start(tail, torn, lock, now)
    }
}

/// A log on its way to being open.
struct Opening {
    disk: Arc<dyn Disk>,
    layout: Layout,
    options: Options,
    log: LogId,
    watermark: Option<Watermark>,
    /// The sealed part of the log.
    history: History,
    ranges: SealedRanges,
    sealed: Option<SealedEnd>,
    /// The hot segments that count, oldest first.
    segments: Vec<SegmentHeader>,
    /// Segments of which no block counts any more.
    superseded: Vec<u64>,
    /// The number of the newest segment file, readable or not.
    newest_number: Option<u64>,
    accepted: Vec<Damage>,
    facts: u64,
    /// The newest received time.
    received: i64,
}

impl Opening {
    fn new(disk: Arc<dyn Disk>, layout: Layout, options: Options) -> Result<Self, LogError> {
        for dir in [&layout.hot, &layout.sealed, &layout.manifests] {
            remove_unfinished(&*disk, dir)?;
        }
        let history = History::read(&*disk, &layout)?;
        let sealed = history.end();
        let mut opening = Self {
            disk,
            layout,
            options,
            log: LogId::default(),
            watermark: None,
            newest_number: sealed.map(|end| end.hot_segment),
            sealed,
            history,
            ranges: SealedRanges::default(),
            segments: Vec::new(),
            superseded: Vec::new(),
            accepted: Vec::new(),
            facts: 0,
            received: i64::MIN,
        };
        opening.accept(opening.history.damage.clone())?;
        opening.read_headers()?;
        let known = opening.history.log().or_else(|| Some(opening.segments.first()?.log));
        opening.log = log_id::load_or_create(&*opening.disk, &opening.layout, known)?;
        let log = opening.log;
        opening.watermark =
            Watermark::read_or_tell(&*opening.disk, &opening.layout).filter(|mark| mark.log == log);
        Ok(opening)
    }

    fn read_headers(&mut self) -> Result<(), LogError> {
        let sealed = self.sealed.map(|end| end.hot_segment);
        for number in segment::list(&*self.disk, &self.layout)? {
            if Some(number) <= sealed {
                continue;
            }
            self.newest_number = Some(number);
            match segment::read_header(&*self.disk, &self.layout, number) {
                Ok(header) => self.add_header(header),
                Err(LogError::Damaged(damage)) => self.accept(vec![*damage])?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn add_header(&mut self, header: SegmentHeader) {
        let superseded = self.segments.pop_if(|last| last.first_block >= header.first_block);
        self.superseded.extend(superseded.map(|header| header.number));
        self.segments.push(header);
    }

    /// Goes on past damage the operator has accepted by name; otherwise reports the first that is not.
    fn accept(&mut self, damage: Vec<Damage>) -> Result<(), LogError> {
        for damage in damage {
            if !self.options.accept_damage.iter().any(|name| damage.is_named(name)) {
                return Err(damage.into());
            }
            tracing::warn!(%damage, "going on past damage that was accepted");
            self.accepted.push(damage);
        }
        Ok(())
    }

    /// Reads what was sealed by the manifests, finished segments by their directories, and the newest segment, which it
    /// returns.
    fn read_segments(&mut self, fold: &mut dyn FnMut(&Fact<'_>)) -> Result<Option<ScannedSegment>, LogError> {
        for manifest in self.history.manifests.clone() {
            self.received = self.received.max(manifest.received);
            if manifest.blocks.end <= self.options.known_to {
                continue;
            }
            match manifest::read_facts(&*self.disk, &self.layout, manifest.number) {
                Ok(facts) => {
                    self.facts += facts.tell(fold);
                    self.ranges.learn(manifest.number, &facts);
                }
                Err(LogError::Damaged(damage)) => self.accept(vec![*damage])?,
                Err(error) => return Err(error),
            }
        }
        let segments = self.segments.clone();
        let missing = |first: &SegmentHeader| first.missing_before(&self.layout, self.sealed.as_ref());
        if let Some(damage) = segments.first().and_then(missing) {
            self.accept(vec![damage])?;
        }
        for pair in segments.windows(2) {
            self.read_finished(&pair[0], &pair[1], fold)?;
        }
        let Some(newest) = segments.last() else {
            self.check_nothing_lost()?;
            return Ok(None);
        };
        let disk = Arc::clone(&self.disk);
        let tail = if planted(Mutant::TrustPageCache) { Tail::Proven } else { Tail::Unproven };
        let limits = Limits::of_newest(newest, self.watermark.as_ref());
        let scanned = scan_segment(&*disk, &self.layout, newest, limits, tail, fold)?;
        self.accept(scanned.damage.clone())?;
        self.facts += scanned.facts;
        self.received = self.received.max(scanned.extent.received);
        Ok(Some(scanned))
    }

    fn read_finished(
        &mut self,
        header: &SegmentHeader,
        next: &SegmentHeader,
        fold: &mut dyn FnMut(&Fact<'_>),
    ) -> Result<(), LogError> {
        let disk = Arc::clone(&self.disk);
        let directory = DirectoryFile::open_whole(&*disk, &self.layout, header)?.filter(|directory| {
            let Extent { blocks, positions, .. } = &directory.extent;
            // Where there was damage, the segment may have been restored since.
            directory.damage().is_empty()
                && (blocks.end, positions.end) == (next.first_block, next.first_position)
        });
        let directory = match directory {
            Some(directory) => directory,
            None => rebuild_directory(&*disk, &self.layout, header)?,
        };
        self.accept(directory.damage().to_vec())?;
        let Extent { chain, end, received, .. } = directory.extent;
        let len = self.trim(header.number, end)?;
        if len < end {
            let what = format!("the segment is cut short: its blocks end at {end}");
            let damage =
                Damage { file: self.layout.segment(header.number), offset: len, what, positions: None };
            self.accept(vec![damage])?;
        }
        if directory.damage().is_empty() && chain != next.chain {
            let file = self.layout.segment(next.number);
            let what = "the segment does not continue the hash chain of the one before it".to_owned();
            self.accept(vec![Damage { file, offset: 0, what, positions: None }])?;
        }
        if directory.extent.blocks.end > self.options.known_to {
            self.facts += directory.facts(fold)?;
        }
        self.received = self.received.max(received);
        Ok(())
    }

    fn check_nothing_lost(&mut self) -> Result<(), LogError> {
        let (block, position) = self.sealed.map_or((0, 0), |end| (end.block, end.position));
        let Some(mark) = self.watermark.filter(|mark| mark.next_block > block) else { return Ok(()) };
        let file = self.layout.segment(mark.segment);
        let what = "the segment is missing, and all others with it".to_owned();
        self.accept(vec![Damage { file, offset: 0, what, positions: Some(position..mark.position) }])
    }

    /// Keeps what an unfinished write has left at the end.
    fn keep_torn(&self, tail: Option<&ScannedSegment>) -> Result<Option<TornTail>, LogError> {
        let Some((number, range)) = tail.and_then(|tail| Some((tail.extent.segment, tail.torn.clone()?)))
        else {
            return Ok(None);
        };
        let file = self.layout.segment(number);
        let kept_at = self.layout.torn.join(format!("{number:020}-{}.torn", range.start));
        let from = self.disk.open(&file, Access::Read).map_err(LogError::io("open", &file))?;
        let to = self.disk.open(&kept_at, Access::Truncate).map_err(LogError::io("create", &kept_at))?;
        let mut buffer = vec![0; (range.end - range.start).min(1 << 20) as usize];
        let mut at = range.start;
        while at < range.end {
            let step = (range.end - at).min(buffer.len() as u64) as usize;
            let len = from.read_at(&mut buffer[..step], at).map_err(LogError::io("read", &file))?;
            to.write_at(&buffer[..len], at - range.start).map_err(LogError::io("write", &kept_at))?;
            at += step as u64;
        }
        to.sync().map_err(LogError::io("sync", &kept_at))?;
        self.disk.sync_dir(&self.layout.torn).map_err(LogError::io("sync", &self.layout.torn))?;
        let bytes = range.end - range.start;
        tracing::warn!(file = %file.display(), offset = range.start, bytes, kept_at = %kept_at.display(),
            "an unfinished write at the end of the log was set aside; nothing in it was acknowledged");
        Ok(Some(TornTail { file, offset: range.start, bytes, kept_at }))
    }

    /// Starts a new segment, with the unproven block as its first, and only then lets go of what it replaces.
    fn start(
        mut self,
        mut tail: Option<ScannedSegment>,
        torn: Option<TornTail>,
        lock: DiskLock,
        now: i64,
    ) -> Result<(Appender, Committer, Recovery), LogError> {
        let unproven = tail.as_mut().and_then(|tail| tail.unproven.take());
        let header = self.next_header(tail.as_ref(), unproven.is_some(), now);
        let progress = Progress::new(header.number);
        let mut appender = self.appender(&header, tail.as_ref(), &progress, now);
        let mut copy = unproven.map(|block| {
            block.records.into_iter().for_each(|record| appender.copy(record));
            Encoder::new().encode(appender.finish(block.received), COPY_LEVEL)
        });
        let segment_bytes = self.options.segment_bytes;
        let term = header.term;
        let segment = ActiveSegment::create(&*self.disk, &self.layout, header, segment_bytes, copy.as_mut())?;

        if let Some(tail) = tail {
            self.finish_tail(tail)?;
        }
        self.remove_superseded()?;
        // Where something is missing, what looks like a leftover may be all that is left.
        let leftovers = if self.accepted.is_empty() { Leftovers::Remove } else { Leftovers::Keep };
        seal::finish_interrupted(&*self.disk, &self.layout, &mut self.history, leftovers)?;
        let Self { disk, layout, options, accepted, facts, history, .. } = self;
        progress.seals.begin(history);
        let recovery = Recovery {
            position: appender.position(),
            block: appender.block(),
            term,
            received: appender.received(),
            torn,
            accepted,
            facts,
        };
        let parts = CommitterParts { disk, layout, options, progress, segment, lock };
        Ok((appender, Committer::new(parts)?, recovery))
    }

    fn next_header(&self, tail: Option<&ScannedSegment>, begins_with_copy: bool, now: i64) -> SegmentHeader {
        let terms = self.segments.iter().map(|header| header.term);
        let older = self.watermark.map(|mark| mark.term).into_iter().chain(self.sealed.map(|end| end.term));
        let term = terms.chain(older).max();
        let (block, position, chain) =
            self.sealed.map_or((0, 0, Chain::default()), |end| (end.block, end.position, end.chain));
        let (first_block, first_position, chain) = match (tail, self.watermark) {
            (Some(tail), _) => (tail.extent.blocks.end, tail.extent.positions.end, tail.extent.chain),
            (None, Some(mark)) if mark.next_block > block => {
                (mark.next_block, mark.position, Chain::default())
            }
            (None, _) => (block, position, chain),
        };
        SegmentHeader {
            log: self.log,
            number: self.newest_number.map_or(0, |number| number + 1),
            nonce: self.disk.random(),
            term: term.map_or(0, |term| term + 1),
            first_block,
            first_position,
            chain,
            created: now.max(self.received),
            begins_with_copy,
        }
    }

    fn appender(
        &mut self,
        header: &SegmentHeader,
        tail: Option<&ScannedSegment>,
        progress: &Arc<Progress>,
        now: i64,
    ) -> Appender {
        let keeps_tail = tail.is_some_and(|tail| !tail.extent.blocks.is_empty());
        let kept = self.segments.len() - usize::from(tail.is_some() && !keeps_tail);
        let finished = self.segments[..kept].iter().map(|header| header.number);
        let mut sealed = std::mem::take(&mut self.ranges);
        sealed.add_parts(self.history.parts());
        let store = SealedStore::local(Arc::clone(&self.disk), self.layout.clone());
        let mut stored = StoredDirectories::new(store, sealed);
        finished.for_each(|number| stored.add(number));
        let start = Start {
            segment: header.number,
            block: header.first_block,
            position: header.first_position,
            received: self.received,
            now,
        };
        Appender::new(self.options.clone(), &start, Arc::clone(progress), stored)
    }

    /// The tail is followed by a durable segment now.
    fn finish_tail(&mut self, tail: ScannedSegment) -> Result<(), LogError> {
        let Extent { segment, end, ref blocks, .. } = tail.extent;
        if blocks.is_empty() {
            self.superseded.push(segment);
            return Ok(());
        }
        write_directory(&*self.disk, &self.layout, tail)?;
        self.trim(segment, end)?;
        Ok(())
    }

    /// Gives back what a segment does not use behind its last block. Returns its length before.
    fn trim(&self, number: u64, end: u64) -> Result<u64, LogError> {
        let path = self.layout.segment(number);
        let file = self.disk.open(&path, Access::Write).map_err(LogError::io("open", &path))?;
        let len = file.len().map_err(LogError::io("read the length of", &path))?;
        if len > end {
            file.set_len(end).map_err(LogError::io("cut", &path))?;
        }
        Ok(len)
    }

    fn remove_superseded(&self) -> Result<(), LogError> {
        for number in &self.superseded {
            let path = self.layout.segment(*number);
            self.disk.remove(&path).map_err(LogError::io("remove", &path))?;
        }
        Ok(())
    }
}

fn create_directories(disk: &dyn Disk, layout: &Layout) -> Result<(), LogError> {
    for dir in [&layout.data, &layout.hot, &layout.torn, &layout.sealed, &layout.manifests] {
        disk.create_dir(dir).map_err(LogError::io("create", dir))?;
    }
    disk.sync_dir(&layout.data).map_err(LogError::io("sync", &layout.data))?;
    match layout.data.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => disk.sync_dir(parent).map_err(LogError::io("sync", parent)),
        None => Ok(()),
    }
}

/// Removes files that a crash has left unfinished.
fn remove_unfinished(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    for name in disk.list(dir).map_err(LogError::io("list", dir))? {
        if name.ends_with(".tmp") {
            let path = dir.join(name);
            disk.remove(&path).map_err(LogError::io("remove", &path))?;
        }
    }
    Ok(())
}
