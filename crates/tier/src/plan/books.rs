//! What the planner keeps of each segment.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::policy::{Cold, PolicySet};
use crate::segment::{Segment, SegmentId};
use crate::snapshot::KeptSnapshot;

use super::action::{Action, Kind, Moment, Plan, Reason};
use super::copies::{Copies, Kept, Place, Places};
use super::decide::{self, Step, Task};
use super::execute::Litter;
use super::room::{Crowding, Room};
use super::snapshots::Waiting;

const DAY: i64 = 24 * 3_600 * 1_000_000_000;
/// Instants at which segments are looked at again are kept to a minute or so: there are fewer of them then, and to look too
/// early changes nothing.
const COARSE: u32 = 36;

/// What the planner needs of every segment: some 150 bytes each. Time does not go backwards between the plans of the same
/// books; where the clock was set back, make new ones.
#[derive(Debug)]
pub struct Books<'p> {
    pub(super) policies: &'p PolicySet,
    numbers: HashMap<&'p str, u16>,
    names: Vec<Arc<str>>,
    pub(super) places: Places,
    /// The places of the cold stages of each policy.
    pub(super) stages: Vec<Vec<Place>>,
    pub(super) items: Vec<Item>,
    /// The shares of all items, those of an item side by side.
    pub(super) parts: Vec<Part>,
    pub(super) room: Room,
    /// Events before this position are rolled up.
    rolled_up_to: u64,
    /// What of items is still there that the books do not have any more.
    pub(super) litter: Vec<Litter>,
    /// The snapshots that are kept, oldest first.
    pub(super) kept: Vec<KeptSnapshot>,
    /// The position behind everything that was deleted.
    pub(super) deleted_to: u64,
    /// Deletions that wait for a snapshot, by the last plan.
    pub(super) waiting: Option<Waiting>,
    /// Whether anything waits until the state is saved, by the last plan.
    pub(super) unsaved: bool,
    /// Items that were not looked at since they came or changed.
    fresh: Vec<u32>,
    /// Items by the instant, in coarse units, from which something about them may be due.
    due: BTreeMap<i64, Vec<u32>>,
}

/// A segment.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) id: SegmentId,
    pub(super) bytes: u64,
    /// The position behind its last event.
    pub(super) end: u64,
    /// The last received time.
    pub(super) received: i64,
    /// The last event time.
    pub(super) event: i64,
    /// When the undo window of its deletion is over, if that was decided.
    pub(super) mark: Option<i64>,
    /// Its parts are `parts[first..first + count]`.
    pub(super) first: u32,
    pub(super) count: u16,
    pub(super) copies: Copies,
    pub(super) local: bool,
    pub(super) held: bool,
    /// Some of its events are not rolled up yet.
    pub(super) unrolled: bool,
    /// It was deleted or split.
    pub(super) gone: bool,
    /// When it is to be looked at again; what `due` says of it for an earlier instant is void.
    pub(super) look: i64,
}

impl Item {
    /// What items are sorted by, the oldest first.
    pub(super) fn age(&self) -> (i64, SegmentId) {
        (self.received, self.id)
    }
}

/// A share of a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) item: u32,
    pub(super) policy: u16,
    /// It is among the oldest, beyond the size at which its policy deletes.
    pub(super) beyond: bool,
    /// Its local copy is to make room.
    pub(super) crowded: Option<Crowding>,
    pub(super) bytes: u64,
}

/// A segment's share names a policy that the set does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "segment {segment} belongs to policy {policy}, which these policies do not have: its shares are those of other ones"
)]
pub struct UnknownPolicy {
    /// The segment.
    pub segment: SegmentId,
    /// The policy.
    pub policy: String,
}

impl<'p> Books<'p> {
    /// Empty books, for plans by these policies.
    #[must_use]
    pub fn new(policies: &'p PolicySet) -> Self {
        let names = policies.policies().iter().map(|policy| policy.name.as_str());
        let mut places = Places::default();
        let mut place = |stage: &Cold| places.number(&stage.store, stage.class.as_deref());
        let stages = policies.policies().iter().map(|policy| policy.cold.iter().map(&mut place).collect());
        Self {
            policies,
            names: names.clone().map(Arc::from).collect(),
            numbers: names.zip(0..).collect(),
            stages: stages.collect(),
            places,
            items: Vec::new(),
            parts: Vec::new(),
            room: Room::new(policies),
            rolled_up_to: 0,
            litter: Vec::new(),
            kept: Vec::new(),
            deleted_to: 0,
            waiting: None,
            unsaved: false,
            fresh: Vec::new(),
            due: BTreeMap::new(),
        }
    }

    /// Events before `position` are rolled up, by whatever policies wanted it. What comes behind it is not deleted yet where its policy
    /// wants it rolled up.
    #[must_use]
    pub fn rolled_up_to(self, position: u64) -> Self {
        Self { rolled_up_to: position, ..self }
    }

    /// Takes a segment in. Its shares are by these policies; `held` says whether a hold freezes any of it.
    ///
    /// # Errors
    /// When a share names a policy that there is not; the segment is not taken then.
    pub fn add(&mut self, segment: &Segment, held: bool) -> Result<(), UnknownPolicy> {
        let first = self.parts.len();
        for share in &segment.shares {
            let Some(&policy) = self.numbers.get(share.policy.as_str()) else {
                self.parts.truncate(first);
                return Err(UnknownPolicy { segment: segment.id, policy: share.policy.clone() });
            };
            let item = self.items.len() as u32;
            self.parts.push(Part { item, policy, beyond: false, crowded: None, bytes: share.bytes });
        }
        let mut copies = Copies::default();
        for copy in &segment.copies {
            let place = self.places.number(&copy.store, copy.class.as_deref());
            copies.push(Kept { place, day: day(copy.verified) });
        }
        self.push(Item {
            id: segment.id,
            bytes: segment.bytes,
            end: segment.positions.end,
            received: segment.received.last,
            event: segment.events.last,
            mark: segment.deletion.as_ref().map(|deletion| deletion.due),
            first: first as u32,
            count: (self.parts.len() - first) as u16,
            copies,
            local: segment.local,
            held,
            unrolled: segment.positions.end > self.rolled_up_to,
            gone: false,
            look: i64::MIN,
        });
        Ok(())
    }

    /// Takes in an item whose parts are the last ones.
    pub(super) fn push(&mut self, item: Item) {
        let number = u32::try_from(self.items.len()).expect("a catalog has less than 2^32 segments");
        self.room.add(&item, &self.parts);
        self.items.push(item);
        self.fresh.push(number);
    }

    /// Takes in a new local segment of one policy.
    pub(super) fn arrive(&mut self, id: SegmentId, policy: u16, bytes: u64, (time, end): (i64, u64)) {
        let first = self.parts.len() as u32;
        let item = self.items.len() as u32;
        self.parts.push(Part { item, policy, beyond: false, crowded: None, bytes });
        let (copies, look) = (Copies::default(), i64::MIN);
        let (local, held, unrolled, gone) = (true, false, false, false);
        let (received, event, mark, count) = (time, time, None, 1);
        self.push(Item {
            id,
            bytes,
            end,
            received,
            event,
            mark,
            first,
            count,
            copies,
            local,
            held,
            unrolled,
            gone,
            look,
        });
    }

    /// The number of the policy with this name.
    pub(super) fn policy(&self, name: &str) -> Option<u16> {
        self.numbers.get(name).copied()
    }

    pub(super) fn parts_of(&self, item: &Item) -> &[Part] {
        let first = item.first as usize;
        &self.parts[first..first + usize::from(item.count)]
    }

    /// Has an item looked at in the next plan.
    pub(super) fn touch(&mut self, item: u32) {
        self.fresh.push(item);
    }

    /// What is to be done now. The books stay as they are: they do not know what will have been done, except by
    /// [`Books::new`] and [`Books::add`] of what is there then.
    pub fn plan(&mut self, moment: &Moment) -> Plan {
        let steps = self.steps(moment);
        let actions = steps.into_iter().map(|step| self.action(step)).collect();
        let snapshots = self.plan_snapshots(moment);
        Plan { actions, snapshots, unrolled: self.due_but_unrolled(moment) }
    }

    /// The segments that would be deleted if they were rolled up.
    fn due_but_unrolled(&self, moment: &Moment) -> Vec<(SegmentId, Arc<str>)> {
        let unrolled = self.items.iter().filter(|item| item.unrolled && !item.gone && item.mark.is_none());
        let waits = |part: &&Part, item| decide::waits_for_rollups(self, item, part, moment.now);
        let waiting = unrolled.filter_map(|item| {
            let part = self.parts_of(item).iter().find(|part| waits(part, item))?;
            Some((item.id, Arc::clone(&self.names[usize::from(part.policy)])))
        });
        waiting.collect()
    }

    /// Has everything count as rolled up: whoever looks ahead reckons that it will be.
    pub(super) fn roll_up_all(&mut self) {
        self.items.iter_mut().for_each(|item| item.unrolled = false);
    }

    /// A step for those who do it.
    pub(super) fn action(&self, step: Step) -> Action {
        let item = &self.items[step.item as usize];
        Action {
            segment: item.id,
            bytes: item.bytes,
            policy: Arc::clone(&self.names[usize::from(step.policy)]),
            kind: self.kind(step.task),
            reason: step.reason,
        }
    }

    fn kind(&self, task: Task) -> Kind {
        let place = |place: Place| Arc::clone(self.places.get(place));
        match task {
            Task::Upload(to) => Kind::Upload(place(to)),
            Task::DropCopy(from) => Kind::DropCopy(place(from)),
            Task::DropLocal => Kind::DropLocal,
            Task::Mark { due } => Kind::Mark { due },
            Task::Unmark => Kind::Unmark,
            Task::Delete => Kind::Delete,
            Task::Split => Kind::Split,
            Task::Await => unreachable!("a wait is no action"),
        }
    }

    /// The same in few bytes.
    pub(super) fn steps(&mut self, moment: &Moment) -> Vec<Step> {
        let crowded = self.make_room(moment);
        self.fresh.extend(crowded);
        let mut items = std::mem::take(&mut self.fresh);
        self.take_due(moment.now, &mut items);
        items.sort_unstable();
        items.dedup();

        let mut steps = Vec::new();
        for number in items {
            let item = &self.items[number as usize];
            if item.gone {
                continue;
            }
            let before = steps.len();
            let next = decide::item(self, number, moment, &mut steps);
            match steps.len() > before {
                true => self.fresh.push(number), // what is done about it is to be seen
                false => self.look_again(number, next),
            }
        }
        (self.waiting, self.unsaved) = (None, false);
        let saved = moment.saved.map_or(0, |saved| saved.position);
        for step in steps.extract_if(.., |step| step.task == Task::Await) {
            let item = &self.items[step.item as usize];
            self.unsaved |= item.end > saved;
            if step.reason == Reason::UndoOver {
                Waiting::add(&mut self.waiting, item);
            }
        }
        let urgent = |reason: Reason| !reason.makes_room();
        steps.sort_by_key(|step| (urgent(step.reason), self.items[step.item as usize].id));
        steps
    }

    /// Adds to `items` those about which something may be due by `now`.
    fn take_due(&mut self, now: i64, items: &mut Vec<u32>) {
        let coarse = now >> COARSE;
        while let Some(entry) = self.due.first_entry().filter(|entry| *entry.key() <= coarse) {
            let (key, numbers) = entry.remove_entry();
            let look = |number: &u32| self.items[*number as usize].look;
            items.extend(numbers.iter().filter(|number| look(number) <= now));
            if key == coarse {
                let later =
                    numbers.into_iter().filter(|number| look(number) > now && look(number) >> COARSE == key);
                let later: Vec<u32> = later.collect();
                if !later.is_empty() {
                    self.due.insert(key, later);
                }
                break;
            }
        }
    }

    fn look_again(&mut self, number: u32, at: Option<i64>) {
        self.items[number as usize].look = at.unwrap_or(i64::MAX);
        if let Some(at) = at {
            self.due.entry(at >> COARSE).or_default().push(number);
        }
    }
}

/// The day of an instant, counted from the Unix epoch.
pub(super) fn day(instant: i64) -> i32 {
    instant.div_euclid(DAY) as i32
}
