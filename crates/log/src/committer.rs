//! The back half of the log: writes blocks in order and makes them durable.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;

use crate::block::{Chain, EncodedBlock};
use crate::directory::{Directory, DirectoryFile, Extent};
use crate::disk::{Access, Disk, DiskFile, DiskLock};
use crate::error::{CommitError, LogError};
use crate::mutants::{Mutant, planted};
use crate::open::Options;
use crate::seal::{Sealer, Seals};
use crate::sealed_store::SealedStore;
use crate::segment::{Layout, SEGMENT_HEADER_BYTES, SegmentHeader, unfinished};
use crate::watermark::{Watermark, WatermarkFile};

/// Space is reserved in steps of this many bytes: few enough calls, and a small log takes no more.
const RESERVE_STEP: u64 = 32 << 20;

/// A block that is durable now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The block's number.
    pub block: u64,
    /// The positions of its events.
    pub positions: Range<u64>,
    /// Bytes it takes on disk.
    pub bytes: u64,
    /// Where the log goes on behind it.
    pub end: LogPoint,
}

/// A place between two blocks of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPoint {
    /// The number of the block behind it.
    pub block: u64,
    /// The position of the first event behind it.
    pub position: u64,
    /// The log's hash chain up to it; zeros at the start, and where what is before it is lost.
    pub chain: [u8; 32],
}

/// What the back half tells the front half.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The last segment that has reached its size.
    pub(crate) full_segment: AtomicU64,
    /// The segment up to which directories are on disk, itself not included. Newer ones are looked up in memory.
    pub(crate) written_directories: AtomicU64,
    pub(crate) seals: Seals,
}

impl Progress {
    pub(crate) fn new(segment: u64) -> Arc<Self> {
        let written_directories = AtomicU64::new(segment);
        let seals = Seals::default();
        Arc::new(Self { full_segment: AtomicU64::new(u64::MAX), written_directories, seals })
    }
}

/// Writes blocks. Owned by the one thread that waits for the disk.
pub struct Committer {
    disk: Arc<dyn Disk>,
    layout: Layout,
    options: Options,
    progress: Arc<Progress>,
    watermark: WatermarkFile,
    segment: ActiveSegment,
    poisoned: bool,
    lock: Arc<DiskLock>,
    /// Whoever writes the directories of finished segments; nobody: the committer itself.
    directories: Option<SyncSender<FinishedDirectory>>,
}

/// What opening a log found out for its committer.
pub(crate) struct CommitterParts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) layout: Layout,
    pub(crate) options: Options,
    pub(crate) progress: Arc<Progress>,
    pub(crate) segment: ActiveSegment,
    pub(crate) lock: DiskLock,
}

impl Committer {
    /// Publishes what recovery made durable, and takes over.
    pub(crate) fn new(parts: CommitterParts) -> Result<Self, LogError> {
        let CommitterParts { disk, layout, options, progress, segment, lock } = parts;
        let watermark = WatermarkFile::open(&*disk, &layout)?;
        let committer = Self {
            disk,
            layout,
            options,
            progress,
            watermark,
            segment,
            poisoned: false,
            lock: Arc::new(lock),
            directories: None,
        };
        committer.publish()?;
        Ok(committer)
    }

    /// Has the directories of finished segments written by another thread, which takes them from the other end in order. A
    /// directory of a million batches takes a tenth of a second, in which nothing would be acked.
    pub fn hand_over_directories(&mut self, to: SyncSender<FinishedDirectory>) {
        self.directories = Some(to);
    }

    /// Where the log goes on: behind what is durable.
    #[must_use]
    pub fn end(&self) -> LogPoint {
        self.segment.end_point()
    }

    /// The id of the log.
    #[must_use]
    pub fn log(&self) -> [u8; 16] {
        self.segment.header.log
    }

    /// What seals the log's finished segments beside the commits. It holds the log's lock.
    #[must_use]
    pub fn sealer(&self) -> Sealer {
        Sealer::new(
            SealedStore::local(Arc::clone(&self.disk), self.layout.clone()),
            self.segment.header.log,
            self.options.accept_damage.clone(),
            Arc::clone(&self.progress),
            Arc::clone(&self.lock),
        )
    }

    /// Writes the block and returns when it is durable. Blocks come in the order of their numbers. After
    /// [`CommitError::Full`] the same block may be committed again; after any other error nothing may.
    pub fn commit(&mut self, block: &mut EncodedBlock) -> Result<Committed, CommitError> {
        if self.poisoned {
            return Err(CommitError::Poisoned);
        }
        let result = self.try_commit(block);
        self.poisoned = matches!(result, Err(CommitError::Fatal { .. }));
        result
    }

    fn try_commit(&mut self, block: &mut EncodedBlock) -> Result<Committed, CommitError> {
        if block.place.segment != self.segment.header.number {
            self.roll(block)?;
        }
        self.segment.reserve(block.stored_bytes() as u64, self.options.segment_bytes)?;
        self.segment.append(block)?;
        if self.segment.end >= self.options.segment_bytes {
            self.progress.full_segment.store(self.segment.header.number, Ordering::Release);
        }
        self.publish()?;
        let bytes = block.stored_bytes() as u64;
        let end = self.segment.end_point();
        Ok(Committed { block: block.number(), positions: block.positions(), bytes, end })
    }

    /// Starts the segment that `block` begins. May run out of space at any step and be called again.
    fn roll(&mut self, block: &EncodedBlock) -> Result<(), CommitError> {
        let old = &self.segment;
        let directory =
            block.place.finished.as_ref().expect("a block that begins a segment brings the finished one");
        assert_eq!(block.place.segment, old.header.number + 1, "segments follow one another");
        let header = SegmentHeader {
            number: block.place.segment,
            nonce: self.disk.random(),
            first_block: old.next_block,
            first_position: old.position,
            chain: old.chain,
            created: block.place.received,
            begins_with_copy: false,
            ..old.header.clone()
        };
        let segment =
            ActiveSegment::create(&*self.disk, &self.layout, header, self.options.segment_bytes, None)?;
        let old = std::mem::replace(&mut self.segment, segment);
        old.give_back()?;
        let finished = FinishedDirectory {
            disk: Arc::clone(&self.disk),
            layout: self.layout.clone(),
            extent: old.extent(),
            directory: Arc::clone(directory),
            progress: Arc::clone(&self.progress),
            _lock: Arc::clone(&self.lock),
        };
        self.write_directory(finished);
        Ok(())
    }

    /// Writes a directory or hands it over. Where that fails, it is built again when it is needed.
    fn write_directory(&self, finished: FinishedDirectory) {
        let unwritten = match &self.directories {
            // Waits while another one is being written, so that there are never many in memory.
            Some(writer) => writer.send(finished).err().map(|unsent| unsent.0),
            None => Some(finished),
        };
        if let Some(finished) = unwritten {
            finished.write();
        }
    }

    fn publish(&self) -> Result<(), CommitError> {
        let segment = &self.segment;
        let watermark = Watermark {
            log: segment.header.log,
            term: segment.header.term,
            segment: segment.header.number,
            next_block: segment.next_block,
            position: segment.position,
        };
        self.watermark.publish(&watermark).map_err(CommitError::fatal("write", &self.layout.watermark()))
    }

    /// Stops cleanly after the last block (best an empty one, so that it proves the one before it): gives reserved
    /// space back and releases the lock.
    pub fn close(self) -> Result<(), CommitError> {
        if self.poisoned {
            return Err(CommitError::Poisoned);
        }
        self.segment.give_back()?;
        self.segment.file.sync().map_err(CommitError::fatal("sync", &self.segment.path))
    }
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer").field("segment", &self.segment).finish_non_exhaustive()
    }
}

/// The directory of a finished segment, to be written beside it. It holds the log's lock, so that nobody else builds the
/// same one meanwhile.
pub struct FinishedDirectory {
    disk: Arc<dyn Disk>,
    layout: Layout,
    extent: Extent,
    directory: Arc<Directory>,
    progress: Arc<Progress>,
    _lock: Arc<DiskLock>,
}

impl fmt::Debug for FinishedDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FinishedDirectory").field("extent", &self.extent).finish_non_exhaustive()
    }
}

impl FinishedDirectory {
    /// Writes it; lookups go to the file from then on. A failure is told in the log and nothing more: the directory is derived
    /// from its segment, and built again when it is needed and not there.
    pub fn write(self) {
        let segment = self.extent.segment;
        if let Err(error) =
            DirectoryFile::write(&*self.disk, &self.layout, &self.extent, &self.directory, &[])
        {
            let file = self.layout.directory(segment);
            tracing::warn!(file = %file.display(), %error, "cannot write a batch directory; it is built again when it is needed");
        }
        self.progress.written_directories.store(segment + 1, Ordering::Release);
    }
}

/// The segment being written. Everything in it up to `end` is durable.
pub(crate) struct ActiveSegment {
    header: SegmentHeader,
    path: std::path::PathBuf,
    file: Arc<dyn DiskFile>,
    end: u64,
    reserved: u64,
    next_block: u64,
    position: u64,
    chain: Chain,
    received: i64,
}

impl ActiveSegment {
    /// Creates a segment by the book: written and synced under another name, then renamed, then the directory synced.
    /// `first` is a block that counts only together with the segment.
    pub(crate) fn create(
        disk: &dyn Disk,
        layout: &Layout,
        header: SegmentHeader,
        segment_bytes: u64,
        first: Option<&mut EncodedBlock>,
    ) -> Result<Self, CommitError> {
        let path = layout.segment(header.number);
        let unfinished = unfinished(&path);
        let file =
            disk.open(&unfinished, Access::Truncate).map_err(CommitError::io("create", &unfinished))?;
        let mut segment = Self {
            path: unfinished.clone(),
            file,
            end: 0,
            reserved: 0,
            next_block: header.first_block,
            position: header.first_position,
            chain: header.chain,
            received: header.created,
            header,
        };
        if let Err(error) = segment.begin(first, segment_bytes) {
            // Give the space back; if even that fails, the next attempt or recovery truncates the file.
            let _ = disk.remove(&unfinished);
            return Err(error);
        }
        disk.rename(&unfinished, &path).map_err(CommitError::io("rename", &unfinished))?;
        if !planted(Mutant::DirectoryNotSynced) {
            disk.sync_dir(&layout.hot).map_err(CommitError::fatal("sync", &layout.hot))?;
        }
        segment.path = path;
        Ok(segment)
    }

    fn begin(&mut self, first: Option<&mut EncodedBlock>, segment_bytes: u64) -> Result<(), CommitError> {
        let block_bytes = first.as_ref().map_or(0, |block| block.stored_bytes() as u64);
        self.reserve(SEGMENT_HEADER_BYTES as u64 + block_bytes, segment_bytes)?;
        self.file.write_at(&self.header.encode(), 0).map_err(CommitError::io("write", &self.path))?;
        self.end = SEGMENT_HEADER_BYTES as u64;
        match first {
            Some(block) => self.append(block),
            None => self.file.sync().map_err(CommitError::fatal("sync", &self.path)),
        }
    }

    /// Makes sure that `bytes` more fit.
    fn reserve(&mut self, bytes: u64, segment_bytes: u64) -> Result<(), CommitError> {
        let needed = self.end + bytes;
        if needed <= self.reserved {
            return Ok(());
        }
        let ahead = segment_bytes.min(self.reserved + RESERVE_STEP).max(needed);
        // The last space of a disk is taken block by block.
        let reserved = self
            .file
            .allocate(ahead)
            .map(|()| ahead)
            .or_else(|_| self.file.allocate(needed).map(|()| needed));
        self.reserved = reserved.map_err(CommitError::io("reserve space in", &self.path))?;
        Ok(())
    }

    /// Writes the block behind the last one and syncs. Running out of space in the write is harmless: the next attempt
    /// writes the same bytes to the same place. A failed sync is final.
    fn append(&mut self, block: &mut EncodedBlock) -> Result<(), CommitError> {
        assert_eq!(block.number(), self.next_block, "blocks are committed in order");
        assert_eq!(block.positions().start, self.position, "positions are dense");
        let chain = block.seal(self.header.nonce, self.chain);
        if planted(Mutant::AckBeforeSync) {
            self.file.sync().map_err(CommitError::fatal("sync", &self.path))?;
        }
        self.file.write_at(block.bytes(), self.end).map_err(CommitError::io("write", &self.path))?;
        if !planted(Mutant::NoSync) && !planted(Mutant::AckBeforeSync) {
            self.file.sync().map_err(CommitError::fatal("sync", &self.path))?;
        }
        self.end += block.stored_bytes() as u64;
        self.next_block += 1;
        self.position = block.positions().end;
        self.received = block.place.received;
        self.chain = chain;
        Ok(())
    }

    fn end_point(&self) -> LogPoint {
        LogPoint { block: self.next_block, position: self.position, chain: self.chain }
    }

    /// Cuts off the space that was reserved and not used. Need not be durable: what is there reads as zeros.
    fn give_back(&self) -> Result<(), CommitError> {
        self.file.set_len(self.end).map_err(CommitError::fatal("cut", &self.path))
    }

    fn extent(&self) -> Extent {
        Extent {
            log: self.header.log,
            nonce: self.header.nonce,
            segment: self.header.number,
            blocks: self.header.first_block..self.next_block,
            positions: self.header.first_position..self.position,
            chain: self.chain,
            end: self.end,
            received: self.received,
        }
    }
}

impl fmt::Debug for ActiveSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActiveSegment")
            .field("path", &self.path)
            .field("end", &self.end)
            .field("next_block", &self.next_block)
            .finish_non_exhaustive()
    }
}
