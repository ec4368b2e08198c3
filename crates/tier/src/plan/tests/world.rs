//! Segments, and what becomes of them when actions are done; written apart from the books of the planner.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::{Action, Books, Kind, Moment};
use crate::policy::PolicySet;
use crate::segment::{Copy, Deletion, Segment, SegmentId, Share, Span};

pub(super) const HOUR: i64 = 3_600 * 1_000_000_000;
pub(super) const DAY: i64 = 24 * HOUR;
/// In 2024.
pub(super) const NOW: i64 = 19_800 * DAY;

/// A local segment whose rows were received, and happened, at `time`.
pub(super) fn segment(number: u64, time: i64, shares: &[(&str, u64)]) -> Segment {
    let share =
        |(policy, bytes): &(&str, u64)| Share { policy: (*policy).to_owned(), rows: *bytes, bytes: *bytes };
    let bytes = shares.iter().map(|(_, bytes)| bytes).sum();
    Segment {
        id: SegmentId { manifest: number, child: 0 },
        bytes,
        rows: bytes,
        root: [0; 32],
        positions: 0..bytes,
        received: Span { first: time, last: time },
        events: Span { first: time, last: time },
        shares: shares.iter().map(share).collect(),
        local: true,
        copies: Vec::new(),
        deletion: None,
    }
}

pub(super) fn copy(store: &str, class: Option<&str>) -> Copy {
    Copy { store: store.to_owned(), class: class.map(str::to_owned), verified: NOW }
}

/// All that there is.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) segments: BTreeMap<SegmentId, Segment>,
    pub(super) held: BTreeSet<SegmentId>,
    pub(super) deleted: BTreeSet<SegmentId>,
    pub(super) moment: Moment,
    /// Segments that there ever were.
    born: u32,
}

impl World {
    pub(super) fn new(now: i64, segments: impl IntoIterator<Item = Segment>) -> Self {
        let moment = Moment { now, free: 1_000_000, ..Moment::default() };
        let segments: BTreeMap<_, _> = segments.into_iter().map(|segment| (segment.id, segment)).collect();
        let born = segments.len() as u32;
        Self { segments, moment, born, ..Self::default() }
    }

    pub(super) fn books<'p>(&self, policies: &'p PolicySet) -> Books<'p> {
        let mut books = Books::new(policies).rolled_up_to(u64::MAX);
        for segment in self.segments.values() {
            books.add(segment, self.held.contains(&segment.id)).unwrap();
        }
        books
    }

    /// What is to be done, by books that know nothing of earlier plans.
    pub(super) fn plan(&self, policies: &PolicySet) -> Vec<Action> {
        self.books(policies).plan(&self.moment).actions
    }

    /// Does what is to be done until nothing is, and tells it.
    pub(super) fn settle(&mut self, policies: &PolicySet) -> Vec<Action> {
        let mut all = Vec::new();
        for _ in 0..8 {
            let actions = self.plan(policies);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.execute(&action);
                all.push(action);
            }
        }
        all
    }

    /// The same once an hour, this often.
    pub(super) fn live(&mut self, policies: &PolicySet, hours: u32) -> Vec<(i64, Action)> {
        let mut all = Vec::new();
        for _ in 0..hours {
            let now = self.moment.now;
            all.extend(self.settle(policies).into_iter().map(|action| (now, action)));
            self.moment.now += HOUR;
        }
        all
    }

    pub(super) fn execute(&mut self, action: &Action) {
        let now = self.moment.now;
        let segment = self.segments.get_mut(&action.segment).expect("it is there");
        match &action.kind {
            Kind::Upload(to) => {
                segment.copies.retain(|copy| copy.store != to.store);
                let (store, class) = (to.store.clone(), to.class.clone());
                segment.copies.push(Copy { store, class, verified: now });
            }
            Kind::DropCopy(from) => segment.copies.retain(|copy| copy.store != from.store),
            Kind::DropLocal => {
                segment.local = false;
                self.moment.free += segment.bytes;
            }
            Kind::Mark { due } => {
                let policy = action.policy.to_string();
                segment.deletion = Some(Deletion { marked: now, due: *due, policy });
            }
            Kind::Unmark => segment.deletion = None,
            Kind::Delete => {
                self.moment.free += if segment.local { segment.bytes } else { 0 };
                self.deleted.insert(action.segment);
                self.segments.remove(&action.segment);
            }
            Kind::Split => self.split(action.segment),
        }
    }

    fn split(&mut self, id: SegmentId) {
        let parent = self.segments.remove(&id).expect("it is there");
        self.moment.free += if parent.local { parent.bytes } else { 0 };
        for share in &parent.shares {
            let id = SegmentId { child: (1 << 31) | self.born, ..parent.id };
            self.born += 1;
            self.moment.free = self.moment.free.saturating_sub(share.bytes);
            let child = Segment {
                id,
                bytes: share.bytes,
                rows: share.rows,
                shares: vec![share.clone()],
                local: true,
                copies: Vec::new(),
                deletion: None,
                ..parent.clone()
            };
            self.segments.insert(id, child);
        }
    }
}

/// What is done with one segment, in words.
pub(super) fn words(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .map(|action| format!("{} {}: {}", action.segment.manifest, action.kind, action.reason))
        .collect()
}
