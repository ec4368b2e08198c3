//! Consecutive rows of a batch.

use std::ops::Range;

use icecore_wire::Batch;
use rkyv::{Archive, Deserialize, Serialize};

/// Where an event stands among those of its device: by event time, then by epoch, then by sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Archive, Serialize, Deserialize)]
pub struct EventPoint {
    /// Event time, nanoseconds since the Unix epoch.
    pub time: i64,
    /// The number of the epoch.
    pub epoch: u32,
    /// The sequence in the epoch.
    pub sequence: u64,
}

/// Some consecutive rows of a batch: at least one.
#[derive(Debug, Clone)]
pub(crate) struct Run<'a> {
    batch: &'a Batch,
    epoch: u32,
    rows: Range<usize>,
    /// Whether each row stands after the one before it.
    ascends: bool,
    /// The row that stands after all others.
    newest: usize,
    oldest_time: i64,
}

impl<'a> Run<'a> {
    /// These rows of a batch of the epoch with this number; `None` if there are none.
    pub(crate) fn of(batch: &'a Batch, epoch: u32, rows: Range<usize>) -> Option<Self> {
        let times = &batch.times()[rows.clone()];
        let (first, last) = (*times.first()?, *times.last()?);
        let ascends = times.windows(2).fold(true, |ascends, pair| ascends & (pair[0] <= pair[1]));
        let (newest, oldest_time) = if ascends {
            (rows.end - 1, first)
        } else {
            let newest = times.iter().fold(last, |newest, time| newest.max(*time));
            let row = times.iter().rposition(|time| *time == newest).unwrap_or_default();
            (rows.start + row, times.iter().fold(first, |oldest, time| oldest.min(*time)))
        };
        Some(Self { batch, epoch, rows, ascends, newest, oldest_time })
    }

    /// Some of these rows, by their numbers in the batch.
    pub(crate) fn part(&self, rows: Range<usize>) -> Option<Self> {
        if rows == self.rows { Some(self.clone()) } else { Self::of(self.batch, self.epoch, rows) }
    }

    pub(crate) fn batch(&self) -> &'a Batch {
        self.batch
    }

    /// The rows by their numbers in the batch.
    pub(crate) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn ascends(&self) -> bool {
        self.ascends
    }

    pub(crate) fn oldest_time(&self) -> i64 {
        self.oldest_time
    }

    pub(crate) fn newest_time(&self) -> i64 {
        self.batch.times()[self.newest]
    }

    /// The row that stands after all others, by its number in the batch.
    pub(crate) fn newest(&self) -> usize {
        self.newest
    }

    /// Where the event of a row stands; the run's first row is 0.
    pub(crate) fn point(&self, row: usize) -> EventPoint {
        self.point_of(self.rows.start + row)
    }

    /// Where the event of a row stands, by its number in the batch.
    pub(crate) fn point_of(&self, row: usize) -> EventPoint {
        let sequence = self.batch.first_sequence() + row as u64;
        EventPoint { time: self.batch.times()[row], epoch: self.epoch, sequence }
    }

    /// Calls `each` with the longest parts whose rows are all `wanted`, by their numbers in the batch.
    pub(crate) fn parts(&self, wanted: impl Fn(usize) -> bool, mut each: impl FnMut(&Self)) {
        let mut start = self.rows.start;
        while start < self.rows.end {
            let skipped = (start..self.rows.end).position(&wanted);
            let Some(skipped) = skipped else { return };
            start += skipped;
            let end = (start..self.rows.end).position(|row| !wanted(row));
            let end = end.map_or(self.rows.end, |len| start + len);
            if let Some(part) = self.part(start..end) {
                each(&part);
            }
            start = end;
        }
    }
}
