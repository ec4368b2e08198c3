//! The records of one sealed part of the log, merged from its segments in the order in which they came.

use std::collections::VecDeque;
use std::iter::Peekable;

use super::Point;
use crate::error::LogError;
use crate::manifest::Placed;
use crate::record::{Record, StoredBatch};
use crate::sealed::InLogOrder;

/// A part being read.
pub(super) struct PartRecords {
    /// One for each segment, with its next batch.
    segments: Vec<Peekable<InLogOrder>>,
    /// Records without events still to come.
    settled: VecDeque<Placed>,
}

impl PartRecords {
    /// Merges `segments`, and among them those of `settled` that stand in the blocks from `from` up to `until`.
    pub(super) fn new(segments: Vec<InLogOrder>, settled: Vec<Placed>, from: &Point, until: &Point) -> Self {
        let segments = segments.into_iter().map(Iterator::peekable).collect();
        let in_view = |placed: &Placed| (from.block..until.block).contains(&placed.block);
        Self { segments, settled: settled.into_iter().filter(in_view).collect() }
    }

    /// The next record, with the position it stands at.
    pub(super) fn next(&mut self) -> Option<Result<(u64, Record), LogError>> {
        let Some((index, position)) = self.next_batch() else {
            return self.settled.pop_front().map(|placed| Ok((placed.position, placed.record)));
        };
        // What was recorded before a batch stands at the position that the batch then got.
        if let Some(placed) = self.settled.pop_front_if(|placed| placed.position <= position) {
            return Some(Ok((placed.position, placed.record)));
        }
        let batch = self.segments[index].next()?;
        Some(batch.map(|batch| (batch.position, Record::Batch(batch))))
    }

    /// The segment whose batch comes next, and its position. An error comes at once.
    fn next_batch(&mut self) -> Option<(usize, u64)> {
        let position = |next: &Result<StoredBatch, LogError>| next.as_ref().map_or(0, |batch| batch.position);
        let heads = self.segments.iter_mut().map(|segment| segment.peek().map(position)).enumerate();
        heads.filter_map(|(index, position)| Some((index, position?))).min_by_key(|(_, position)| *position)
    }
}
