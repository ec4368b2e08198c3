//! Walking over the blocks of one segment, and telling damage from the end.

use std::path::PathBuf;
use std::sync::Arc;

use crate::block::{BLOCK_HEADER_BYTES, BlockHeader, BlockReader, Chain, DecodedBlock, chain_after};
use crate::disk::{Access, Disk, DiskFile};
use crate::error::{Damage, LogError};
use crate::segment::{ALIGNMENT, Layout, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::watermark::Watermark;

/// Bytes read at once when looking for a block behind damage.
const SEARCH_BYTES: usize = 1 << 20;

/// Where a segment ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Blocks below this number were made durable here. Where one of them is not whole, that is damage.
    pub(crate) durable: u64,
    /// The position after them.
    pub(crate) durable_position: u64,
    /// Blocks from this number on do not count: the next segment begins with it, or it is not yet published.
    pub(crate) stop: Option<u64>,
}

impl Limits {
    /// Of the newest segment: it holds what the watermark says was durable, and the copy it was created with.
    pub(crate) fn of_newest(header: &SegmentHeader, watermark: Option<&Watermark>) -> Self {
        let durable = header.first_block + u64::from(header.begins_with_copy);
        match watermark {
            Some(mark) if mark.log == header.log && mark.next_block >= durable => {
                Self { durable: mark.next_block, durable_position: mark.position, stop: None }
            }
            _ => Self { durable, durable_position: header.first_position, stop: None },
        }
    }

    /// Of a segment that is followed by another.
    pub(crate) fn up_to(next: &SegmentHeader) -> Self {
        Self::exactly(next.first_block, next.first_position)
    }

    /// Everything below is durable, nothing from there on counts.
    pub(crate) fn exactly(block: u64, position: u64) -> Self {
        Self { durable: block, durable_position: position, stop: Some(block) }
    }
}

/// What comes next in a segment.
pub(crate) enum Step<T = BlockHeader> {
    /// A block, or its header.
    Block(T),
    /// A place that cannot be read. The walk goes on behind it.
    Damage(Damage),
    /// No block that counts.
    End,
}

/// A walk over the blocks of a segment. Each header is checked against those before it; bodies are read on request.
pub(crate) struct Walk {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    nonce: [u8; 16],
    limits: Limits,
    len: u64,
    /// Where the next block is expected.
    pub(crate) at: Place,
    /// Where the last one was expected.
    pub(crate) before: Place,
}

/// A place between two blocks.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    /// The number of the block behind it.
    pub(crate) block: u64,
    /// The position of the first event behind it.
    pub(crate) position: u64,
    /// The chain up to here; `None` behind damage.
    pub(crate) chain: Option<Chain>,
}

impl Walk {
    pub(crate) fn open(
        disk: &dyn Disk,
        layout: &Layout,
        header: &SegmentHeader,
        limits: Limits,
    ) -> Result<Self, LogError> {
        let path = layout.segment(header.number);
        let file = disk.open(&path, Access::Read).map_err(LogError::io("open", &path))?;
        let len = file.len().map_err(LogError::io("read the length of", &path))?;
        let start = Place {
            offset: SEGMENT_HEADER_BYTES as u64,
            block: header.first_block,
            position: header.first_position,
            chain: Some(header.chain).filter(|chain| *chain != Chain::default() || header.first_block == 0),
        };
        Ok(Self { path, file, nonce: header.nonce, limits, len, before: start.clone(), at: start })
    }

    /// Whether everything that counts was passed.
    pub(crate) fn is_at_stop(&self) -> bool {
        self.limits.stop.is_some_and(|stop| self.at.block >= stop)
    }

    /// Goes on where it ended, now that more counts.
    pub(crate) fn go_on_to(&mut self, limits: Limits) -> Result<(), LogError> {
        self.len = self.file.len().map_err(LogError::io("read the length of", &self.path))?;
        self.limits = limits;
        Ok(())
    }

    /// The next block's header. Its body is not checked.
    pub(crate) fn next_header(&mut self) -> Result<Step, LogError> {
        self.before = self.at.clone();
        if self.is_at_stop() {
            return Ok(Step::End);
        }
        let bytes = self.header_bytes()?;
        match self.check_header(&bytes) {
            Ok(header) => {
                self.at.offset += header.block_len();
                self.at.block += 1;
                self.at.position += header.events;
                self.at.chain = Some(chain_after(&bytes));
                Ok(Step::Block(header))
            }
            Err(what) => self.damage_or_end(what),
        }
    }

    /// Reads and checks the block whose header [`Walk::next_header`] has just found.
    pub(crate) fn read_block(
        &mut self,
        reader: &mut BlockReader,
        header: BlockHeader,
    ) -> Result<Step<DecodedBlock>, LogError> {
        let read =
            reader.read(&*self.file, self.before.offset, header).map_err(LogError::io("read", &self.path))?;
        match read {
            Ok(block) => Ok(Step::Block(block)),
            Err(what) => {
                self.at = self.before.clone();
                self.damage_or_end(what)
            }
        }
    }

    /// The next block, read and checked.
    pub(crate) fn next_block(&mut self, reader: &mut BlockReader) -> Result<Step<DecodedBlock>, LogError> {
        match self.next_header()? {
            Step::Block(header) => self.read_block(reader, header),
            Step::Damage(damage) => Ok(Step::Damage(damage)),
            Step::End => Ok(Step::End),
        }
    }

    /// At the end of the walk: where the last byte that is not zero ends. Beyond the last block there is only reserved
    /// space, so anything else is what a write has left.
    pub(crate) fn end_of_content(&self) -> Result<u64, LogError> {
        let mut end = self.at.offset;
        let mut buffer = self.search_buffer(self.at.offset);
        let mut at = self.at.offset;
        while at < self.len {
            let len = self.file.read_at(&mut buffer, at).map_err(LogError::io("read", &self.path))?;
            if len == 0 {
                break;
            }
            if let Some(last) = buffer[..len].iter().rposition(|byte| *byte != 0) {
                end = at + last as u64 + 1;
            }
            at += len as u64;
        }
        Ok(end)
    }

    fn search_buffer(&self, from: u64) -> Vec<u8> {
        vec![0; self.len.saturating_sub(from).min(SEARCH_BYTES as u64) as usize]
    }

    fn header_bytes(&self) -> Result<Vec<u8>, LogError> {
        let mut bytes = vec![0; BLOCK_HEADER_BYTES];
        let len = self.file.read_at(&mut bytes, self.at.offset).map_err(LogError::io("read", &self.path))?;
        bytes.truncate(len);
        Ok(bytes)
    }

    fn check_header(&self, bytes: &[u8]) -> Result<BlockHeader, String> {
        let Place { offset, block, position, .. } = self.at;
        let header = BlockHeader::decode(bytes, &self.nonce)
            .ok_or_else(|| format!("there is no whole block header where block {block} should be"))?;
        if header.number != block {
            return Err(format!("block {} stands where block {block} should be", header.number));
        }
        if header.first_position != position {
            return Err(format!(
                "block {block} starts at position {}, not {position}",
                header.first_position
            ));
        }
        if self.at.chain.is_some_and(|chain| chain != header.previous) {
            return Err(format!("block {block} does not continue the hash chain"));
        }
        if offset + header.block_len() > self.len {
            return Err(format!("block {block} reaches beyond the end of the file"));
        }
        Ok(header)
    }

    /// The expected block is not whole. It is damaged, and not merely unfinished, if there is proof that it was durable
    /// once: a later block (written only after this one's sync), a later segment or the watermark.
    fn damage_or_end<T>(&mut self, what: String) -> Result<Step<T>, LogError> {
        let Place { offset, position, .. } = self.at;
        if let Some((offset, header)) = self.find_later_block()? {
            self.at = Place { offset, block: header.number, position: header.first_position, chain: None };
        } else if self.at.block < self.limits.durable {
            let Limits { durable, durable_position, .. } = self.limits;
            self.at = Place { offset: self.len, block: durable, position: durable_position, chain: None };
        } else {
            return Ok(Step::End);
        }
        let positions = Some(position..self.at.position.max(position));
        Ok(Step::Damage(Damage { file: self.path.clone(), offset, what, positions }))
    }

    /// Looks for a later block that counts.
    fn find_later_block(&self) -> Result<Option<(u64, BlockHeader)>, LogError> {
        let mut at = self.at.offset + ALIGNMENT;
        let mut buffer = self.search_buffer(at);
        while at < self.len {
            let len = self.file.read_at(&mut buffer, at).map_err(LogError::io("read", &self.path))?;
            for sector in (0..len).step_by(ALIGNMENT as usize) {
                let Some(header) = BlockHeader::decode(&buffer[sector..len], &self.nonce) else { continue };
                let counts = self.limits.stop.is_none_or(|stop| header.number < stop);
                if header.number > self.at.block && counts {
                    return Ok(Some((at + sector as u64, header)));
                }
            }
            if len < buffer.len() {
                break;
            }
            at += len as u64;
        }
        Ok(None)
    }
}
