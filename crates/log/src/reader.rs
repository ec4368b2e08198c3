//! Reading the log, beside a running writer or without one.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use icecore_wire::{DeviceName, Digest, Payload, Schema};

use crate::disk::Disk;
use crate::error::{Damage, LogError};
use crate::fact::{Fact, Source};

/// What to do about damage while reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDamage {
    /// Yield it as an error and end.
    #[default]
    Fail,
    /// Read around it; [`Records::damage`] lists what was passed over.
    Skip,
}

/// What to read.
#[derive(Default)]
pub struct Scan<'a> {
    /// Records whose events lie, at least in part, in these positions; all where `None`. Whole batches are yielded.
    pub positions: Option<Range<u64>>,
    /// Only records of devices for which this holds.
    pub devices: Option<Box<dyn Fn(&DeviceName) -> bool + 'a>>,
    /// What to do about damage.
    pub on_damage: OnDamage,
}

impl fmt::Debug for Scan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("positions", &self.positions)
            .field("on_damage", &self.on_damage)
            .finish()
    }
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
    /// The digest of `payload`.
    pub digest: Digest,
    /// The batch as it came.
    pub payload: Payload,
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

/// A view of the log as it was when it was opened.
#[derive(Debug)]
pub struct LogReader {}

impl LogReader {
    /// Opens the log in the data directory `data`: up to what the running writer has published, or, without a
    /// writer, up to the last whole block.
    pub fn open(disk: Arc<dyn Disk>, data: &Path) -> Result<Self, LogError> {
        let _ = (disk, data);
        unimplemented!()
    }

    /// The positions this view holds.
    #[must_use]
    pub fn positions(&self) -> Range<u64> {
        unimplemented!()
    }

    /// Reads records in position order, in constant memory.
    #[must_use]
    pub fn scan<'a>(&'a self, scan: Scan<'a>) -> Records<'a> {
        unimplemented!("{scan:?}")
    }

    /// Tells every fact of the log, without reading events where a batch directory saves it.
    pub fn facts(&self, tell: &mut dyn FnMut(&Fact<'_>)) -> Result<(), LogError> {
        let _ = tell;
        unimplemented!()
    }
}

/// The records of a [`Scan`].
#[derive(Debug)]
pub struct Records<'a> {
    scan: Scan<'a>,
}

impl Records<'_> {
    /// The damage passed over so far.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        unimplemented!("{:?}", self.scan)
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        unimplemented!()
    }
}
