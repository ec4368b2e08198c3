//! Reading segments for recovery: what they hold, where they end, what is damaged.

use std::ops::Range;

use crate::block::{Announced, BlockReader, Chain, DecodedBlock};
use crate::directory::{Directory, DirectoryFile, Extent};
use crate::disk::{Access, Disk};
use crate::error::{Damage, LogError};
use crate::record::{Fact, Record};
use crate::segment::{self, Layout, SegmentHeader};
use crate::walk::{Limits, Step, Walk};

/// A segment that was read from its first block to its last.
pub(crate) struct ScannedSegment {
    pub(crate) extent: Extent,
    pub(crate) directory: Directory,
    pub(crate) damage: Vec<Damage>,
    pub(crate) facts: u64,
    /// The last block, which nothing proves to have reached the disk. Not part of `extent` and `directory`.
    pub(crate) unproven: Option<UnprovenBlock>,
    /// Bytes behind the last block that are not zero: from where, to where.
    pub(crate) torn: Option<Range<u64>>,
}

/// A block that is whole as the page cache shows it.
pub(crate) struct UnprovenBlock {
    pub(crate) number: u64,
    pub(crate) positions: Range<u64>,
    pub(crate) received: i64,
    pub(crate) records: Vec<Record>,
    /// Whether `records` is all it holds: damage before it may have taken what its records refer to.
    is_complete: bool,
    chain_after: Chain,
    /// Where it lies in the segment.
    bytes: Range<u64>,
}

/// How a segment is scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// All its blocks are known to be durable.
    Proven,
    /// It is the newest: its last block may only be in the page cache.
    Unproven,
}

/// Reads a segment, tells its facts and builds its directory.
pub(crate) fn scan_segment(
    disk: &dyn Disk,
    layout: &Layout,
    header: &SegmentHeader,
    limits: Limits,
    tail: Tail,
    tell: &mut dyn FnMut(&Fact<'_>),
) -> Result<ScannedSegment, LogError> {
    let mut walk = Walk::open(disk, layout, header, limits)?;
    let mut scanned = ScannedSegment::new(header);
    let mut reader = BlockReader::new();
    let mut announced = Announced::default();
    loop {
        match walk.next_block(&mut reader)? {
            Step::Block(mut block) => {
                scanned.prove();
                let unproven = scanned.read(&walk, &mut block, &mut announced);
                unproven.records.iter().for_each(|record| tell(&record.fact()));
                scanned.facts += unproven.records.len() as u64;
                scanned.unproven = Some(unproven);
            }
            Step::Damage(damage) => {
                // Damage is only told from an unfinished write by proof that later blocks were begun.
                scanned.prove();
                scanned.damage.push(damage);
                scanned.skip_to(&walk);
            }
            Step::End => break,
        }
    }
    match &scanned.unproven {
        Some(block) if tail == Tail::Unproven && block.is_complete => {}
        Some(block) if tail == Tail::Unproven => {
            write_again(disk, &walk, &block.bytes)?;
            scanned.prove();
        }
        _ => scanned.prove(),
    }
    let content_end = walk.end_of_content()?;
    scanned.torn = (content_end > walk.at.offset).then_some(walk.at.offset..content_end);
    Ok(scanned)
}

impl ScannedSegment {
    fn new(header: &SegmentHeader) -> Self {
        let extent = Extent {
            log: header.log,
            nonce: header.nonce,
            segment: header.number,
            blocks: header.first_block..header.first_block,
            positions: header.first_position..header.first_position,
            chain: header.chain,
            end: segment::SEGMENT_HEADER_BYTES as u64,
            received: i64::MIN,
        };
        Self {
            extent,
            directory: Directory::new(header.first_block),
            damage: Vec::new(),
            facts: 0,
            unproven: None,
            torn: None,
        }
    }

    /// The last block read is known to be durable.
    fn prove(&mut self) {
        let Some(block) = self.unproven.take() else { return };
        self.directory.read_block(block.number, block.received, &block.records);
        self.extent.blocks.end = block.number + 1;
        self.extent.positions.end = block.positions.end;
        self.extent.chain = block.chain_after;
        self.extent.end = block.bytes.end;
        self.extent.received = block.received;
    }

    /// The walk has passed over damage.
    fn skip_to(&mut self, walk: &Walk) {
        self.extent.blocks.end = walk.at.block;
        self.extent.positions.end = walk.at.position;
        self.extent.chain = Chain::default();
        self.extent.end = walk.at.offset;
    }

    fn read(&mut self, walk: &Walk, block: &mut DecodedBlock, announced: &mut Announced) -> UnprovenBlock {
        let mut records = Vec::new();
        let mut fault = None;
        while let Some(record) = block.next_record(announced) {
            match record {
                Ok(record) => records.push(record),
                Err(what) => fault = Some(what),
            }
        }
        let header = &block.header;
        let is_complete = fault.is_none();
        if let Some(what) = fault {
            let (offset, positions) = (walk.before.offset, Some(header.positions()));
            self.damage.push(Damage { file: walk.path.clone(), offset, what, positions });
        }
        UnprovenBlock {
            number: header.number,
            positions: header.positions(),
            received: header.received,
            records,
            chain_after: walk.at.chain.unwrap_or_default(),
            bytes: walk.before.offset..walk.at.offset,
            is_complete,
        }
    }
}

/// Makes a block durable where it is, that cannot be copied because some of its records are lost: the same bytes
/// written again are dirty, and so reach the disk with the sync.
fn write_again(disk: &dyn Disk, walk: &Walk, bytes: &Range<u64>) -> Result<(), LogError> {
    let file = disk.open(&walk.path, Access::Write).map_err(LogError::io("open", &walk.path))?;
    let mut block = vec![0; (bytes.end - bytes.start) as usize];
    file.read_at(&mut block, bytes.start).map_err(LogError::io("read", &walk.path))?;
    file.write_at(&block, bytes.start).map_err(LogError::io("write", &walk.path))?;
    file.sync().map_err(LogError::io("sync", &walk.path))
}

/// Builds the directory of a finished segment again, writes it and opens it.
pub(crate) fn rebuild_directory(
    disk: &dyn Disk,
    layout: &Layout,
    header: &SegmentHeader,
) -> Result<DirectoryFile, LogError> {
    let next = segment::list(disk, layout)?.into_iter().find(|number| *number > header.number);
    let next = next.expect("a finished segment is followed by another");
    let limits = Limits::up_to(&segment::read_header(disk, layout, next)?);
    let scanned = scan_segment(disk, layout, header, limits, Tail::Proven, &mut |_| {})?;
    write_directory(disk, layout, scanned)?;
    let path = layout.directory(header.number);
    DirectoryFile::open(disk, layout, header)?.ok_or_else(|| {
        let what = "the batch directory cannot be read back after it was written".to_owned();
        Damage { file: path, offset: 0, what, positions: None }.into()
    })
}

/// Writes the directory of a scanned segment.
pub(crate) fn write_directory(
    disk: &dyn Disk,
    layout: &Layout,
    scanned: ScannedSegment,
) -> Result<(), LogError> {
    let path = layout.directory(scanned.extent.segment);
    let directory = scanned.directory.finish();
    DirectoryFile::write(disk, layout, &scanned.extent, &directory, &scanned.damage)
        .map_err(LogError::io("write", &path))
}
