//! What the sources of a seal said, without their events.

use std::collections::{BTreeSet, HashMap};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::Arc;

use icecore_wire::{DeviceName, Digest, Epoch, Schema, SchemaId, SequenceRanges};

use super::codec::damaged;
use crate::error::LogError;
use crate::fields::{FieldReader, push_bytes};
use crate::record::{DroppedRange, Fact, Record, RefusedBatch, Source};

const DROPPED: u32 = 0;
const REFUSED: u32 = 1;

/// What the sources of a seal said: per device and epoch what is stored, and every record without events.
#[derive(Debug, Default)]
pub(crate) struct SealedFacts {
    schemas: Vec<Arc<Schema>>,
    pub(super) sources: Vec<SourceFacts>,
    /// Refusals and drops in log order.
    pub(crate) settled: Vec<Placed>,
}

#[derive(Debug)]
pub(super) struct SourceFacts {
    pub(super) source: Arc<Source>,
    pub(super) stored: SequenceRanges,
    /// The oldest and the newest received time of its batches; empty without any.
    received: RangeInclusive<i64>,
    /// The schemas of its batches.
    schemas: BTreeSet<u32>,
}

/// A record without events, and where it stood in the log.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    /// The number of its block.
    pub(crate) block: u64,
    /// The position of the first event after it.
    pub(crate) position: u64,
    /// Never a batch.
    pub(crate) record: Record,
}

/// Gathers facts in log order.
#[derive(Debug, Default)]
pub(crate) struct FactsBuilder {
    facts: SealedFacts,
    source_ids: HashMap<(DeviceName, Epoch), u32>,
    schema_ids: HashMap<SchemaId, u32>,
}

impl FactsBuilder {
    /// Adds a record of `block`, with `position` events before it.
    pub(crate) fn add(&mut self, record: &Record, block: u64, position: u64) {
        let source = self.source(record.source());
        let Record::Batch(batch) = record else {
            self.facts.settled.push(Placed { block, position, record: record.clone() });
            return;
        };
        let schema = self.schema(&batch.schema);
        let source = &mut self.facts.sources[source];
        source.stored.insert(batch.first_sequence..batch.first_sequence + u64::from(batch.count));
        let (oldest, newest) = (*source.received.start(), *source.received.end());
        source.received = oldest.min(batch.received)..=newest.max(batch.received);
        source.schemas.insert(schema);
    }

    pub(crate) fn finish(self) -> SealedFacts {
        self.facts
    }

    fn source(&mut self, source: &Arc<Source>) -> usize {
        let sources = &mut self.facts.sources;
        let id = *self.source_ids.entry((source.device.clone(), source.epoch)).or_insert_with(|| {
            sources.push(SourceFacts::new(Arc::clone(source)));
            sources.len() as u32 - 1
        });
        id as usize
    }

    fn schema(&mut self, schema: &Arc<Schema>) -> u32 {
        let schemas = &mut self.facts.schemas;
        *self.schema_ids.entry(schema.id()).or_insert_with(|| {
            schemas.push(Arc::clone(schema));
            schemas.len() as u32 - 1
        })
    }
}

impl SourceFacts {
    fn new(source: Arc<Source>) -> Self {
        let received = RangeInclusive::new(i64::MAX, i64::MIN);
        Self { source, stored: SequenceRanges::new(), received, schemas: BTreeSet::new() }
    }
}

impl SealedFacts {
    /// Tells all of them; returns how many they were.
    pub(crate) fn tell(&self, tell: &mut dyn FnMut(&Fact<'_>)) -> u64 {
        let mut told = 0;
        for SourceFacts { source, stored, received, schemas } in &self.sources {
            for schema in schemas {
                tell(&Fact::Schema { source, schema: &self.schemas[*schema as usize] });
                told += 1;
            }
            // Of what is lost there are no sequences; its epoch is known all the same, and keeps its number.
            let nothing = (stored.is_empty() && !received.is_empty()).then_some(0..0);
            for sequences in stored.iter().chain(nothing) {
                tell(&Fact::Sealed { source, sequences, received: received.clone() });
                told += 1;
            }
        }
        for placed in &self.settled {
            tell(&placed.record.fact());
            told += 1;
        }
        told
    }

    /// The stored sequences of every source.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (&Source, Range<u64>)> {
        self.sources.iter().flat_map(|facts| facts.stored.iter().map(|range| (&*facts.source, range)))
    }

    /// The same, for keeps.
    pub(crate) fn into_stored(self) -> Vec<(Arc<Source>, SequenceRanges)> {
        self.sources.into_iter().map(|facts| (facts.source, facts.stored)).collect()
    }

    /// Whether a sequence of a source is stored.
    pub(crate) fn holds(&self, device: &DeviceName, epoch: &Epoch, sequence: u64) -> bool {
        let of = self.ranges().filter(|(source, _)| source.device == *device && source.epoch == *epoch);
        of.map(|(_, range)| range).any(|range| range.contains(&sequence))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for count in [self.schemas.len(), self.sources.len(), self.settled.len()] {
            push_u32(&mut out, count as u32);
        }
        for schema in &self.schemas {
            push_bytes(&mut out, schema.canonical());
        }
        for source in &self.sources {
            source.encode(&mut out);
        }
        let numbers = self.sources.iter().map(|facts| (&facts.source.device, &facts.source.epoch)).zip(0..);
        let numbers: HashMap<_, u32> = numbers.collect();
        for Placed { block, position, record } in &self.settled {
            let source = record.source();
            push_u32(&mut out, numbers[&(&source.device, &source.epoch)]);
            out.extend_from_slice(&block.to_le_bytes());
            out.extend_from_slice(&position.to_le_bytes());
            encode_settled(&mut out, record);
        }
        out
    }

    /// Reads facts back. `file` names the manifest in errors.
    pub(crate) fn decode(bytes: &[u8], file: &Path) -> Result<Self, LogError> {
        Self::decode_fields(bytes).ok_or_else(|| damaged(file, "the manifest's facts are not consistent"))
    }

    fn decode_fields(bytes: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::new(bytes);
        let (schemas, sources, settled) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let mut facts = Self::default();
        for _ in 0..schemas {
            facts.schemas.push(Arc::new(Schema::from_canonical(fields.sized_bytes()?).ok()?));
        }
        for _ in 0..sources {
            facts.sources.push(SourceFacts::decode(&mut fields, schemas)?);
        }
        for _ in 0..settled {
            let source = Arc::clone(&facts.sources.get(fields.u32()? as usize)?.source);
            let (block, position) = (fields.u64()?, fields.u64()?);
            facts.settled.push(Placed { block, position, record: decode_settled(&mut fields, source)? });
        }
        fields.rest().is_empty().then_some(facts)
    }
}

impl SourceFacts {
    fn encode(&self, out: &mut Vec<u8>) {
        let Source { device, epoch, number } = &*self.source;
        push_bytes(out, device.as_str().as_bytes());
        out.extend_from_slice(epoch.as_bytes());
        push_u32(out, *number);
        out.extend_from_slice(&self.received.start().to_le_bytes());
        out.extend_from_slice(&self.received.end().to_le_bytes());
        push_u32(out, self.schemas.len() as u32);
        self.schemas.iter().for_each(|schema| push_u32(out, *schema));
        push_u32(out, self.stored.len() as u32);
        for range in &self.stored {
            out.extend_from_slice(&range.start.to_le_bytes());
            out.extend_from_slice(&range.end.to_le_bytes());
        }
    }

    fn decode(fields: &mut FieldReader<'_>, known_schemas: u32) -> Option<Self> {
        let device = DeviceName::try_from(str::from_utf8(fields.sized_bytes()?).ok()?).ok()?;
        let (epoch, number) = (Epoch::from_bytes(fields.array()?), fields.u32()?);
        let mut facts = Self::new(Arc::new(Source { device, epoch, number }));
        facts.received = fields.i64()?..=fields.i64()?;
        for _ in 0..fields.u32()? {
            let schema = fields.u32().filter(|schema| *schema < known_schemas)?;
            facts.schemas.insert(schema);
        }
        for _ in 0..fields.u32()? {
            let range = fields.u64()?..fields.u64()?;
            if range.is_empty() || range.start < facts.stored.next() {
                return None;
            }
            facts.stored.insert(range);
        }
        Some(facts)
    }
}

fn encode_settled(out: &mut Vec<u8>, record: &Record) {
    let (kind, code, range, digest, message, received) = match record {
        Record::Refused(refused) => {
            let RefusedBatch { range, code, digest, message, received, .. } = refused;
            (REFUSED, u32::from(*code), range, *digest, message.as_str(), received)
        }
        Record::Dropped(DroppedRange { range, received, .. }) => {
            (DROPPED, 0, range, Digest::from_bytes([0; 16]), "", received)
        }
        Record::Batch(_) => unreachable!("only records without events are placed here"),
    };
    push_u32(out, kind);
    push_u32(out, code);
    for field in [range.start, range.end, received.cast_unsigned()] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(digest.as_bytes());
    push_bytes(out, message.as_bytes());
}

fn decode_settled(fields: &mut FieldReader<'_>, source: Arc<Source>) -> Option<Record> {
    let (kind, code) = (fields.u32()?, u16::try_from(fields.u32()?).ok()?);
    let range = fields.u64()?..fields.u64()?;
    let received = fields.i64()?;
    let digest = Digest::from_bytes(fields.array()?);
    let message = str::from_utf8(fields.sized_bytes()?).ok()?.to_owned();
    match kind {
        REFUSED => Some(Record::Refused(RefusedBatch { source, range, code, digest, message, received })),
        DROPPED => Some(Record::Dropped(DroppedRange { source, range, received })),
        _ => None,
    }
}

fn push_u32(out: &mut Vec<u8>, field: u32) {
    out.extend_from_slice(&field.to_le_bytes());
}
