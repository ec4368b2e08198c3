//! The watermark: how far the log is durable, as its writer publishes it for readers in other processes and for its
//! own next recovery.

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Access, Disk, DiskFile};
use crate::error::LogError;
use crate::fields::{FieldReader, check_crc, push_crc};
use crate::segment::Layout;

const MAGIC: [u8; 8] = *b"ICE-MARK";
const VERSION: u32 = 1;
const BYTES: usize = 72;

/// How far the log is durable. It is written after the sync it tells of, and is not synced itself: what it says is
/// true, but after a power failure it may say too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// The id of the log.
    pub log: [u8; 16],
    /// The term of its writer: how many times the log had been opened for writing before.
    pub term: u64,
    pub(crate) segment: u64,
    /// All blocks below this number are durable.
    pub(crate) next_block: u64,
    /// All positions below this one are durable.
    pub position: u64,
}

impl Watermark {
    /// What the writer of the log in the data directory `data` published last; `None` before there was one, or where that
    /// cannot be read.
    #[must_use]
    pub fn published(disk: &dyn Disk, data: &Path) -> Option<Self> {
        Self::read(disk, &Layout::new(data))
    }

    /// Reads the watermark; `None` if there is none, or none that is whole.
    pub(crate) fn read(disk: &dyn Disk, layout: &Layout) -> Option<Self> {
        let file = disk.open(&layout.watermark(), Access::Read).ok()?;
        let mut bytes = [0; BYTES];
        let len = file.read_at(&mut bytes, 0).ok()?;
        let mut fields = FieldReader::new(check_crc(&bytes[..len])?);
        if fields.array()? != MAGIC || fields.u32()? != VERSION {
            return None;
        }
        fields.u32()?;
        Some(Self {
            log: fields.array()?,
            term: fields.u64()?,
            segment: fields.u64()?,
            next_block: fields.u64()?,
            position: fields.u64()?,
        })
    }

    /// The same for the writer that starts: it tells when there is one that is not whole.
    pub(crate) fn read_or_tell(disk: &dyn Disk, layout: &Layout) -> Option<Self> {
        let mark = Self::read(disk, layout);
        let file = layout.watermark();
        let is_there = || disk.open(&file, Access::Read).and_then(|file| file.len()).is_ok_and(|len| len > 0);
        if mark.is_none() && is_there() {
            tracing::warn!(
                file = %file.display(),
                "the watermark is damaged, and is made anew: what was durable is told by the segments alone this time"
            );
        }
        mark
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.log);
        out.extend_from_slice(&self.term.to_le_bytes());
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.next_block.to_le_bytes());
        out.extend_from_slice(&self.position.to_le_bytes());
        out.resize(BYTES - 4, 0);
        push_crc(&mut out, 0);
        out
    }
}

/// Publishes watermarks.
pub(crate) struct WatermarkFile {
    file: Arc<dyn DiskFile>,
}

impl WatermarkFile {
    pub(crate) fn open(disk: &dyn Disk, layout: &Layout) -> Result<Self, LogError> {
        let path = layout.watermark();
        let file = disk.open(&path, Access::Write).map_err(LogError::io("open", &path))?;
        Ok(Self { file })
    }

    /// One small write within one sector: a reader sees the old one or the new one, or tries again.
    pub(crate) fn publish(&self, watermark: &Watermark) -> std::io::Result<()> {
        self.file.write_at(&watermark.encode(), 0)
    }
}
