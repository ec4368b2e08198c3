//! Sets of sequences as sorted disjoint half-open ranges.

use std::fmt;
use std::ops::Range;

/// A set of sequences, kept as sorted, disjoint, non-adjacent half-open ranges.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SequenceRanges(Vec<Range<u64>>);

impl SequenceRanges {
    /// The empty set.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The set of these ranges; `None` when one is empty, or they do not ascend with at least one sequence between.
    pub(crate) fn from_ascending(ranges: Vec<Range<u64>>) -> Option<Self> {
        let apart = ranges.windows(2).all(|pair| pair[0].end < pair[1].start);
        (apart && !ranges.iter().any(Range::is_empty)).then_some(Self(ranges))
    }

    /// Adds a range; an empty one adds nothing.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // The ranges that `range` overlaps or touches melt into one.
        let start = self.0.partition_point(|r| r.end < range.start);
        let end = start + self.0[start..].partition_point(|r| r.start <= range.end);
        if start == end {
            self.0.insert(start, range);
            return;
        }
        let joined = self.0[start].start.min(range.start)..self.0[end - 1].end.max(range.end);
        self.0[start] = joined;
        self.0.drain(start + 1..end);
    }

    /// Adds every range of `other`.
    pub fn insert_all(&mut self, other: &Self) {
        for range in other {
            self.insert(range);
        }
    }

    /// Takes a range out.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let start = self.0.partition_point(|r| r.end <= range.start);
        let end = start + self.0[start..].partition_point(|r| r.start < range.end);
        if start == end {
            return;
        }
        let left = self.0[start].start..range.start;
        let right = range.end..self.0[end - 1].end;
        self.0.splice(start..end, [left, right].into_iter().filter(|r| !r.is_empty()));
    }

    /// Takes every range of `other` out.
    pub fn remove_all(&mut self, other: &Self) {
        for range in other {
            self.remove(range);
        }
    }

    /// Whether every sequence of `range` is in the set (true for an empty range).
    pub fn covers(&self, range: &Range<u64>) -> bool {
        range.is_empty()
            || self.ending_after(range.start).is_some_and(|r| r.start <= range.start && range.end <= r.end)
    }

    /// Whether any sequence of `range` is in the set.
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        !range.is_empty() && self.ending_after(range.start).is_some_and(|r| r.start < range.end)
    }

    /// Whether inserting `range` would make one more disjoint range.
    pub fn would_open(&self, range: &Range<u64>) -> bool {
        let touched = self.0.partition_point(|r| r.end < range.start);
        !range.is_empty() && self.0.get(touched).is_none_or(|r| range.end < r.start)
    }

    /// The sequences below `below` that are not in the set.
    pub fn gaps(&self, below: u64) -> Self {
        let mut gaps = Self::from(0..below);
        gaps.remove_all(self);
        gaps
    }

    /// The ranges in ascending order.
    pub fn iter(&self) -> std::iter::Cloned<std::slice::Iter<'_, Range<u64>>> {
        self.0.iter().cloned()
    }

    /// How many disjoint ranges there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many sequences are in the set.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|r| r.end - r.start).sum()
    }

    /// The end of the last range: the sequence after the highest one in the set, 0 when it is empty.
    pub fn next(&self) -> u64 {
        self.0.last().map_or(0, |r| r.end)
    }

    /// The first range that ends after `sequence`.
    fn ending_after(&self, sequence: u64) -> Option<&Range<u64>> {
        self.0.get(self.0.partition_point(|r| r.end <= sequence))
    }
}

impl<'a> IntoIterator for &'a SequenceRanges {
    type Item = Range<u64>;
    type IntoIter = std::iter::Cloned<std::slice::Iter<'a, Range<u64>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Extend<Range<u64>> for SequenceRanges {
    fn extend<I: IntoIterator<Item = Range<u64>>>(&mut self, ranges: I) {
        for range in ranges {
            self.insert(range);
        }
    }
}

impl FromIterator<Range<u64>> for SequenceRanges {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut set = Self::new();
        set.extend(ranges);
        set
    }
}

impl From<Range<u64>> for SequenceRanges {
    fn from(range: Range<u64>) -> Self {
        std::iter::once(range).collect()
    }
}

impl fmt::Debug for SequenceRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl fmt::Display for SequenceRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{}..{}", range.start, range.end)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_melt() {
        let ranges: SequenceRanges = [0..2, 4..6, 2..4, 9..9].into_iter().collect();
        assert_eq!(ranges, SequenceRanges::from(0..6));
        assert_eq!(ranges.to_string(), "0..6");
    }

    #[test]
    fn the_highest_sequences_fit() {
        let mut ranges = SequenceRanges::from(u64::MAX - 2..u64::MAX);
        assert!(!ranges.would_open(&(0..u64::MAX)));
        ranges.insert(0..u64::MAX);
        assert_eq!(ranges.count(), u64::MAX);
        assert_eq!(ranges.next(), u64::MAX);
        assert!(ranges.gaps(u64::MAX).is_empty());
    }

    fn range() -> impl Strategy<Value = Range<u64>> {
        (0..60u64, 0..12u64).prop_map(|(start, len)| start..start + len)
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(steps in prop::collection::vec((any::<bool>(), range()), 0..40), probe in range()) {
            let mut ranges = SequenceRanges::new();
            let mut set = BTreeSet::new();
            for (add, step) in steps {
                let before = ranges.len();
                let opens = ranges.would_open(&step);
                if add {
                    ranges.insert(step.clone());
                    set.extend(step);
                    prop_assert_eq!(opens, ranges.len() > before);
                } else {
                    ranges.remove(step.clone());
                    set.retain(|s| !step.contains(s));
                }
                prop_assert!(ranges.iter().all(|r| !r.is_empty()));
                prop_assert!(ranges.0.windows(2).all(|w| w[0].end < w[1].start));
            }
            prop_assert_eq!(ranges.iter().flatten().collect::<BTreeSet<_>>(), set.clone());
            prop_assert_eq!(ranges.count(), set.len() as u64);
            prop_assert_eq!(ranges.next(), set.last().map_or(0, |s| s + 1));
            prop_assert_eq!(ranges.covers(&probe), probe.clone().all(|s| set.contains(&s)));
            prop_assert_eq!(ranges.overlaps(&probe), probe.clone().any(|s| set.contains(&s)));
            let gaps: BTreeSet<_> = ranges.gaps(probe.end).iter().flatten().collect();
            prop_assert_eq!(gaps, (0..probe.end).filter(|s| !set.contains(s)).collect::<BTreeSet<_>>());
        }
    }
}
