//! Which snapshots of the state are kept.
//!
//! What is deleted outlives itself in the state, so nothing is deleted that no kept snapshot goes past. From the oldest snapshot past
//! all deletions on the past is known exactly: it is kept until a deletion passes it, and then the next one takes its place. So that
//! the next one is not much younger, one is kept a day; when there are too many, the one whose neighbours are closest goes.

use std::fmt;

use crate::figures::{counted, size};
use crate::snapshot::KeptSnapshot;

use super::action::Moment;
use super::books::{Books, Item};

/// A snapshot is kept when the newest one that is has this age, by received time.
const EVERY: i64 = 24 * 3_600 * 1_000_000_000;

/// Or when so many events came since: as many as a new machine folds in some seconds.
const EVENTS: u64 = 50_000_000;

/// Snapshots that are kept, beside those that are passed by deletions.
const MOST: usize = 24;

/// How far the state is saved on this disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Saved {
    /// The position behind the newest snapshot of it.
    pub position: u64,
    /// The newest received time in it, in nanoseconds since the Unix epoch.
    pub received: i64,
    /// About how many bytes it has as one file.
    pub bytes: u64,
    /// Whether there is a store for snapshots. Without one they are kept on this disk, and only where something is ever deleted.
    pub travels: bool,
}

/// What is to be done about snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotPlan {
    /// Why the newest one on this disk is to be kept, if it is.
    pub keep: Option<Need>,
    /// Those that may go, by the blocks they are named after.
    pub drop: Vec<u64>,
    /// Deletions that are due and wait for a snapshot.
    pub waiting: Option<Waiting>,
    /// Whether anything waits until the state is saved again.
    pub save: bool,
}

/// Why a snapshot is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// There is none.
    First,
    /// Deletions wait for it.
    Deletions,
    /// The newest one is a day old.
    Age,
    /// Many events came since the newest one.
    Events(u64),
}

/// Deletions that wait for a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// How many segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// A snapshot up to this position lets the first of them go.
    pub position: u64,
}

impl Waiting {
    pub(super) fn add(waiting: &mut Option<Self>, item: &Item) {
        let waiting = waiting.get_or_insert(Self { segments: 0, bytes: 0, position: u64::MAX });
        waiting.segments += 1;
        waiting.bytes += item.bytes;
        waiting.position = waiting.position.min(item.end);
    }
}

impl Books<'_> {
    /// Tells of the snapshots that are kept, and of the position behind everything that was deleted.
    pub fn keep_snapshots(&mut self, mut kept: Vec<KeptSnapshot>, deleted_to: u64) {
        kept.sort_by_key(|snapshot| snapshot.position);
        (self.kept, self.deleted_to) = (kept, deleted_to);
    }

    /// Whether the state of what is in an item outlives it.
    pub(super) fn outlives(&self, item: &Item, moment: &Moment) -> bool {
        let kept = self.kept.last().map_or(0, |newest| newest.position);
        moment.saved.is_none_or(|_| item.end <= kept)
    }

    /// What is to be done about snapshots, behind a plan for the same moment.
    pub(super) fn plan_snapshots(&self, moment: &Moment) -> SnapshotPlan {
        let keep = moment.saved.and_then(|saved| self.need(&saved));
        let drop =
            if moment.saved.is_some() && moment.suspended.is_none() { self.superseded() } else { Vec::new() };
        SnapshotPlan { keep, drop, waiting: self.waiting, save: self.unsaved }
    }

    fn need(&self, saved: &Saved) -> Option<Need> {
        let deletes = || self.policies.policies().iter().any(|policy| policy.delete.is_some());
        if saved.position == 0 || !(saved.travels || deletes()) {
            return None;
        }
        let Some(newest) = self.kept.last() else { return Some(Need::First) };
        let events = saved.position.saturating_sub(newest.position);
        if events == 0 {
            return None;
        }
        let is_awaited =
            |waiting: Waiting| (newest.position + 1..=saved.position).contains(&waiting.position);
        if self.waiting.is_some_and(is_awaited) {
            Some(Need::Deletions)
        } else if events >= EVENTS {
            Some(Need::Events(events))
        } else {
            (saved.received.saturating_sub(newest.received) >= EVERY).then_some(Need::Age)
        }
    }

    /// The snapshots that deletions have passed by, and those between the oldest and the newest of the others that are too many.
    fn superseded(&self) -> Vec<u64> {
        let oldest = self.kept.iter().position(|kept| kept.position >= self.deleted_to).unwrap_or_default();
        let mut dropped: Vec<u64> = self.kept[..oldest].iter().map(|kept| kept.block).collect();
        let mut left: Vec<&KeptSnapshot> = self.kept[oldest..].iter().collect();
        while left.len() > MOST {
            let gap = |n: &usize| left[n + 1].received.saturating_sub(left[n - 1].received);
            let least = (1..left.len() - 1).min_by_key(gap).expect("there are more than two");
            dropped.push(left.remove(least).block);
        }
        dropped
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("none is kept yet"),
            Self::Deletions => f.write_str("what is to be deleted goes up to it"),
            Self::Age => f.write_str("the newest one that is kept is a day old"),
            Self::Events(events) => write!(f, "{events} events came since the newest one that is kept"),
        }
    }
}

/// A line for each thing, if there is any.
impl fmt::Display for SnapshotPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.save {
            writeln!(f, "snapshots: the state is to be saved anew, something waits for that")?;
        }
        if let Some(need) = &self.keep {
            writeln!(f, "snapshots: keep the newest one: {need}")?;
        }
        if !self.drop.is_empty() {
            writeln!(f, "snapshots: {} may go", self.drop.len())?;
        }
        if let Some(Waiting { segments, bytes, position }) = &self.waiting {
            let segments = counted(*segments, "segment");
            writeln!(
                f,
                "to delete {segments}, {}, waits for a snapshot up to position {position} or beyond",
                size(*bytes)
            )?;
        }
        Ok(())
    }
}
