//! Who sent what: sources, and the facts the log holds about them.

use std::ops::Range;
use std::sync::Arc;

use icecore_wire::{DeviceName, Digest, Epoch, Schema};

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

/// What recovery and [`LogReader::facts`](crate::LogReader::facts) tell about one record, without its events.
///
/// Facts of the newest segment come in position order; those of an older one come from its batch directory,
/// grouped by source.
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
}
