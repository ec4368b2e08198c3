//! From the bytes of a block to its records.

use std::io;
use std::sync::Arc;

use icecore_wire::{Payload, Schema};
use rkyv::util::AlignedVec;
use zstd::bulk::Decompressor;

use super::{BLOCK_HEADER_BYTES, BlockHeader, Codec};
use crate::disk::DiskFile;
use crate::record::{BatchFields, DroppedRange, RawRecord, Record, RefusedBatch, Source, StoredBatch, parse};

/// Reads and unpacks blocks; keeps its context and, once nobody holds their payloads any more, its buffers.
pub(crate) struct BlockReader {
    decompressor: Decompressor<'static>,
    body: AlignedVec<16>,
    plain: AlignedVec<16>,
}

impl BlockReader {
    pub(crate) fn new() -> Self {
        let decompressor = Decompressor::new().expect("a context of some hundred KB can be allocated");
        Self { decompressor, body: AlignedVec::new(), plain: AlignedVec::new() }
    }

    /// Reads and checks the block with this header at `offset`. The inner error says what is wrong with it.
    pub(crate) fn read(
        &mut self,
        file: &dyn DiskFile,
        offset: u64,
        header: BlockHeader,
    ) -> io::Result<Result<DecodedBlock, String>> {
        // Not cleared before: a buffer that is only filled anew needs no zeros.
        self.body.resize(header.body_len(), 0);
        let len = file.read_at(&mut self.body, offset + BLOCK_HEADER_BYTES as u64)?;
        if len < self.body.len() {
            return Ok(Err(format!("block {} is cut short", header.number)));
        }
        Ok(header.check_body(&self.body).and_then(|()| self.unpack(header)))
    }

    fn unpack(&mut self, header: BlockHeader) -> Result<DecodedBlock, String> {
        let plain_len = header.plain_len as usize;
        let plain = match header.codec {
            Codec::Stored => None,
            Codec::Zstd => {
                let mut plain = std::mem::take(&mut self.plain);
                plain.resize(plain_len, 0);
                let packed = &self.body[..header.packed_len as usize];
                let unpacked = self.decompressor.decompress_to_buffer(packed, &mut plain[..]);
                if !matches!(unpacked, Ok(len) if len == plain_len) {
                    return Err(format!("block {} does not unpack to {plain_len} bytes", header.number));
                }
                Some(Payload::from(plain))
            }
        };
        // The body is shared with the payloads only where they lie in it.
        let body = if plain.is_none() || header.verbatim_len > 0 {
            Payload::from(std::mem::take(&mut self.body))
        } else {
            Payload::from(AlignedVec::new())
        };
        let plain = plain.unwrap_or_else(|| body.slice(0..plain_len));
        let (position, verbatim_at) = (header.first_position, header.verbatim_start());
        Ok(DecodedBlock { records_left: header.records, header, body, plain, at: 0, verbatim_at, position })
    }

    /// Takes a block's buffers back.
    pub(crate) fn recycle(&mut self, block: DecodedBlock) {
        if let Some(plain) = block.plain.into_buffer() {
            self.plain = plain;
        }
    }
}

/// A block in memory, and the next record in it.
pub(crate) struct DecodedBlock {
    pub(crate) header: BlockHeader,
    body: Payload,
    plain: Payload,
    records_left: u32,
    at: usize,
    verbatim_at: usize,
    position: u64,
}

impl DecodedBlock {
    /// The next record. An error says what is wrong with it; those after it can be read all the same, unless it
    /// cannot be parsed at all.
    pub(crate) fn next_record(&mut self, announced: &mut Announced) -> Option<Result<Record, String>> {
        while self.records_left > 0 {
            self.records_left -= 1;
            let Some((raw, next)) = parse(&self.plain, self.at) else {
                self.records_left = 0;
                return Some(Err(format!("block {} holds something that is no record", self.header.number)));
            };
            self.at = next;
            match raw {
                RawRecord::Source { id, source } => announced.source(id, source),
                RawRecord::Schema { id, schema } => announced.schema(id, schema),
                RawRecord::Batch { fields, payload } => return Some(self.batch(announced, &fields, payload)),
                RawRecord::Refused { source, range, code, digest, message } => {
                    let received = self.header.received;
                    return Some(announced.find_source(source).map(|source| {
                        let message = message.to_owned();
                        Record::Refused(RefusedBatch { source, range, code, digest, message, received })
                    }));
                }
                RawRecord::Dropped { source, range } => {
                    let received = self.header.received;
                    let source = announced.find_source(source);
                    return Some(
                        source.map(|source| Record::Dropped(DroppedRange { source, range, received })),
                    );
                }
            }
        }
        None
    }

    fn batch(
        &mut self,
        announced: &Announced,
        fields: &BatchFields,
        inline: std::ops::Range<usize>,
    ) -> Result<Record, String> {
        let position = self.position;
        self.position += u64::from(fields.count);
        let payload = if fields.verbatim {
            let start = self.verbatim_at;
            let end = start + fields.payload_len as usize;
            if end > self.body.len() {
                return Err(format!("a batch reaches beyond the end of block {}", self.header.number));
            }
            self.verbatim_at = end.next_multiple_of(16);
            self.body.slice(start..end)
        } else {
            self.plain.slice(inline)
        };
        Ok(Record::Batch(StoredBatch {
            source: announced.find_source(fields.source)?,
            schema: announced.find_schema(fields.schema)?,
            first_sequence: fields.first_sequence,
            count: fields.count,
            position,
            received: self.header.received,
            digest: fields.digest,
            payload,
            compressed: fields.verbatim,
        }))
    }
}

/// The sources and schemas a segment has announced so far, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    sources: Vec<Option<Arc<Source>>>,
    schemas: Vec<Option<Arc<Schema>>>,
}

impl Announced {
    pub(crate) fn source(&mut self, id: u32, source: Arc<Source>) {
        announce(&mut self.sources, id, source);
    }

    pub(crate) fn schema(&mut self, id: u32, schema: Arc<Schema>) {
        announce(&mut self.schemas, id, schema);
    }

    fn find_source(&self, id: u32) -> Result<Arc<Source>, String> {
        let source = self.sources.get(id as usize).cloned().flatten();
        source.ok_or_else(|| format!("source {id} was announced in a block that cannot be read"))
    }

    fn find_schema(&self, id: u32) -> Result<Arc<Schema>, String> {
        let schema = self.schemas.get(id as usize).cloned().flatten();
        schema.ok_or_else(|| format!("schema {id} was announced in a block that cannot be read"))
    }
}

/// More sources or schemas than this cannot be announced in one segment.
const MAX_ANNOUNCED: usize = 1 << 24;

fn announce<T>(table: &mut Vec<Option<Arc<T>>>, id: u32, value: Arc<T>) {
    let id = id as usize;
    if id >= MAX_ANNOUNCED {
        return;
    }
    if table.len() <= id {
        table.resize(id + 1, None);
    }
    // What is known already stays: the batches of a source share one allocation.
    table[id].get_or_insert(value);
}
