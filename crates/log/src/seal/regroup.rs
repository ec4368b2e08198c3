//! From the batches of the sources to children, one or more per class.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use icecore_wire::Payload;

use super::child_file::ChildFile;
use super::{Classify, Pace, Sealer};
use crate::block::{Announced, BlockReader, DecodedBlock};
use crate::directory::DirectoryFile;
use crate::error::{Damage, LogError};
use crate::manifest::{Child, CurrentSegment, FactsBuilder, Lost, Manifest, SealSource};
use crate::record::{Record, StoredBatch};
use crate::sealed::{MAX_BATCHES, RowQuery, SealedSummary, SealedWriter};
use crate::sealed_store::SealedStore;
use crate::segment::SegmentHeader;
use crate::segment_id::SegmentId;
use crate::walk::{Limits, Step, Walk};

/// Bytes of payloads in memory. When there are more, the class that has most is written.
const MAX_BYTES: u64 = 256 << 20;

/// Children of one seal. Classes are what policies name, and there are few.
const MAX_CHILDREN: usize = 4096;

/// Why a seal did not happen.
pub(super) enum GivenUp {
    BrokenOff,
    Failed(LogError),
}

impl From<LogError> for GivenUp {
    fn from(error: LogError) -> Self {
        Self::Failed(error)
    }
}

/// The children of a seal on their way.
pub(super) struct Regroup<'a, 'p> {
    sealer: &'a Sealer,
    manifest: u64,
    /// Of the sources.
    positions: Range<u64>,
    classify: &'a Classify<'a>,
    pace: &'a mut Pace<'p>,
    /// The children being gathered, by class.
    open: BTreeMap<Arc<str>, SealedWriter>,
    /// Bytes of payloads in them.
    bytes: u64,
    children: Vec<Child>,
    lost: Vec<Lost>,
    facts: FactsBuilder,
    received: i64,
}

/// What a manifest says of what was made.
pub(super) struct Made {
    pub(super) children: Vec<Child>,
    pub(super) lost: Vec<Lost>,
    pub(super) facts: Vec<u8>,
    /// The newest received time.
    pub(super) received: i64,
}

impl<'a, 'p> Regroup<'a, 'p> {
    pub(super) fn new(
        sealer: &'a Sealer,
        outline: &Manifest,
        classify: &'a Classify<'a>,
        pace: &'a mut Pace<'p>,
    ) -> Self {
        Self {
            sealer,
            manifest: outline.number,
            positions: outline.positions.clone(),
            classify,
            pace,
            open: BTreeMap::new(),
            bytes: 0,
            children: Vec::new(),
            lost: Vec::new(),
            facts: FactsBuilder::default(),
            received: i64::MIN,
        }
    }

    /// Takes in a finished hot segment, from its first block to its last. `next` is the one after it.
    pub(super) fn hot_segment(
        &mut self,
        header: &SegmentHeader,
        next: &SegmentHeader,
    ) -> Result<SealSource, GivenUp> {
        let SealedStore { disk, layout, .. } = &self.sealer.store;
        let mut walk = Walk::open(&**disk, layout, header, Limits::up_to(next))?;
        let mut reader = BlockReader::new();
        // A damaged block may have announced what those after it refer to.
        let directory = DirectoryFile::open(&**disk, layout, header)?;
        let mut announced = directory.and_then(|directory| directory.announced()).unwrap_or_default();
        loop {
            match walk.next_block(&mut reader)? {
                Step::Block(mut block) => {
                    self.block(&walk, &mut block, &mut announced)?;
                    self.step(walk.at.offset - walk.before.offset)?;
                    reader.recycle(block);
                }
                Step::Damage(damage) => self.lose(damage)?,
                Step::End => break,
            }
        }
        let end = (walk.at.block, walk.at.position, walk.at.chain.unwrap_or(next.chain));
        if end != (next.first_block, next.first_position, next.chain) {
            let file = layout.segment(next.number);
            let what = "the segment does not continue the hash chain of the one before it".to_owned();
            self.lose(Damage { file, offset: 0, what, positions: None })?;
        }
        Ok(SealSource::Hot {
            number: header.number,
            blocks: header.first_block..next.first_block,
            positions: header.first_position..next.first_position,
            chain: next.chain,
        })
    }

    /// Goes on without what is damaged, if the operator has accepted that.
    pub(super) fn lose(&mut self, damage: Damage) -> Result<(), GivenUp> {
        if !self.sealer.accepts(&damage) {
            return Err(LogError::from(damage).into());
        }
        let what = format!("{}, {}", damage.name(), damage.what);
        let positions = damage.positions.unwrap_or_else(|| self.positions.clone());
        self.lost.push(Lost { positions, what });
        Ok(())
    }

    fn block(
        &mut self,
        walk: &Walk,
        block: &mut DecodedBlock,
        announced: &mut Announced,
    ) -> Result<(), GivenUp> {
        let (number, positions) = (block.header.number, block.header.positions());
        self.received = self.received.max(block.header.received);
        let mut position = positions.start;
        let mut faulty = false;
        while let Some(record) = block.next_record(announced) {
            let record = match record {
                Ok(record) => record,
                Err(_) if faulty => continue,
                Err(what) => {
                    faulty = true;
                    let (file, offset) = (walk.path.clone(), walk.before.offset);
                    self.lose(Damage { file, offset, what, positions: Some(positions.clone()) })?;
                    continue;
                }
            };
            self.facts.add(&record, number, position);
            if let Record::Batch(batch) = record {
                position = batch.position + u64::from(batch.count);
                // The block's buffer is shared by batches of other classes, which may be written much later.
                let payload = Payload::copy_from(&batch.payload);
                self.batch(StoredBatch { payload, ..batch })?;
            }
        }
        Ok(())
    }

    /// Takes in a sealed segment.
    pub(super) fn sealed_segment(&mut self, segment: &CurrentSegment) -> Result<SealSource, GivenUp> {
        let open = self.sealer.store.open(segment)?;
        for batch in open.in_log_order(&RowQuery::default())? {
            let batch = batch?;
            self.step(batch.payload.len() as u64)?;
            self.batch(batch)?;
        }
        Ok(SealSource::Sealed { id: segment.id, root: segment.child.root })
    }

    /// Writes the children that are still open.
    pub(super) fn finish(mut self) -> Result<Made, GivenUp> {
        while let Some((class, writer)) = self.open.pop_first() {
            self.write(&class, writer)?;
        }
        let facts = self.facts.finish().encode();
        Ok(Made { children: self.children, lost: self.lost, facts, received: self.received })
    }

    fn batch(&mut self, batch: StoredBatch) -> Result<(), GivenUp> {
        let class = (self.classify)(&batch.schema, &batch.source.device, batch.received);
        let log = self.sealer.log;
        let writer = self.open.entry(Arc::clone(&class)).or_insert_with(|| SealedWriter::new(log));
        self.bytes += batch.payload.len() as u64;
        writer.push(batch);
        let full = if writer.batches() >= MAX_BATCHES {
            Some(class)
        } else if self.bytes >= MAX_BYTES {
            self.open.iter().max_by_key(|(_, writer)| writer.bytes()).map(|(class, _)| Arc::clone(class))
        } else {
            None
        };
        match full.and_then(|class| self.open.remove_entry(&class)) {
            Some((class, writer)) => self.write(&class, writer),
            None => Ok(()),
        }
    }

    /// Writes one child.
    fn write(&mut self, class: &str, writer: SealedWriter) -> Result<(), GivenUp> {
        if self.children.len() >= MAX_CHILDREN {
            let what = format!("a seal makes at most {MAX_CHILDREN} segments; name fewer retention classes");
            return Err(LogError::Foreign { file: self.sealer.store.layout.sealed.clone(), what }.into());
        }
        self.bytes -= writer.bytes();
        let id = SegmentId { manifest: self.manifest, child: self.children.len() as u32 };
        let path = self.sealer.store.layout.sealed(id);
        let mut file = ChildFile::create(&*self.sealer.store.disk, path.clone(), self.pace)?;
        let summary = match writer.finish(&mut file, path) {
            Ok(summary) => summary,
            Err(_) if file.is_broken_off() => return Err(GivenUp::BrokenOff),
            Err(error) => return Err(error.into()),
        };
        file.finish()?;
        let child = child(class, &summary);
        // The sources are about to go: what cannot be opened is no child.
        self.sealer.store.open(&CurrentSegment { id, child: child.clone() })?;
        self.children.push(child);
        Ok(())
    }

    fn step(&mut self, bytes: u64) -> Result<(), GivenUp> {
        match (self.pace)(bytes) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(GivenUp::BrokenOff),
        }
    }
}

fn child(class: &str, summary: &SealedSummary) -> Child {
    let SealedSummary { root, bytes, rows, batches, .. } = *summary;
    let (positions, received, times) =
        (summary.positions.clone(), summary.received.clone(), summary.times.clone());
    Child { class: class.to_owned(), root, bytes, rows, batches, positions, received, times }
}
