//! Counters: by how much they rose, resets included.

use rkyv::{Archive, Deserialize, Serialize};

use super::number::Number;
use super::run::{EventPoint, Run};

/// The increase of a counter along the events that extend what is known of it at either end.
///
/// In log order: an event later than all before it adds its rise from the latest; one earlier than all before it adds the rise
/// from it to the earliest. What falls in between changes nothing, but is counted as late: it would make a difference only if
/// the counter was reset there. The rise to a smaller number is that number, for the counter began again at zero.
#[derive(Debug, Clone, Default, PartialEq, Archive, Serialize, Deserialize)]
pub struct Counter {
    ends: Option<Ends>,
    increase: f64,
    resets: u64,
    late: u64,
}

/// The earliest and the latest event, with the bits of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Archive, Serialize, Deserialize)]
struct Ends {
    first: (EventPoint, u64),
    last: (EventPoint, u64),
}

impl Counter {
    /// By how much it rose. Rises are exact up to 2⁵³, their sum is that of doubles.
    #[must_use]
    pub fn increase(&self) -> f64 {
        self.increase
    }

    /// The bits of the earliest event's number, in the type of the column.
    pub(crate) fn first(&self) -> Option<u64> {
        self.ends.map(|ends| ends.first.1)
    }

    /// How often it began again.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// Events that came when both earlier and later ones were there, and changed nothing.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Takes in more numbers, which are finite: `values[0]` is that of the run's first row.
    pub(crate) fn fold<N: Number + PartialOrd>(&mut self, run: &Run<'_>, values: &[N]) {
        let mut row = 0;
        while row < values.len() {
            let point = run.point(row);
            let Some(ends) = &mut self.ends else {
                let only = (point, values[row].to_bits());
                self.ends = Some(Ends { first: only, last: only });
                row += 1;
                continue;
            };
            if point > ends.last.0 {
                // Most of what comes is in order: all of it at once.
                let end = if run.ascends() { values.len() } else { row + 1 };
                let mut last = N::from_bits(ends.last.1);
                for value in &values[row..end] {
                    let (rise, reset) = rise(last, *value);
                    self.increase += rise;
                    self.resets += u64::from(reset);
                    last = *value;
                }
                ends.last = (run.point(end - 1), last.to_bits());
                row = end;
                continue;
            }
            if point < ends.first.0 {
                let (rise, reset) = rise(values[row], N::from_bits(ends.first.1));
                self.increase += rise;
                self.resets += u64::from(reset);
                ends.first = (point, values[row].to_bits());
            } else {
                self.late += 1;
            }
            row += 1;
        }
    }
}

/// What a counter that went from one number to another has counted, and whether it began again in between.
fn rise<N: Number + PartialOrd>(from: N, to: N) -> (f64, bool) {
    if to < from { (to.value().max(0.0), true) } else { (to.minus(from), false) }
}
