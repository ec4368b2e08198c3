//! What is to be done with one segment.

use crate::policy::Policy;

use super::action::{Moment, Reason};
use super::books::{Books, Item, Part};
use super::copies::Place;

/// One thing to be done with one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) item: u32,
    pub(super) policy: u16,
    pub(super) task: Task,
    pub(super) reason: Reason,
}

/// [`Kind`](super::Kind) in few bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Upload(Place),
    DropCopy(Place),
    DropLocal,
    Mark {
        due: i64,
    },
    Unmark,
    Delete,
    /// It, or its local copy, would go, if its state were safe.
    Await,
    Split,
}

/// What a policy wants of its part of an item, at a moment.
#[derive(Debug, Clone, Copy, Default)]
struct Wants {
    /// It is to be deleted.
    delete: Option<Reason>,
    /// A copy is to be made there.
    upload: Option<(Place, Reason)>,
    /// It is verified there, where it belongs.
    kept: Option<Place>,
    /// The local copy is to go.
    drop_local: Option<Reason>,
}

impl Wants {
    /// Whether both want the same done, for whatever reason. What is deleted needs no other place before.
    fn agree(self, other: Self) -> bool {
        if self.delete.is_some() && other.delete.is_some() {
            return true;
        }
        let place = |upload: Option<(Place, Reason)>| upload.map(|(place, _)| place);
        self.delete.is_some() == other.delete.is_some()
            && place(self.upload) == place(other.upload)
            && self.kept == other.kept
            && self.drop_local.is_some() == other.drop_local.is_some()
    }
}

/// Adds to `steps` what is to be done with the item now. If nothing is, the result says from when on something may be.
pub(super) fn item(books: &Books<'_>, number: u32, moment: &Moment, steps: &mut Vec<Step>) -> Option<i64> {
    let item = &books.items[number as usize];
    let parts = books.parts_of(item);
    let first = parts.first()?;
    let mut next = Next { now: moment.now, at: None };
    let wants = self::wants(books, item, first, &mut next);
    let mut all_delete = wants.delete.is_some();
    let mut agreed = true;
    for part in &parts[1..] {
        let other = self::wants(books, item, part, &mut next);
        agreed &= wants.agree(other);
        all_delete &= other.delete.is_some();
    }

    let trusted = moment.suspended.is_none();
    let mut step = |task, reason| steps.push(Step { item: number, policy: first.policy, task, reason });
    match item.mark {
        Some(_) if item.held => step(Task::Unmark, Reason::Held),
        Some(_) if !all_delete && trusted => step(Task::Unmark, Reason::Kept),
        Some(due) if all_delete && trusted => {
            let at = moment.off_peak.map_or(due, |off_peak| off_peak.next(due.max(moment.now)));
            if at <= moment.now {
                let task = if books.outlives(item, moment) { Task::Delete } else { Task::Await };
                step(task, Reason::UndoOver);
                return None;
            }
            next.may_be(at);
        }
        None if agreed && trusted => {
            if let Some(reason) = wants.delete {
                step(Task::Mark { due: undo(books, parts, moment.now) }, reason);
            }
        }
        _ => {}
    }
    if !agreed {
        if item.mark.is_none() && trusted && !item.held {
            step(Task::Split, Reason::SharesDiffer);
        }
        return next.at;
    }
    if item.mark.is_none() && (wants.delete.is_none() || !trusted) {
        move_copies(item, wants, trusted, &mut step);
    }
    // What waits for a better copy, or comes of a clock that is not trusted, only goes to make room.
    let waits = wants.upload.is_some() || !trusted;
    if let Some(reason) = wants.drop_local.filter(|reason| !waits || reason.makes_room())
        && !item.copies.is_empty()
    {
        // Unless room is to be made, a start is to find here what it has to fold.
        let is_saved = moment.saved.is_none_or(|saved| item.end <= saved.position);
        let task = if is_saved || reason.makes_room() { Task::DropLocal } else { Task::Await };
        step(task, reason);
    }
    next.at
}

/// The copy that is wanted, or the removal of those that are not any more.
fn move_copies(item: &Item, wants: Wants, trusted: bool, step: &mut impl FnMut(Task, Reason)) {
    let has_bytes = item.local || !item.copies.is_empty();
    let is_first = item.copies.is_empty();
    if let Some((place, reason)) = wants.upload.filter(|_| has_bytes && (trusted || is_first)) {
        step(Task::Upload(place), reason);
    }
    if let Some(kept) = wants.kept.filter(|_| trusted && !item.held) {
        for copy in item.copies.iter().filter(|copy| copy.place != kept) {
            step(Task::DropCopy(copy.place), Reason::Superseded);
        }
    }
}

/// When the undo window of a deletion that is decided now is over: the longest of its policies'.
fn undo(books: &Books<'_>, parts: &[Part], now: i64) -> i64 {
    let policies = parts.iter().map(|part| &books.policies.policies()[usize::from(part.policy)]);
    let windows = policies.filter_map(|policy| policy.delete).map(|delete| delete.undo);
    windows.max().unwrap_or_default().after(now)
}

/// The earliest instant ahead at which something may be due.
struct Next {
    now: i64,
    at: Option<i64>,
}

impl Next {
    fn may_be(&mut self, instant: i64) {
        if instant > self.now {
            self.at = Some(self.at.map_or(instant, |at| at.min(instant)));
        }
    }

    /// Whether something that is due at `instant` is due now; if not, it is kept in mind.
    fn is_due(&mut self, instant: i64) -> bool {
        self.may_be(instant);
        instant <= self.now
    }
}

fn wants(books: &Books<'_>, item: &Item, part: &Part, next: &mut Next) -> Wants {
    let policy = &books.policies.policies()[usize::from(part.policy)];
    let mut wants = Wants { delete: deletion(policy, item, part, next), ..Wants::default() };
    let born = policy.born(item.received, item.event);

    let mut reached = None;
    for (stage, cold) in policy.cold.iter().enumerate() {
        if next.is_due(cold.after.after(born)) {
            reached = Some((stage, Reason::Age(cold.after)));
        }
    }
    let room = part.crowded.map(|crowding| crowding.reason(policy));
    let early = room.filter(|_| !policy.cold.is_empty()).map(|reason| (0, reason));
    if let Some((stage, reason)) = reached.or(early) {
        let places = &books.stages[usize::from(part.policy)][stage..];
        let has = |place: &&Place| item.copies.iter().any(|copy| copy.place == **place);
        wants.kept = places.iter().rev().find(has).copied();
        wants.upload = if wants.kept.is_none() { Some((places[0], reason)) } else { None };
    }

    let aged = policy.local.drop_after.filter(|after| next.is_due(after.after(born)));
    wants.drop_local = room.or(aged.map(Reason::Age)).filter(|_| item.local);
    wants
}

/// Whether a part of an item is to be deleted as soon as it is rolled up.
pub(super) fn waits_for_rollups(books: &Books<'_>, item: &Item, part: &Part, now: i64) -> bool {
    let policy = &books.policies.policies()[usize::from(part.policy)];
    let rolled_up = Item { unrolled: false, ..item.clone() };
    let mut next = Next { now, at: None };
    !policy.rollup.is_empty() && deletion(policy, &rolled_up, part, &mut next).is_some()
}

fn deletion(policy: &Policy, item: &Item, part: &Part, next: &mut Next) -> Option<Reason> {
    let delete = policy.delete.filter(|_| !item.held)?; // what is held is not to be deleted, so it is never marked
    if item.unrolled && !policy.rollup.is_empty() {
        return None; // it is looked at again when it is rolled up
    }
    let due = policy.deletion(item.received, item.event).filter(|due| next.is_due(*due));
    match due {
        Some(_) => delete.after.map(Reason::Age),
        None => delete.max_bytes.filter(|_| part.beyond).map(Reason::Size),
    }
}
