//! What a block holds, for the state that is folded from it.

use std::ops::Range;
use std::sync::Arc;

use icecore_log::{Fact, Source};
use icecore_state::{Fleet, Recent};
use icecore_wire::{Batch, Digest};

/// What a durable block holds, its events as they were validated: whatever a device had compressed was decoded once.
#[derive(Debug)]
pub struct BlockContent {
    pub(super) entries: Vec<Entry>,
    /// Its received time in nanoseconds since the Unix epoch.
    pub(super) received: i64,
}

/// One record of a block.
#[derive(Debug)]
pub(super) enum Entry {
    Batch { source: Arc<Source>, batch: Batch, position: u64, digest: Digest },
    Refused { source: Arc<Source>, range: Range<u64>, code: u16, digest: Digest },
    Dropped { source: Arc<Source>, range: Range<u64> },
}

impl BlockContent {
    /// When it was received, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn received(&self) -> i64 {
        self.received
    }

    /// Takes it into the states of its devices.
    pub fn fold_into(&self, fleet: &mut Fleet) {
        for entry in &self.entries {
            let fact = entry.fact(self.received);
            match entry {
                Entry::Batch { batch, .. } => fleet.take(&fact, self.received, batch),
                Entry::Refused { .. } | Entry::Dropped { .. } => fleet.apply(&fact),
            }
        }
    }

    /// Has `recent` take note of its events.
    pub(super) fn note_in(&self, recent: &mut Recent) {
        for entry in &self.entries {
            if let Entry::Batch { source, batch, position, .. } = entry {
                recent.note(&source.device, *position, batch);
            }
        }
    }
}

impl Entry {
    /// What it says without its events, if it is received at `received`.
    pub(super) fn fact(&self, received: i64) -> Fact<'_> {
        match self {
            Self::Batch { source, batch, position, digest } => Fact::Batch {
                source,
                schema: batch.schema(),
                first_sequence: batch.first_sequence(),
                count: batch.count(),
                position: *position,
                received,
                digest: *digest,
            },
            Self::Refused { source, range, code, digest } => {
                Fact::Refused { source, range: range.clone(), code: *code, digest: *digest, received }
            }
            Self::Dropped { source, range } => Fact::Dropped { source, range: range.clone(), received },
        }
    }
}
