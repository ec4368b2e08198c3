//! Refused sequences with the reason of each.

use std::ops::Range;

use icecore_wire::{Code, SequenceRanges};

/// Contiguous sequences that were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRange {
    /// The sequences, half-open.
    pub range: Range<u64>,
    /// Why they were refused.
    pub code: Code,
}

/// Refused sequences of one epoch: sorted, disjoint, neighbours of equal code merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefusedRanges(Vec<RefusedRange>);

impl RefusedRanges {
    /// The ranges in sequence order.
    pub fn iter(&self) -> std::slice::Iter<'_, RefusedRange> {
        self.0.iter()
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was refused.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many sequences were refused.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|refused| refused.range.end - refused.range.start).sum()
    }

    /// The end of the last range, 0 if there is none.
    pub fn next(&self) -> u64 {
        self.0.last().map_or(0, |last| last.range.end)
    }

    /// The refused sequences without their reasons.
    pub fn ranges(&self) -> SequenceRanges {
        self.iter().map(|refused| refused.range.clone()).collect()
    }

    /// Adds what of `range` is not refused yet: the first reason given for a sequence stays.
    pub(crate) fn insert(&mut self, range: Range<u64>, code: Code) {
        let mut fresh = SequenceRanges::from(range);
        fresh.remove_all(&self.ranges());
        for range in &fresh {
            let at = self.0.partition_point(|refused| refused.range.start < range.start);
            self.0.insert(at, RefusedRange { range, code });
            self.merge_neighbours(at);
        }
    }

    /// Takes `range` out, splitting what reaches over its ends.
    pub(crate) fn remove(&mut self, range: &Range<u64>) {
        let first = self.0.partition_point(|refused| refused.range.end <= range.start);
        let last = self.0.partition_point(|refused| refused.range.start < range.end);
        if first >= last {
            return;
        }
        let head = self.0[first].range.start..range.start;
        let tail = range.end..self.0[last - 1].range.end;
        let (head_code, tail_code) = (self.0[first].code, self.0[last - 1].code);
        let kept = [(head, head_code), (tail, tail_code)]
            .into_iter()
            .filter(|(range, _)| !range.is_empty())
            .map(|(range, code)| RefusedRange { range, code });
        self.0.splice(first..last, kept);
    }

    /// Joins the range at `at` with the ones it touches, where the reason is the same.
    fn merge_neighbours(&mut self, at: usize) {
        for left in [at, at.wrapping_sub(1)] {
            let Some([a, b]) = self.0.get(left..left.saturating_add(2)) else { continue };
            if a.range.end == b.range.start && a.code == b.code {
                self.0[left].range.end = b.range.end;
                self.0.remove(left + 1);
            }
        }
    }
}

impl<'a> IntoIterator for &'a RefusedRanges {
    type Item = &'a RefusedRange;
    type IntoIter = std::slice::Iter<'a, RefusedRange>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
