//! A device's spool: epochs, each with the batches that the server has not settled.

use std::collections::BTreeMap;
use std::ops::Range;

use icecore_wire::{Epoch, SequenceRanges};

use crate::sample::Sample;

/// What becomes of a spool when its device restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpoolFate {
    /// Closed cleanly: the epoch goes on.
    Kept,
    /// Everything synced is there, but new data start a new epoch.
    Unclean,
    /// Gone.
    Wiped,
}

/// One incarnation of the spool.
#[derive(Debug)]
pub(crate) struct SpooledEpoch {
    pub(crate) epoch: Epoch,
    /// The sequence that the next event gets.
    pub(crate) next: u64,
    /// Batches that are not settled, by first sequence.
    pub(crate) batches: BTreeMap<u64, SpooledBatch>,
    /// Sequences that the device gave up, and that the server has not settled.
    pub(crate) dropped: SequenceRanges,
}

#[derive(Debug)]
pub(crate) struct SpooledBatch {
    pub(crate) sample: Sample,
    /// Not to be sent before this time, because the server said so; microseconds.
    pub(crate) not_before: u64,
}

impl SpooledEpoch {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self { epoch, next: 0, batches: BTreeMap::new(), dropped: SequenceRanges::new() }
    }

    pub(crate) fn push(&mut self, sample: Sample) {
        self.next = sample.range().end;
        self.batches.insert(sample.first_sequence, SpooledBatch { sample, not_before: 0 });
    }

    /// Whether the server has settled everything.
    pub(crate) fn is_drained(&self) -> bool {
        self.batches.is_empty() && self.dropped.is_empty()
    }

    /// Takes out the batches that lie within `ranges`.
    pub(crate) fn take_within(&mut self, ranges: &SequenceRanges) -> Vec<Sample> {
        let within = |batch: &SpooledBatch| ranges.covers(&batch.sample.range());
        self.batches.extract_if(.., |_, batch| within(batch)).map(|(_, batch)| batch.sample).collect()
    }

    /// Gives the oldest batch up.
    pub(crate) fn drop_oldest(&mut self) -> Option<Range<u64>> {
        let (_, batch) = self.batches.pop_first()?;
        let range = batch.sample.range();
        self.dropped.insert(range.clone());
        Some(range)
    }
}
