//! Which sealed segments may hold a batch: by the sequences that manifests name, so that no other segment is opened.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use icecore_wire::{DeviceName, Epoch};

use crate::error::LogError;
use crate::manifest::{self, CurrentSegment, Manifest, SealedFacts, SealedPart};
use crate::sealed_store::SealedStore;
use crate::segment_id::SegmentId;

/// Bytes of ranges in memory, over all manifests: those of the newest. Older manifests are read when nothing newer has the batch.
const MAX_BYTES: usize = 64 << 20;

/// The sealed segments that count, each under the manifest that sealed its batches first.
#[derive(Default)]
pub(crate) struct SealedRanges {
    parts: BTreeMap<u64, Vec<CurrentSegment>>,
    ranges: Cache,
}

/// The ranges of the newest manifests.
#[derive(Default)]
struct Cache {
    hasher: RandomState,
    /// By manifest, in order.
    kept: BTreeMap<u64, Box<[Stored]>>,
    bytes: usize,
}

/// What may hold a batch.
pub(crate) struct Candidates {
    /// Segments, oldest manifest first.
    pub(crate) segments: Vec<SegmentId>,
    /// Manifests that have to be read to know, newest first.
    pub(crate) unread: Vec<u64>,
}

/// A range of sequences of a source, which is named by its hash: whose hash is the same is looked for in vain, no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stored {
    source: u64,
    start: u64,
    end: u64,
}

impl SealedRanges {
    /// Adds what was sealed.
    pub(crate) fn add_parts(&mut self, parts: Vec<SealedPart>) {
        for part in parts {
            self.parts.entry(part.manifest.number).or_default().extend(part.segments);
        }
    }

    /// Keeps what a manifest says in mind.
    pub(crate) fn learn(&mut self, manifest: u64, facts: &SealedFacts) {
        self.ranges.keep(manifest, facts);
    }

    /// Takes note of a seal.
    pub(crate) fn sealed(&mut self, manifest: &Manifest) {
        let new = manifest.segments().map(|(id, child)| CurrentSegment { id, child: child.clone() });
        let replaced: Vec<SegmentId> = manifest.replaced().collect();
        let part = self.parts.values_mut().find(|part| part.iter().any(|old| replaced.contains(&old.id)));
        match part {
            Some(part) => {
                part.retain(|segment| !replaced.contains(&segment.id));
                part.extend(new);
            }
            None => self.parts.entry(manifest.number).or_default().extend(new),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.parts.values().map(Vec::len).sum()
    }

    /// A segment that counts.
    pub(crate) fn get(&self, id: SegmentId) -> Option<&CurrentSegment> {
        // Only what came of a split is not under its own manifest.
        let own = self.parts.get(&id.manifest).into_iter();
        own.chain(self.parts.values()).flatten().find(|segment| segment.id == id)
    }

    /// What may hold a batch, as far as it is in memory.
    pub(crate) fn candidates(&self, device: &DeviceName, epoch: &Epoch, first_sequence: u64) -> Candidates {
        let mut candidates = Candidates { segments: Vec::new(), unread: Vec::new() };
        let source = self.ranges.source(device, epoch);
        for (&manifest, segments) in &self.parts {
            match self.ranges.holds(manifest, source, first_sequence) {
                Some(true) => candidates.segments.extend(segments.iter().map(|segment| segment.id)),
                Some(false) => {}
                None => candidates.unread.push(manifest),
            }
        }
        candidates.unread.reverse();
        candidates
    }

    /// The segments of a manifest if it says that they may hold a batch. A damaged one rules nothing out.
    pub(crate) fn read(
        &mut self,
        store: &SealedStore,
        manifest: u64,
        (device, epoch, first_sequence): (&DeviceName, &Epoch, u64),
    ) -> Result<Vec<SegmentId>, LogError> {
        match manifest::read_facts(&*store.disk, &store.layout, manifest) {
            Ok(facts) => {
                self.ranges.keep(manifest, &facts);
                if !facts.holds(device, epoch, first_sequence) {
                    return Ok(Vec::new());
                }
            }
            Err(LogError::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
        let segments = self.parts.get(&manifest).into_iter().flatten();
        Ok(segments.map(|segment| segment.id).collect())
    }
}

impl Cache {
    fn source(&self, device: &DeviceName, epoch: &Epoch) -> u64 {
        self.hasher.hash_one((device, epoch))
    }

    /// Whether a manifest names this sequence; `None` if what it names is not in memory.
    fn holds(&self, manifest: u64, source: u64, sequence: u64) -> Option<bool> {
        let ranges = self.kept.get(&manifest)?;
        let behind = ranges.partition_point(|stored| (stored.source, stored.start) <= (source, sequence));
        let before = ranges[..behind].last();
        Some(before.is_some_and(|stored| stored.source == source && sequence < stored.end))
    }

    fn keep(&mut self, manifest: u64, facts: &SealedFacts) {
        let stored = facts.ranges().map(|(source, Range { start, end })| {
            let source = self.source(&source.device, &source.epoch);
            Stored { source, start, end }
        });
        let mut ranges: Box<[Stored]> = stored.collect();
        ranges.sort_unstable();
        self.bytes += size_of_val(&*ranges);
        self.kept.insert(manifest, ranges);
        while self.bytes > MAX_BYTES
            && let Some((_, oldest)) = self.kept.pop_first()
        {
            self.bytes -= size_of_val(&*oldest);
        }
    }
}
