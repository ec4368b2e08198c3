//! Sealed segments: immutable columnar files of batches, regrouped by schema and device.
//!
//! A [`SealedWriter`] takes the batches of one retention class and writes one file; a [`SealedSegment`] reads it, by
//! rows of chosen devices or in the order of the log, through any [`ReadAt`]. The bytes are described in
//! `docs/format.md`.

mod bits;
mod cells;
mod column;
mod file;
mod footer;
mod footers;
mod group;
mod limits;
mod listing;
mod log_order;
mod numbers;
mod rows;
mod section;
mod segment;
mod statistics;
#[cfg(test)]
mod tests;
mod texts;
mod trailer;
mod varint;
mod verify;
mod writer;

use std::io;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use icecore_wire::Schema;

use crate::directory::BatchEntry;
use crate::disk::DiskFile;
use crate::record::Source;
pub use cells::{SealedColumn, SealedValues};
pub use footers::Footers;
pub use limits::MAX_BATCHES;
pub use log_order::InLogOrder;
pub use rows::{BatchPart, OpenRowGroup, RowGroup, RowQuery, Rows, SchemaFilter};
pub use segment::{Entries, SealedSegment};
pub use statistics::{Extremes, Statistics};
use trailer::Trailer;
pub use writer::SealedWriter;

/// What was decoded, or what is wrong with it; where is added further out.
type Decoded<T> = Result<T, String>;

/// Bytes that never change and can be read at any place: a local file, or an object that answers range requests.
pub trait ReadAt: Send + Sync {
    /// How many bytes there are.
    fn len(&self) -> io::Result<u64>;
    /// Whether there are none.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `buf` with the bytes from `offset` on. There being fewer is an error (`UnexpectedEof`).
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for Arc<dyn DiskFile> {
    fn len(&self) -> io::Result<u64> {
        DiskFile::len(&**self)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buf.len() {
            match DiskFile::read_at(&**self, &mut buf[filled..], offset + filled as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.as_slice().len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let found = usize::try_from(offset).ok().and_then(|start| self.get(start..)?.get(..buf.len()));
        buf.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// What catalog and manifest need to know of a sealed segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSummary {
    /// The log it is of.
    pub log: [u8; 16],
    /// The BLAKE3 root over all of its content.
    pub root: [u8; 32],
    /// Bytes of the whole file.
    pub bytes: u64,
    /// Events in it.
    pub rows: u64,
    /// Batches in it.
    pub batches: u64,
    /// From its first event's position to behind its last one's. Other segments may hold positions in between.
    pub positions: Range<u64>,
    /// The least and the greatest event time.
    pub times: RangeInclusive<i64>,
    /// The oldest and the newest received time.
    pub received: RangeInclusive<i64>,
    /// The device index: what there is of each schema, device and epoch, in this order.
    pub runs: Vec<SealedRun>,
}

/// All rows of one schema, device and epoch in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedRun {
    /// Their schema.
    pub schema: Arc<Schema>,
    /// Their device and epoch.
    pub source: Arc<Source>,
    /// How many rows.
    pub rows: u64,
    /// How many batches.
    pub batches: u64,
    /// From the first sequence to behind the last one; there may be gaps.
    pub sequences: Range<u64>,
    /// From the first event's position to behind the last one's; there may be others in between.
    pub positions: Range<u64>,
    /// The least and the greatest event time.
    pub times: RangeInclusive<i64>,
    /// The oldest and the newest received time.
    pub received: RangeInclusive<i64>,
    /// Its share of the bytes of the row groups it lies in, by rows.
    pub bytes: u64,
}

/// One batch of a sealed segment, as the batch directory tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedEntry {
    /// Its device and epoch.
    pub source: Arc<Source>,
    /// Its schema.
    pub schema: Arc<Schema>,
    /// Its sequences, position and digest.
    pub batch: BatchEntry,
    /// When its block was cut, in nanoseconds since the Unix epoch.
    pub received: i64,
    /// Whether the device had no trustworthy clock.
    pub time_uncertain: bool,
}

impl SealedSummary {
    /// `runs` are not empty.
    fn new(log: [u8; 16], runs: Vec<SealedRun>, trailer: &Trailer) -> Self {
        let first = &runs[0];
        let (mut positions, mut times, mut received) =
            (first.positions.clone(), first.times.clone(), first.received.clone());
        for run in &runs {
            positions = cover(&positions, &run.positions);
            times = cover_inclusive(&times, &run.times);
            received = cover_inclusive(&received, &run.received);
        }
        let (rows, batches) = runs.iter().fold((0, 0), |(r, b), run| (r + run.rows, b + run.batches));
        Self { log, root: trailer.root, bytes: trailer.len, rows, batches, positions, times, received, runs }
    }
}

/// The smallest range that covers both.
fn cover(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    a.start.min(b.start)..a.end.max(b.end)
}

/// See [`cover`].
fn cover_inclusive(a: &RangeInclusive<i64>, b: &RangeInclusive<i64>) -> RangeInclusive<i64> {
    *a.start().min(b.start())..=*a.end().max(b.end())
}
