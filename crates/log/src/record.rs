//! What the log holds: sources, and the records about them.

mod raw;

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use icecore_wire::{DeviceName, Digest, Epoch, Payload, Schema};

use crate::directory::BatchEntry;
pub(crate) use raw::{
    BatchFields, RawRecord, pad, parse, push_batch, push_dropped, push_refused, push_schema, push_source,
};

/// One device in one epoch: where batches come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// The device.
    pub device: DeviceName,
    /// The incarnation of its spool.
    pub epoch: Epoch,
    /// The epoch's number: 0, 1, 2… per device, in order of first arrival.
    pub number: u32,
}

/// One record of the log.
#[derive(Debug, Clone)]
pub enum Record {
    /// A stored batch.
    Batch(StoredBatch),
    /// A batch that was refused for good.
    Refused(RefusedBatch),
    /// Sequences the device dropped.
    Dropped(DroppedRange),
}

/// A batch as it is stored.
#[derive(Debug, Clone)]
pub struct StoredBatch {
    /// Its device and epoch.
    pub source: Arc<Source>,
    /// Its schema.
    pub schema: Arc<Schema>,
    /// The sequence of its first event.
    pub first_sequence: u64,
    /// How many events it holds.
    pub count: u32,
    /// The position of its first event.
    pub position: u64,
    /// When its block was cut, in nanoseconds since the Unix epoch.
    pub received: i64,
    /// The digest of the payload as it came.
    pub digest: Digest,
    /// The batch as it came; from a sealed segment, made anew of the same rows, unless they do not fit a plain payload.
    pub payload: Payload,
    /// Whether the device had compressed it, so that the log did not.
    pub compressed: bool,
}

/// A batch that was refused for good.
#[derive(Debug, Clone)]
pub struct RefusedBatch {
    /// Its device and epoch.
    pub source: Arc<Source>,
    /// The sequences it had.
    pub range: Range<u64>,
    /// Why: a number of `icecore_wire`'s `Code`, possibly of a later version.
    pub code: u16,
    /// The digest of its payload.
    pub digest: Digest,
    /// Why, in words.
    pub message: String,
    /// When its block was cut, in nanoseconds since the Unix epoch.
    pub received: i64,
}

/// Sequences the device dropped.
#[derive(Debug, Clone)]
pub struct DroppedRange {
    /// Their device and epoch.
    pub source: Arc<Source>,
    /// The sequences.
    pub range: Range<u64>,
    /// When their block was cut, in nanoseconds since the Unix epoch.
    pub received: i64,
}

impl StoredBatch {
    pub(crate) fn entry(&self) -> BatchEntry {
        let Self { first_sequence, count, digest, position, .. } = *self;
        BatchEntry { first_sequence, count, digest, position }
    }
}

impl Record {
    /// Who it is about.
    #[must_use]
    pub fn source(&self) -> &Arc<Source> {
        match self {
            Self::Batch(batch) => &batch.source,
            Self::Refused(refused) => &refused.source,
            Self::Dropped(dropped) => &dropped.source,
        }
    }

    /// When its block was cut, in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn received(&self) -> i64 {
        match self {
            Self::Batch(batch) => batch.received,
            Self::Refused(refused) => refused.received,
            Self::Dropped(dropped) => dropped.received,
        }
    }

    /// What it says without its events.
    #[must_use]
    pub fn fact(&self) -> Fact<'_> {
        match self {
            Self::Batch(batch) => Fact::Batch {
                source: &batch.source,
                schema: &batch.schema,
                first_sequence: batch.first_sequence,
                count: batch.count,
                position: batch.position,
                received: batch.received,
                digest: batch.digest,
            },
            Self::Refused(refused) => Fact::Refused {
                source: &refused.source,
                range: refused.range.clone(),
                code: refused.code,
                digest: refused.digest,
                received: refused.received,
            },
            Self::Dropped(dropped) => Fact::Dropped {
                source: &dropped.source,
                range: dropped.range.clone(),
                received: dropped.received,
            },
        }
    }
}
impl Fact<'_> {
    /// Who it is about.
    #[must_use]
    pub fn source(&self) -> &Arc<Source> {
        match self {
            Self::Batch { source, .. }
            | Self::Refused { source, .. }
            | Self::Dropped { source, .. }
            | Self::Sealed { source, .. }
            | Self::Schema { source, .. } => source,
        }
    }
}

/// What recovery and [`LogReader::facts`](crate::LogReader::facts) tell about one record, without its events.
///
/// Facts of the newest segment come in position order; those of an older one come from its batch directory,
/// grouped by source. Those of sealed segments come from the manifest, which keeps sequences, not batches.
#[derive(Debug)]
pub enum Fact<'a> {
    /// A batch is stored.
    Batch {
        /// Its device and epoch.
        source: &'a Arc<Source>,
        /// Its schema.
        schema: &'a Arc<Schema>,
        /// The sequence of its first event.
        first_sequence: u64,
        /// How many events it holds.
        count: u32,
        /// The position of its first event.
        position: u64,
        /// When its block was cut, in nanoseconds since the Unix epoch.
        received: i64,
        /// The digest of its payload.
        digest: Digest,
    },
    /// A batch was refused for good.
    Refused {
        /// Its device and epoch.
        source: &'a Arc<Source>,
        /// The sequences it had.
        range: Range<u64>,
        /// Why: a number of `icecore_wire`'s `Code`, possibly of a later version.
        code: u16,
        /// The digest of its payload.
        digest: Digest,
        /// When its block was cut, in nanoseconds since the Unix epoch.
        received: i64,
    },
    /// The device said that it dropped these sequences.
    Dropped {
        /// Its device and epoch.
        source: &'a Arc<Source>,
        /// The sequences it dropped.
        range: Range<u64>,
        /// When its block was cut, in nanoseconds since the Unix epoch.
        received: i64,
    },
    /// These sequences are stored, in batches that were sealed.
    Sealed {
        /// Their device and epoch.
        source: &'a Arc<Source>,
        /// The sequences.
        sequences: Range<u64>,
        /// From the oldest to the newest received time of what was sealed of this source at once, in nanoseconds since
        /// the Unix epoch.
        received: RangeInclusive<i64>,
    },
    /// Some of the sealed batches of this source have this schema.
    Schema {
        /// Their device and epoch.
        source: &'a Arc<Source>,
        /// The schema.
        schema: &'a Arc<Schema>,
    },
}
