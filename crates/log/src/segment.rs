//! Hot segments: their names, their headers and their place in the log.

use std::path::{Path, PathBuf};

use crate::block::Chain;
use crate::disk::{Access, Disk};
use crate::error::{Damage, LogError};
use crate::fields::{FieldReader, check_crc, push_crc};
use crate::manifest::SealedEnd;
use crate::segment_id::SegmentId;

/// Segment headers and blocks start at multiples of this many bytes: no two share a sector, so that no torn write
/// of one can hurt another.
pub(crate) const ALIGNMENT: u64 = 512;

/// Bytes of a segment header; the first block follows.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 512;

const MAGIC: [u8; 8] = *b"ICE-HOT\n";

/// The version of segments, blocks and records. A later version is refused.
const VERSION: u32 = 1;

/// The first block is a copy of the previous segment's last one, made by recovery and synced before the segment got
/// its name.
const FLAG_BEGINS_WITH_COPY: u32 = 1;

/// A log's identity.
pub(crate) type LogId = [u8; 16];

/// What stands at the start of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log: LogId,
    /// Segments are numbered in order of creation; recovery leaves gaps.
    pub(crate) number: u64,
    /// Random: marks this segment's blocks, so that none of another file or time is taken for one.
    pub(crate) nonce: [u8; 16],
    pub(crate) term: u64,
    /// The number of the segment's first block. Blocks of earlier segments from this number on do not count.
    pub(crate) first_block: u64,
    pub(crate) first_position: u64,
    /// The chain before the first block; zeros where blocks before it are lost.
    pub(crate) chain: Chain,
    /// Nanoseconds since the Unix epoch.
    pub(crate) created: i64,
    pub(crate) begins_with_copy: bool,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let flags = if self.begins_with_copy { FLAG_BEGINS_WITH_COPY } else { 0 };
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.log);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.term.to_le_bytes());
        out.extend_from_slice(&self.first_block.to_le_bytes());
        out.extend_from_slice(&self.first_position.to_le_bytes());
        out.extend_from_slice(&self.created.to_le_bytes());
        out.extend_from_slice(&self.chain);
        out.resize(SEGMENT_HEADER_BYTES - 4, 0);
        push_crc(&mut out, 0);
        out
    }

    /// The hot log begins where the sealed one ends, or with block 0. What is missing in between, or does not fit.
    pub(crate) fn missing_before(&self, layout: &Layout, sealed: Option<&SealedEnd>) -> Option<Damage> {
        let (block, position) = sealed.map_or((0, 0), |end| (end.block, end.position));
        let file = layout.segment(self.number);
        if (self.first_block, self.first_position) != (block, position) {
            let what =
                format!("this is the first segment, but blocks {block} to {} are missing", self.first_block);
            let positions = Some(position..self.first_position.max(position));
            return Some(Damage { file, offset: 0, what, positions });
        }
        let continues = sealed.is_none_or(|end| end.chain == self.chain);
        let what = "the segment does not continue the hash chain of the sealed ones".to_owned();
        (!continues).then_some(Damage { file, offset: 0, what, positions: None })
    }

    /// `Err` says what is wrong: a later version, or bytes that are no header.
    fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let mut fields = FieldReader::new(bytes);
        let magic: [u8; 8] = fields.array().ok_or(HeaderFault::Damaged("the segment header is cut short"))?;
        let version = fields.u32().ok_or(HeaderFault::Damaged("the segment header is cut short"))?;
        let content = check_crc(bytes).ok_or(HeaderFault::Damaged("the segment header fails its CRC32C"))?;
        if magic != MAGIC {
            return Err(HeaderFault::Damaged("the file does not begin as a segment"));
        }
        if version != VERSION {
            return Err(HeaderFault::Version(version));
        }
        Self::decode_fields(&content[12..]).ok_or(HeaderFault::Damaged("the segment header is cut short"))
    }

    fn decode_fields(bytes: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::new(bytes);
        let flags = fields.u32()?;
        Some(Self {
            log: fields.array()?,
            nonce: fields.array()?,
            number: fields.u64()?,
            term: fields.u64()?,
            first_block: fields.u64()?,
            first_position: fields.u64()?,
            created: fields.i64()?,
            chain: fields.array()?,
            begins_with_copy: flags & FLAG_BEGINS_WITH_COPY != 0,
        })
    }
}

enum HeaderFault {
    Damaged(&'static str),
    Version(u32),
}

/// Where a log's files are.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) data: PathBuf,
    pub(crate) hot: PathBuf,
    pub(crate) torn: PathBuf,
    pub(crate) sealed: PathBuf,
    pub(crate) manifests: PathBuf,
}

impl Layout {
    pub(crate) fn new(data: &Path) -> Self {
        Self {
            data: data.to_path_buf(),
            hot: data.join("hot"),
            torn: data.join("torn"),
            sealed: data.join("sealed"),
            manifests: data.join("manifests"),
        }
    }

    pub(crate) fn segment(&self, number: u64) -> PathBuf {
        self.hot.join(format!("{number:020}.hot"))
    }

    pub(crate) fn directory(&self, number: u64) -> PathBuf {
        self.hot.join(format!("{number:020}.dir"))
    }

    pub(crate) fn watermark(&self) -> PathBuf {
        self.hot.join("watermark")
    }

    pub(crate) fn manifest(&self, number: u64) -> PathBuf {
        self.manifests.join(format!("{number:012}.manifest"))
    }

    /// What is lost of what a manifest sealed.
    pub(crate) fn lost(&self, number: u64) -> PathBuf {
        self.manifests.join(format!("{number:012}.lost"))
    }

    /// A sealed segment.
    pub(crate) fn sealed(&self, id: SegmentId) -> PathBuf {
        self.sealed.join(format!("{id}.ice"))
    }

    /// What is kept of a sealed segment that is not here any more: everything but its pages.
    pub(crate) fn sealed_tail(&self, id: SegmentId) -> PathBuf {
        self.sealed.join(format!("{id}.tail"))
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.data.join("LOCK")
    }

    pub(crate) fn log_id(&self) -> PathBuf {
        self.data.join("log.id")
    }
}

/// The name a file has until it is complete.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    path.with_added_extension("tmp")
}

/// Reads and checks the header of segment `number`.
pub(crate) fn read_header(disk: &dyn Disk, layout: &Layout, number: u64) -> Result<SegmentHeader, LogError> {
    let path = layout.segment(number);
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let file = disk.open(&path, Access::Read).map_err(LogError::io("open", &path))?;
    let len = file.read_at(&mut bytes, 0).map_err(LogError::io("read", &path))?;
    let what = match SegmentHeader::decode(&bytes[..len]) {
        Ok(header) if header.number == number => return Ok(header),
        Ok(header) => format!("this is segment {}, under another one's name", header.number),
        Err(HeaderFault::Damaged(what)) => what.to_owned(),
        Err(HeaderFault::Version(version)) => {
            let what =
                format!("segment format {version} is not known here; a later version of Icecore wrote it");
            return Err(LogError::Foreign { file: path, what });
        }
    };
    Err(Damage { file: path, offset: 0, what, positions: None }.into())
}

/// The numbers of the segments in the log, oldest first.
pub(crate) fn list(disk: &dyn Disk, layout: &Layout) -> Result<Vec<u64>, LogError> {
    let names = disk.list(&layout.hot).map_err(LogError::io("list", &layout.hot))?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".hot")?.parse().ok()).collect())
}
