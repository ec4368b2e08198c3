//! What the clients were promised: the batches that were acked as durable.

use std::collections::BTreeMap;
use std::ops::Range;

use icecore_wire::{DeviceName, Digest, Epoch};

/// Every batch acked as durable, as its client knew it when it sent it.
#[derive(Debug, Default)]
pub(super) struct Acked {
    sources: BTreeMap<(DeviceName, Epoch), Vec<AckedBatch>>,
    batches: u64,
    events: u64,
}

/// One acked batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AckedBatch {
    pub(super) sequences: Range<u64>,
    /// Digest of the bytes that were sent.
    pub(super) digest: Digest,
}

impl Acked {
    /// Notes that `batch` of `device` in `epoch` was acked.
    pub(super) fn record(&mut self, device: DeviceName, epoch: Epoch, batch: AckedBatch) {
        self.batches += 1;
        self.events += batch.sequences.end - batch.sequences.start;
        self.sources.entry((device, epoch)).or_default().push(batch);
    }

    /// Batches acked so far.
    pub(super) fn batches(&self) -> u64 {
        self.batches
    }

    /// Events in them.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// The acked batches of each device and epoch.
    pub(super) fn sources(&self) -> impl Iterator<Item = (&(DeviceName, Epoch), &[AckedBatch])> {
        self.sources.iter().map(|(source, batches)| (source, batches.as_slice()))
    }
}
