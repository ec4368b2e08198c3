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

    /// Adds a range; an empty one adds nothing.
    pub fn insert(&mut self, range: Range<u64>) {
        let _ = range;
        unimplemented!()
    }

    /// Adds every range of `other`.
    pub fn insert_all(&mut self, other: &Self) {
        let _ = other;
        unimplemented!()
    }

    /// Takes a range out.
    pub fn remove(&mut self, range: Range<u64>) {
        let _ = range;
        unimplemented!()
    }

    /// Takes every range of `other` out.
    pub fn remove_all(&mut self, other: &Self) {
        let _ = other;
        unimplemented!()
    }

    /// Whether every sequence of `range` is in the set (true for an empty range).
    pub fn covers(&self, range: &Range<u64>) -> bool {
        let _ = range;
        unimplemented!()
    }

    /// Whether any sequence of `range` is in the set.
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        let _ = range;
        unimplemented!()
    }

    /// Whether inserting `range` would make one more disjoint range.
    pub fn would_open(&self, range: &Range<u64>) -> bool {
        let _ = range;
        unimplemented!()
    }

    /// The sequences below `below` that are not in the set.
    pub fn gaps(&self, below: u64) -> Self {
        let _ = below;
        unimplemented!()
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
        unimplemented!()
    }

    /// The end of the last range: the sequence after the highest one in the set, 0 when it is empty.
    pub fn next(&self) -> u64 {
        unimplemented!()
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
