//! What is to go because there is too much of it.

use std::cmp::Reverse;

use crate::policy::{Policy, PolicySet};
use crate::segment::SegmentId;

use super::action::{Moment, Reason};
use super::books::{Books, Item, Part};

/// Why a local copy is to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crowding {
    /// Its policy has more local bytes than it may have.
    Size,
    /// The disk has less free than its policy wants.
    Disk,
}

impl Crowding {
    pub(super) fn reason(self, policy: &Policy) -> Reason {
        match self {
            Self::Size => Reason::Size(policy.local.max_bytes.unwrap_or_default()),
            Self::Disk => Reason::DiskFull(policy.local.min_free.unwrap_or_default()),
        }
    }
}

/// The parts of those policies that have a limit of some kind, and what is to go of them by the last plan.
#[derive(Debug)]
pub(super) struct Room {
    /// By policy; `None` where it has no limit.
    limited: Vec<Option<Limited>>,
    /// The policies that want some of the disk free, in the order in which they give way.
    wary: Vec<u16>,
    /// The parts that were to go by the last plan, in order.
    flagged: Vec<u32>,
}

/// The parts of a policy, and how much they are.
#[derive(Debug, Default)]
struct Limited {
    all: Oldest,
    local: Oldest,
    /// Bytes that are not held.
    bytes: u64,
    /// Bytes of local copies.
    local_bytes: u64,
}

/// Parts, oldest first.
#[derive(Debug, Default)]
struct Oldest {
    parts: Vec<u32>,
    /// Parts that came behind a younger one, and are to be sorted in.
    late: Vec<u32>,
    /// What the last part is sorted by.
    newest: Option<(i64, SegmentId)>,
    /// How many of the parts do not count any more.
    left: usize,
}

impl Room {
    pub(super) fn new(policies: &PolicySet) -> Self {
        let policies = policies.policies();
        let is_limited = |policy: &Policy| {
            let deletes = policy.delete.is_some_and(|delete| delete.max_bytes.is_some());
            deletes || policy.local.max_bytes.is_some() || policy.local.min_free.is_some()
        };
        let wary = (0_u16..).zip(policies).filter(|(_, policy)| policy.local.min_free.is_some());
        let mut wary: Vec<(u16, u8)> = wary.map(|(number, policy)| (number, policy.importance)).collect();
        // Of two that are equally important, the later one gives way first: the default before those that name their data.
        wary.sort_by_key(|(number, importance)| (*importance, Reverse(*number)));
        Self {
            limited: policies.iter().map(|policy| is_limited(policy).then(Limited::default)).collect(),
            wary: wary.into_iter().map(|(number, _)| number).collect(),
            flagged: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, item: &Item, parts: &[Part]) {
        for number in item.first..item.first + u32::from(item.count) {
            let part = &parts[number as usize];
            let Some(limited) = &mut self.limited[usize::from(part.policy)] else { continue };
            limited.all.push(number, item.age());
            limited.bytes += if item.held { 0 } else { part.bytes };
            if item.local {
                limited.local.push(number, item.age());
                limited.local_bytes += part.bytes;
            }
        }
    }

    /// The local copy of an item with these parts is gone.
    pub(super) fn local_left(&mut self, parts: &[Part]) {
        for part in parts {
            if let Some(limited) = &mut self.limited[usize::from(part.policy)] {
                limited.local_bytes -= part.bytes;
                limited.local.left += 1;
            }
        }
    }

    /// An item with these parts, whose local copy was gone before, is gone.
    pub(super) fn left(&mut self, item: &Item, parts: &[Part]) {
        for part in parts {
            if let Some(limited) = &mut self.limited[usize::from(part.policy)] {
                limited.bytes -= if item.held { 0 } else { part.bytes };
                limited.all.left += 1;
            }
        }
    }
}

impl Oldest {
    fn push(&mut self, part: u32, age: (i64, SegmentId)) {
        match Some(age) >= self.newest {
            true => self.parts.push(part),
            false => self.late.push(part),
        }
        self.newest = self.newest.max(Some(age));
    }

    /// Sorts the parts by age, and forgets those that do not count any more when they are half of all.
    fn tidy(&mut self, items: &[Item], parts: &[Part], counts: impl Fn(&Item) -> bool) {
        let item = |part: &u32| &items[parts[*part as usize].item as usize];
        let mut late = std::mem::take(&mut self.late);
        // A few children of a split are cheaper to insert than all parts to sort.
        if late.len() > self.parts.len() / 64 {
            self.parts.append(&mut late);
            self.parts.sort_by_key(|part| item(part).age());
        }
        for part in late {
            let place = self.parts.partition_point(|other| item(other).age() <= item(&part).age());
            self.parts.insert(place, part);
        }
        if self.left > self.parts.len() / 2 {
            self.parts.retain(|part| counts(item(part)));
            self.left = 0;
        }
    }
}

impl Books<'_> {
    /// Flags the parts that are to go because there is too much, and returns the items whose flags changed.
    pub(super) fn make_room(&mut self, moment: &Moment) -> Vec<u32> {
        let flags = |part: &Part| (part.beyond, part.crowded);
        let before = std::mem::take(&mut self.room.flagged);
        let was: Vec<_> = before.iter().map(|part| flags(&self.parts[*part as usize])).collect();
        for part in &before {
            let part = &mut self.parts[*part as usize];
            (part.beyond, part.crowded) = (false, None);
        }
        for limited in self.room.limited.iter_mut().flatten() {
            limited.all.tidy(&self.items, &self.parts, |item| !item.gone);
            limited.local.tidy(&self.items, &self.parts, |item| item.local);
        }
        let mut free = moment.free;
        for policy in 0..self.room.limited.len() {
            self.delete_beyond(policy);
            free = free.saturating_add(self.crowd_local(policy, moment));
        }
        for place in 0..self.room.wary.len() {
            free = self.crowd_disk(usize::from(self.room.wary[place]), free, moment);
        }

        self.room.flagged.sort_unstable();
        self.room.flagged.dedup();
        let changed =
            before.iter().zip(was).filter(|(part, was)| flags(&self.parts[**part as usize]) != *was);
        let mut changed: Vec<u32> = changed.map(|(part, _)| *part).collect();
        changed.extend(self.room.flagged.iter().filter(|part| before.binary_search(part).is_err()));
        changed.iter().map(|part| self.parts[*part as usize].item).collect()
    }

    /// Flags the oldest that are beyond the size at which the policy deletes. What is held neither counts nor goes.
    fn delete_beyond(&mut self, policy: usize) {
        let limit = self.policies.policies()[policy].delete.and_then(|delete| delete.max_bytes);
        let (Some(limit), Some(limited)) = (limit, &self.room.limited[policy]) else { return };
        let mut bytes = limited.bytes;
        for number in &limited.all.parts {
            if bytes <= limit {
                break;
            }
            let part = &mut self.parts[*number as usize];
            let item = &self.items[part.item as usize];
            if !item.gone && !item.held {
                part.beyond = true;
                bytes -= part.bytes;
                self.room.flagged.push(*number);
            }
        }
    }

    /// Flags the oldest local copies beyond what the policy may have of them; returns the bytes that makes free.
    fn crowd_local(&mut self, policy: usize, moment: &Moment) -> u64 {
        let limit = self.policies.policies()[policy].local.max_bytes;
        let Some(limited) = &self.room.limited[policy] else { return 0 };
        let excess = limited.local_bytes.saturating_sub(limit.unwrap_or(u64::MAX));
        self.crowd(policy, Crowding::Size, excess, moment)
    }

    /// Flags the oldest local copies of the policy until as much of the disk is free as it wants; returns what is then.
    fn crowd_disk(&mut self, policy: usize, free: u64, moment: &Moment) -> u64 {
        let wanted = self.policies.policies()[policy].local.min_free.unwrap_or_default();
        free.saturating_add(self.crowd(policy, Crowding::Disk, wanted.saturating_sub(free), moment))
    }

    /// Flags the oldest local copies of the policy that can go, until they are `wanted` bytes; returns how many they are.
    fn crowd(&mut self, policy: usize, crowding: Crowding, wanted: u64, moment: &Moment) -> u64 {
        let Some(limited) = &self.room.limited[policy] else { return 0 };
        let first = self.stages[policy].first().map(|place| self.places.get(*place).store.as_str());
        let reachable = first.is_some_and(|store| !moment.unreachable.iter().any(|other| other == store));
        let mut bytes = 0;
        for number in &limited.local.parts {
            if bytes >= wanted {
                break;
            }
            let part = &mut self.parts[*number as usize];
            let item = &self.items[part.item as usize];
            let stored = !item.copies.is_empty();
            let stays = !item.local || (item.held && item.count > 1);
            if !stays && part.crowded.is_none() && (stored || (reachable && item.mark.is_none())) {
                part.crowded = Some(crowding);
                bytes += part.bytes;
                self.room.flagged.push(*number);
            }
        }
        bytes
    }
}
