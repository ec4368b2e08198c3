//! The `.dir` file: the directory of a finished segment.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_wire::{DeviceName, Digest, Epoch, Schema};

use super::{BatchEntry, BatchRow, Directory, Settled, SettledRow, SourceRows};
use crate::block::{Announced, Chain};
use crate::disk::{Access, Disk, DiskFile};
use crate::error::{Damage, LogError};
use crate::fields::{FieldReader, check_crc, push_bytes, push_crc};
use crate::record::{Fact, Source};
use crate::segment::{Layout, LogId, SegmentHeader, unfinished};

const MAGIC: [u8; 8] = *b"ICE-DIR\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 160;

/// Bytes of a batch row. Each has its own CRC32C, so that a lookup reads a few rows and no more.
const ROW_BYTES: usize = 48;

/// Rows read at once when all are wanted.
const ROWS_AT_ONCE: u64 = 4096;

/// Built from all blocks of the segment, so that sources and schemas have the numbers they have there.
const FLAG_COMPLETE: u32 = 1;

/// What a finished segment covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) log: LogId,
    pub(crate) nonce: [u8; 16],
    pub(crate) segment: u64,
    pub(crate) blocks: Range<u64>,
    pub(crate) positions: Range<u64>,
    /// The chain after its last block.
    pub(crate) chain: Chain,
    /// Where its last block ends, in bytes.
    pub(crate) end: u64,
    /// The newest received time up to here.
    pub(crate) received: i64,
}

/// The directory of a finished segment, open for lookups. Its tables are in memory, its batch rows are not.
#[derive(Debug)]
pub(crate) struct DirectoryFile {
    path: PathBuf,
    rows: RowFile,
    pub(crate) extent: Extent,
    tables: Tables,
}

#[derive(Debug, Default)]
struct Tables {
    complete: bool,
    blocks: Vec<i64>,
    schemas: Vec<Arc<Schema>>,
    /// Sorted by device and epoch.
    sources: Vec<SourceTable>,
    settled: Vec<(u32, SettledRow)>,
    damage: Vec<Damage>,
}

#[derive(Debug)]
struct SourceTable {
    source: Arc<Source>,
    /// Its number in the segment.
    id: u32,
    rows: Range<u64>,
}

struct RowFile {
    file: Arc<dyn DiskFile>,
    start: u64,
}

impl std::fmt::Debug for RowFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowFile").field("start", &self.start).finish_non_exhaustive()
    }
}

impl DirectoryFile {
    /// Writes the directory of a finished segment. It is not synced: what a crash leaves of it is recognized as
    /// damaged and built again.
    pub(crate) fn write(
        disk: &dyn Disk,
        layout: &Layout,
        extent: &Extent,
        directory: &Directory,
        damage: &[Damage],
    ) -> io::Result<()> {
        let path = layout.directory(extent.segment);
        let unfinished = unfinished(&path);
        let file = disk.open(&unfinished, Access::Truncate)?;
        file.write_at(&encode(extent, directory, damage), 0)?;
        disk.rename(&unfinished, &path)
    }

    /// Opens the directory of the segment with this header; `None` if it is missing, damaged or another's.
    pub(crate) fn open(
        disk: &dyn Disk,
        layout: &Layout,
        header: &SegmentHeader,
    ) -> Result<Option<Self>, LogError> {
        let path = layout.directory(header.number);
        let file = match disk.open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LogError::io("open", &path)(error)),
        };
        let read = Self::read(path.clone(), file, layout).map_err(LogError::io("read", &path))?;
        if read.is_none() {
            tell_damaged(&path);
        }
        Ok(read.filter(|directory| {
            let extent = &directory.extent;
            (extent.log, extent.segment, extent.nonce) == (header.log, header.number, header.nonce)
        }))
    }

    fn read(path: PathBuf, file: Arc<dyn DiskFile>, layout: &Layout) -> io::Result<Option<Self>> {
        let mut header = [0; HEADER_BYTES];
        let len = file.read_at(&mut header, 0)?;
        let Some((extent, complete, tables_len, rows)) = decode_header(&header[..len]) else {
            return Ok(None);
        };
        let start = HEADER_BYTES as u64 + tables_len;
        if Some(file.len()?) != rows.checked_mul(ROW_BYTES as u64).and_then(|bytes| bytes.checked_add(start))
        {
            return Ok(None);
        }
        let mut bytes = vec![0; tables_len as usize];
        file.read_at(&mut bytes, HEADER_BYTES as u64)?;
        let segment = layout.segment(extent.segment);
        let tables = check_crc(&bytes).and_then(|content| Tables::decode(content, &segment));
        let rows = RowFile { file, start };
        Ok(tables.map(|tables| Self { path, rows, extent, tables: Tables { complete, ..tables } }))
    }

    /// Opens the directory of a segment for telling all of its facts: as [`DirectoryFile::open`], but every row is
    /// checked beforehand, so that nothing is told twice.
    pub(crate) fn open_whole(
        disk: &dyn Disk,
        layout: &Layout,
        header: &SegmentHeader,
    ) -> Result<Option<Self>, LogError> {
        let Some(directory) = Self::open(disk, layout, header)? else { return Ok(None) };
        let rows = directory.tables.sources.last().map_or(0, |table| table.rows.end);
        for start in (0..rows).step_by(ROWS_AT_ONCE as usize) {
            match directory.read_rows(start..rows.min(start + ROWS_AT_ONCE)) {
                Ok(_) => {}
                Err(LogError::Damaged(_)) => {
                    tell_damaged(&directory.path);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(directory))
    }

    /// Damage that was in the segment when the directory was built.
    pub(crate) fn damage(&self) -> &[Damage] {
        &self.tables.damage
    }

    /// The sources of the segment.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.tables.sources.iter().map(|table| &table.source)
    }

    /// All sources and schemas by their numbers in the segment, if all of them are known.
    pub(crate) fn announced(&self) -> Option<Announced> {
        let mut announced = Announced::default();
        for table in &self.tables.sources {
            announced.source(table.id, Arc::clone(&table.source));
        }
        for (id, schema) in self.tables.schemas.iter().enumerate() {
            announced.schema(id as u32, Arc::clone(schema));
        }
        self.tables.complete.then_some(announced)
    }

    /// Finds the batch that begins exactly at `first_sequence`.
    pub(crate) fn find(
        &self,
        device: &DeviceName,
        epoch: &Epoch,
        first_sequence: u64,
    ) -> Result<Option<BatchEntry>, LogError> {
        let found = self
            .tables
            .sources
            .binary_search_by(|table| (&table.source.device, &table.source.epoch).cmp(&(device, epoch)));
        let Ok(index) = found else { return Ok(None) };
        let Range { mut start, mut end } = self.tables.sources[index].rows.clone();
        while start < end {
            let middle = start + (end - start) / 2;
            let row = self.read_rows(middle..middle + 1)?[0];
            match row.entry.first_sequence.cmp(&first_sequence) {
                std::cmp::Ordering::Equal => return Ok(Some(row.entry)),
                std::cmp::Ordering::Less => start = middle + 1,
                std::cmp::Ordering::Greater => end = middle,
            }
        }
        Ok(None)
    }

    /// The numbers of the blocks that hold records of devices that are wanted, ascending; `None` where that cannot be read.
    pub(crate) fn blocks_of(&self, wanted: &dyn Fn(&DeviceName) -> bool) -> Option<Vec<u64>> {
        let mut blocks = Vec::new();
        for (index, SourceTable { source, rows, .. }) in self.tables.sources.iter().enumerate() {
            if wanted(&source.device) {
                blocks.extend(self.read_rows(rows.clone()).ok()?.iter().map(|row| row.block));
                let settled = self.tables.settled.iter().filter(|(source, _)| *source as usize == index);
                blocks.extend(settled.map(|(_, row)| row.block));
            }
        }
        blocks.sort_unstable();
        blocks.dedup();
        Some(blocks.into_iter().map(|block| self.extent.blocks.start + u64::from(block)).collect())
    }

    /// Tells all facts of the segment, grouped by source.
    pub(crate) fn facts(&self, tell: &mut dyn FnMut(&Fact<'_>)) -> Result<u64, LogError> {
        let mut told = self.tables.settled.len() as u64;
        for SourceTable { source, rows, .. } in &self.tables.sources {
            told += rows.end - rows.start;
            let mut start = rows.start;
            while start < rows.end {
                let end = rows.end.min(start + ROWS_AT_ONCE);
                for row in self.read_rows(start..end)? {
                    tell(&self.batch_fact(source, &row));
                }
                start = end;
            }
        }
        for (source, row) in &self.tables.settled {
            let source = &self.tables.sources[*source as usize].source;
            let (range, received) = (row.range.clone(), self.tables.blocks[row.block as usize]);
            tell(&match row.settled {
                Settled::Refused { code, digest } => Fact::Refused { source, range, code, digest, received },
                Settled::Dropped => Fact::Dropped { source, range, received },
            });
        }
        Ok(told)
    }

    fn batch_fact<'a>(&'a self, source: &'a Arc<Source>, row: &BatchRow) -> Fact<'a> {
        let BatchEntry { first_sequence, count, digest, position } = row.entry;
        let schema = &self.tables.schemas[row.schema as usize];
        let received = self.tables.blocks[row.block as usize];
        Fact::Batch { source, schema, first_sequence, count, position, received, digest }
    }

    fn read_rows(&self, rows: Range<u64>) -> Result<Vec<BatchRow>, LogError> {
        let offset = self.rows.start + rows.start * ROW_BYTES as u64;
        let mut bytes = vec![0; (rows.end - rows.start) as usize * ROW_BYTES];
        self.rows.file.read_at(&mut bytes, offset).map_err(LogError::io("read", &self.path))?;
        let decoded = bytes.chunks_exact(ROW_BYTES).enumerate().map(|(index, bytes)| {
            self.decode_row(bytes).ok_or_else(|| {
                let offset = offset + (index * ROW_BYTES) as u64;
                let what = "a row of the batch directory fails its CRC32C".into();
                Damage { file: self.path.clone(), offset, what, positions: None }.into()
            })
        });
        decoded.collect()
    }

    fn decode_row(&self, bytes: &[u8]) -> Option<BatchRow> {
        let row = decode_row(check_crc(bytes)?)?;
        let known = (row.schema as usize) < self.tables.schemas.len()
            && (row.block as usize) < self.tables.blocks.len();
        known.then_some(row)
    }
}

/// Nothing is lost with a directory, but a disk that spoilt it may spoil more.
pub(super) fn tell_damaged(path: &Path) {
    tracing::warn!(
        file = %path.display(),
        "the batch directory is damaged; what it tells is taken from its segment instead"
    );
}

fn encode(extent: &Extent, directory: &Directory, damage: &[Damage]) -> Vec<u8> {
    let mut order: Vec<(u32, &SourceRows)> = (0..).zip(&directory.sources).collect();
    order.sort_by_key(|(_, rows)| (&rows.source.device, &rows.source.epoch));
    let mut tables = encode_tables(directory, &order, damage);
    push_crc(&mut tables, 0);

    let rows: usize = order.iter().map(|(_, rows)| rows.batches.len()).sum();
    let mut out = encode_header(extent, damage.is_empty(), tables.len() as u64, rows as u64);
    out.reserve(tables.len() + rows * ROW_BYTES);
    out.extend_from_slice(&tables);
    for row in order.iter().flat_map(|(_, rows)| &rows.batches) {
        encode_row(&mut out, row);
    }
    out
}

fn encode_header(extent: &Extent, complete: bool, tables_len: u64, rows: u64) -> Vec<u8> {
    let flags = if complete { FLAG_COMPLETE } else { 0 };
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&extent.log);
    out.extend_from_slice(&extent.nonce);
    for field in
        [extent.segment, extent.blocks.start, extent.blocks.end, extent.positions.start, extent.positions.end]
    {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&extent.chain);
    out.extend_from_slice(&extent.end.to_le_bytes());
    out.extend_from_slice(&extent.received.to_le_bytes());
    out.extend_from_slice(&tables_len.to_le_bytes());
    out.extend_from_slice(&rows.to_le_bytes());
    out.resize(HEADER_BYTES - 4, 0);
    push_crc(&mut out, 0);
    out
}

fn decode_header(bytes: &[u8]) -> Option<(Extent, bool, u64, u64)> {
    let mut fields = FieldReader::new(check_crc(bytes)?);
    if fields.array()? != MAGIC || fields.u32()? != VERSION {
        return None;
    }
    let complete = fields.u32()? & FLAG_COMPLETE != 0;
    let extent = Extent {
        log: fields.array()?,
        nonce: fields.array()?,
        segment: fields.u64()?,
        blocks: fields.u64()?..fields.u64()?,
        positions: fields.u64()?..fields.u64()?,
        chain: fields.array()?,
        end: fields.u64()?,
        received: fields.i64()?,
    };
    Some((extent, complete, fields.u64()?, fields.u64()?))
}

fn encode_tables(directory: &Directory, order: &[(u32, &SourceRows)], damage: &[Damage]) -> Vec<u8> {
    let settled: usize = order.iter().map(|(_, rows)| rows.settled.len()).sum();
    let counts = [directory.blocks.len(), directory.schemas.len(), order.len(), settled, damage.len()];
    let mut out = Vec::new();
    for count in counts {
        out.extend_from_slice(&(count as u32).to_le_bytes());
    }
    for received in &directory.blocks {
        out.extend_from_slice(&received.to_le_bytes());
    }
    for schema in &directory.schemas {
        push_bytes(&mut out, schema.canonical());
    }
    for (id, rows) in order {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&rows.source.number.to_le_bytes());
        out.extend_from_slice(&(rows.batches.len() as u64).to_le_bytes());
        out.extend_from_slice(rows.source.epoch.as_bytes());
        push_bytes(&mut out, rows.source.device.as_str().as_bytes());
    }
    for (source, (_, rows)) in order.iter().enumerate() {
        for row in &rows.settled {
            encode_settled(&mut out, source as u32, row);
        }
    }
    for Damage { offset, what, positions, .. } in damage {
        let range = positions.clone().unwrap_or(u64::MAX..u64::MAX);
        for field in [*offset, range.start, range.end] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        push_bytes(&mut out, what.as_bytes());
    }
    out
}

impl Tables {
    /// `segment` is the segment's file, to which the damage in it is ascribed.
    fn decode(content: &[u8], segment: &std::path::Path) -> Option<Self> {
        let mut fields = FieldReader::new(content);
        let (blocks, schemas, sources) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (settled, damage) = (fields.u32()?, fields.u32()?);
        let mut tables = Self::default();
        for _ in 0..blocks {
            tables.blocks.push(fields.i64()?);
        }
        for _ in 0..schemas {
            tables.schemas.push(Arc::new(Schema::from_canonical(fields.sized_bytes()?).ok()?));
        }
        let mut rows_start = 0_u64;
        for _ in 0..sources {
            let (id, number) = (fields.u32()?, fields.u32()?);
            let rows = rows_start..rows_start.checked_add(fields.u64()?)?;
            rows_start = rows.end;
            let epoch = Epoch::from_bytes(fields.array()?);
            let device = DeviceName::try_from(str::from_utf8(fields.sized_bytes()?).ok()?).ok()?;
            tables.sources.push(SourceTable { source: Arc::new(Source { device, epoch, number }), id, rows });
        }
        for _ in 0..settled {
            let (source, row) = decode_settled(&mut fields)?;
            let known =
                (source as usize) < tables.sources.len() && (row.block as usize) < tables.blocks.len();
            tables.settled.push(known.then_some((source, row))?);
        }
        for _ in 0..damage {
            let (offset, range) = (fields.u64()?, fields.u64()?..fields.u64()?);
            let what = str::from_utf8(fields.sized_bytes()?).ok()?.to_owned();
            let positions = (range.start != u64::MAX).then_some(range);
            tables.damage.push(Damage { file: segment.to_path_buf(), offset, what, positions });
        }
        Some(tables)
    }
}

fn encode_settled(out: &mut Vec<u8>, source: u32, row: &SettledRow) {
    let (kind, code, digest) = match row.settled {
        Settled::Dropped => (0_u32, 0, Digest::from_bytes([0; 16])),
        Settled::Refused { code, digest } => (1, u32::from(code), digest),
    };
    for field in [source, kind, code, row.block] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&row.range.start.to_le_bytes());
    out.extend_from_slice(&row.range.end.to_le_bytes());
    out.extend_from_slice(digest.as_bytes());
}

fn decode_settled(fields: &mut FieldReader<'_>) -> Option<(u32, SettledRow)> {
    let (source, kind, code, block) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
    let range = fields.u64()?..fields.u64()?;
    let digest = Digest::from_bytes(fields.array()?);
    let settled = match kind {
        0 => Settled::Dropped,
        1 => Settled::Refused { code: u16::try_from(code).ok()?, digest },
        _ => return None,
    };
    Some((source, SettledRow { range, settled, block }))
}

fn encode_row(out: &mut Vec<u8>, row: &BatchRow) {
    let start = out.len();
    out.extend_from_slice(&row.entry.first_sequence.to_le_bytes());
    out.extend_from_slice(&row.entry.position.to_le_bytes());
    out.extend_from_slice(row.entry.digest.as_bytes());
    for field in [row.entry.count, row.schema, row.block] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    push_crc(out, start);
}

fn decode_row(content: &[u8]) -> Option<BatchRow> {
    let mut fields = FieldReader::new(content);
    let (first_sequence, position) = (fields.u64()?, fields.u64()?);
    let digest = Digest::from_bytes(fields.array()?);
    let (count, schema, block) = (fields.u32()?, fields.u32()?, fields.u32()?);
    Some(BatchRow { entry: BatchEntry { first_sequence, count, digest, position }, schema, block })
}
