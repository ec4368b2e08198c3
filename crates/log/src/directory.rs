//! The batch directory: which batches a segment holds, found without reading it.
//!
//! The directory of the segment being written lives in memory; that of a finished one lies beside it in a `.dir`
//! file, which is derived from the segment and built again when it is missing or damaged.

mod active;
mod file;
mod sealed_ranges;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use icecore_wire::{DeviceName, Digest, Epoch, Schema, SchemaId};

use crate::record::{Record, Source};

pub use active::ActiveDirectory;
pub(crate) use file::{DirectoryFile, Extent};
pub(crate) use sealed_ranges::SealedRanges;
pub(crate) use stored::StoredDirectories;

/// What the log knows of a stored batch without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchEntry {
    /// The sequence of its first event.
    pub first_sequence: u64,
    /// How many events it holds.
    pub count: u32,
    /// The digest of its payload.
    pub digest: Digest,
    /// The position of its first event.
    pub position: u64,
}

/// A segment with this many records is followed by a new one, however small they are: its directory is in memory, with
/// about 64 bytes for each, and a seal keeps those without events in memory.
const MAX_RECORDS: usize = 1 << 20;

/// The directory of one segment in memory.
#[derive(Debug)]
pub(crate) struct Directory {
    first_block: u64,
    /// All rows together.
    records: usize,
    /// The received time of every block.
    blocks: Vec<i64>,
    source_ids: HashMap<(DeviceName, Epoch), u32>,
    sources: Vec<SourceRows>,
    schema_ids: HashMap<SchemaId, u32>,
    schemas: Vec<Arc<Schema>>,
}

#[derive(Debug)]
struct SourceRows {
    source: Arc<Source>,
    batches: Vec<BatchRow>,
    settled: Vec<SettledRow>,
    /// Whether `batches` is in order of sequences. Batches mostly come so; a lookup sorts what did not.
    sorted: bool,
}

#[derive(Debug, Clone, Copy)]
struct BatchRow {
    entry: BatchEntry,
    schema: u32,
    /// Counted from the segment's first block.
    block: u32,
}

#[derive(Debug, Clone)]
struct SettledRow {
    range: Range<u64>,
    settled: Settled,
    /// Counted from the segment's first block.
    block: u32,
}

#[derive(Debug, Clone, Copy)]
enum Settled {
    Refused { code: u16, digest: Digest },
    Dropped,
}

/// The number of a source or schema in its segment, and whether it has to be announced.
pub(crate) struct Numbered {
    pub(crate) id: u32,
    pub(crate) new: bool,
}

impl Directory {
    pub(crate) fn new(first_block: u64) -> Self {
        Self {
            first_block,
            records: 0,
            blocks: Vec::new(),
            source_ids: HashMap::new(),
            sources: Vec::new(),
            schema_ids: HashMap::new(),
            schemas: Vec::new(),
        }
    }

    /// The source's number in this segment.
    pub(crate) fn source(&mut self, source: &Arc<Source>) -> Numbered {
        let next = self.sources.len() as u32;
        let id = *self.source_ids.entry((source.device.clone(), source.epoch)).or_insert(next);
        let new = id == next;
        if new {
            let source = Arc::clone(source);
            self.sources.push(SourceRows { source, batches: Vec::new(), settled: Vec::new(), sorted: true });
        }
        Numbered { id, new }
    }

    /// The schema's number in this segment.
    pub(crate) fn schema(&mut self, schema: &Arc<Schema>) -> Numbered {
        let next = self.schemas.len() as u32;
        let id = *self.schema_ids.entry(schema.id()).or_insert(next);
        let new = id == next;
        if new {
            self.schemas.push(Arc::clone(schema));
        }
        Numbered { id, new }
    }

    /// Adds a batch of the block that is being built.
    pub(crate) fn batch(&mut self, source: u32, schema: u32, entry: BatchEntry) {
        let block = self.blocks.len() as u32;
        let rows = &mut self.sources[source as usize];
        if rows.batches.last().is_some_and(|last| last.entry.first_sequence > entry.first_sequence) {
            rows.sorted = false;
        }
        rows.batches.push(BatchRow { entry, schema, block });
        self.records += 1;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.records >= MAX_RECORDS
    }

    pub(crate) fn refused(&mut self, source: u32, range: Range<u64>, code: u16, digest: Digest) {
        self.settled(source, range, Settled::Refused { code, digest });
    }

    pub(crate) fn dropped(&mut self, source: u32, range: Range<u64>) {
        self.settled(source, range, Settled::Dropped);
    }

    fn settled(&mut self, source: u32, range: Range<u64>, settled: Settled) {
        let block = self.blocks.len() as u32;
        self.sources[source as usize].settled.push(SettledRow { range, settled, block });
        self.records += 1;
    }

    /// Ends the block that is being built.
    pub(crate) fn end_block(&mut self, received: i64) {
        self.blocks.push(received);
    }

    /// Adds a block that was read. Blocks before it that could not be read leave a hole.
    pub(crate) fn read_block(&mut self, number: u64, received: i64, records: &[Record]) {
        let hole = (number - self.first_block) as usize;
        self.blocks.resize(hole, received);
        for record in records {
            let source = self.source(record.source()).id;
            match record {
                Record::Batch(batch) => {
                    let schema = self.schema(&batch.schema).id;
                    self.batch(source, schema, batch.entry());
                }
                Record::Refused(refused) => {
                    self.refused(source, refused.range.clone(), refused.code, refused.digest);
                }
                Record::Dropped(dropped) => self.dropped(source, dropped.range.clone()),
            }
        }
        self.end_block(received);
    }

    /// Finds the batch that begins exactly at `first_sequence`.
    pub(crate) fn find(
        &mut self,
        device: &DeviceName,
        epoch: &Epoch,
        first_sequence: u64,
    ) -> Option<BatchEntry> {
        let id = *self.source_ids.get(&(device.clone(), *epoch))?;
        let rows = &mut self.sources[id as usize];
        rows.sort();
        rows.find(first_sequence)
    }

    /// As [`Directory::find`], in a finished directory.
    pub(crate) fn find_finished(
        &self,
        device: &DeviceName,
        epoch: &Epoch,
        first_sequence: u64,
    ) -> Option<BatchEntry> {
        let id = *self.source_ids.get(&(device.clone(), *epoch))?;
        self.sources[id as usize].find(first_sequence)
    }

    /// Nothing more will be added.
    pub(crate) fn finish(mut self) -> Arc<Self> {
        self.sources.iter_mut().for_each(SourceRows::sort);
        Arc::new(self)
    }
}

impl SourceRows {
    fn sort(&mut self) {
        if !self.sorted {
            self.batches.sort_by_key(|row| row.entry.first_sequence);
            self.sorted = true;
        }
    }

    fn find(&self, first_sequence: u64) -> Option<BatchEntry> {
        let index =
            self.batches.binary_search_by_key(&first_sequence, |row| row.entry.first_sequence).ok()?;
        Some(self.batches[index].entry)
    }
}
