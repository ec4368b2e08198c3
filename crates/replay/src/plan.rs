//! What a query will have to look at, told beforehand.

use std::ops::Range;

use icecore_log::{Child, LogReader};

use crate::{Query, Replay};

/// What a query has to look at, as far as manifests tell: an estimate from above.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Sealed segments that may hold events of it.
    pub segments: u64,
    /// Their bytes. Of one that is opened, only the pages are read that may hold what is asked for.
    pub bytes: u64,
    /// Events in them, and in what is not sealed.
    pub events: u64,
}

impl Plan {
    /// The plan of a query over sealed segments and, at the positions `hot`, what is not sealed.
    #[must_use]
    pub fn of<'c>(query: &Query, sealed: impl IntoIterator<Item = &'c Child>, hot: Range<u64>) -> Self {
        let mut plan =
            Self { events: hot.end.saturating_sub(hot.start.max(query.from_position)), ..Self::default() };
        for child in sealed.into_iter().filter(|child| wants(query, child)) {
            plan.segments += 1;
            plan.bytes += child.bytes;
            plan.events += child.rows;
        }
        plan
    }
}

fn wants(query: &Query, child: &Child) -> bool {
    let times = query.times.inclusive();
    let overlaps =
        times.is_none_or(|times| child.times.start() <= times.end() && times.start() <= child.times.end());
    overlaps && child.positions.end > query.from_position && query.wants_received(*child.received.start())
}

impl Replay {
    /// What `query` will have to look at.
    #[must_use]
    pub fn plan(&self, query: &Query) -> Plan {
        let reader: &LogReader = self.reader();
        let hot = reader.sealed_to().max(reader.positions().start)..reader.positions().end;
        Plan::of(query, reader.sealed().map(|(_, child)| child), hot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventTimes;

    fn child(positions: Range<u64>, times: std::ops::RangeInclusive<i64>) -> Child {
        let (class, root, rows) = ("default".to_owned(), [0; 32], positions.end - positions.start);
        Child { class, root, bytes: rows * 4, rows, batches: 1, positions, received: 0..=1, times }
    }

    #[test]
    fn what_cannot_hold_anything_is_not_planned() {
        let children = [child(0..10, 0..=99), child(10..30, 100..=199), child(30..70, 150..=300)];
        let plan = |query: &Query| Plan::of(query, &children, 70..75);
        assert_eq!(plan(&Query::default()), Plan { segments: 3, bytes: 280, events: 75 });
        let times = EventTimes { from: Some(100), to: Some(150) };
        let query = Query { times, ..Query::default() };
        assert_eq!(plan(&query), Plan { segments: 1, bytes: 80, events: 25 });
        let query = Query { from_position: 72, ..Query::default() };
        assert_eq!(plan(&query), Plan { segments: 0, bytes: 0, events: 3 });
    }
}
