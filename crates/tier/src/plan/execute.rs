//! What the books say after something was done.

use std::ops::Range;

use crate::segment::SegmentId;

use super::books::{Books, Item, day};
use super::copies::{Copies, Kept};
use super::decide::{Step, Task};

/// Children that segments are split into on paper are numbered from here on; those of a manifest are far fewer.
const SPLIT: u32 = 1 << 31;

/// What doing a step changed, beside the books.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Bytes that are free on the disk because of it, or less than none.
    pub(super) freed: i64,
    /// The place that the bytes of an upload or a split came from; `None` is the local copy.
    pub(super) from: Option<Kept>,
}

/// Bytes of an item that no book has any more, and that are still there.
#[derive(Debug)]
pub(super) struct Litter {
    pub(super) item: u32,
    /// Their objects.
    pub(super) copies: Vec<Kept>,
    /// How often the catalog is told that some of them are gone.
    pub(super) told: u64,
    /// When they may go.
    goes: Goes,
}

/// When litter may go.
#[derive(Debug)]
enum Goes {
    /// In the pass that decided it.
    AtOnce,
    /// In a later pass.
    Later,
    /// When every one of these items has a verified copy, or is gone itself.
    After(Range<u32>),
}

impl Books<'_> {
    /// Does a step on paper: the books are then as they would be with everything done at `now`.
    pub(super) fn execute(&mut self, step: &Step, now: i64) -> Done {
        let item = &mut self.items[step.item as usize];
        let mut done = Done::default();
        match step.task {
            Task::Upload(place) => {
                done.from = if item.local { None } else { item.copies.iter().last() };
                let places = &self.places;
                let replaced = item.copies.take(|copy| places.share_a_store(copy.place, place));
                item.copies.push(Kept { place, day: day(now) });
                self.litter(step.item, replaced, 0, Goes::Later);
            }
            Task::DropCopy(place) => {
                let dropped = item.copies.take(|copy| copy.place == place);
                let told = dropped.len() as u64;
                self.litter(step.item, dropped, told, Goes::AtOnce);
            }
            Task::DropLocal => done.freed = self.drop_local(step.item),
            Task::Mark { due } => item.mark = Some(due),
            Task::Unmark => item.mark = None,
            Task::Delete => {
                self.deleted_to = self.deleted_to.max(item.end);
                done.freed = self.remove(step.item, Goes::AtOnce);
            }
            Task::Await => unreachable!("a wait is no step"),
            Task::Split => {
                let parent = item.clone();
                done.from = if parent.local { None } else { parent.copies.iter().last() };
                let children = self.items.len() as u32..self.items.len() as u32 + u32::from(parent.count);
                let goes = if parent.copies.is_empty() { Goes::Later } else { Goes::After(children) };
                done.freed = self.remove(step.item, goes);
                done.freed -= i64::try_from(parent.bytes).unwrap_or(i64::MAX);
                self.split(&parent);
            }
        }
        self.touch(step.item);
        done
    }

    fn litter(&mut self, item: u32, copies: Vec<Kept>, told: u64, goes: Goes) {
        if !copies.is_empty() || told > 0 {
            self.litter.push(Litter { item, copies, told, goes });
        }
    }

    /// Takes out the litter that was decided in this pass.
    pub(super) fn take_new_litter(&mut self) -> Vec<Litter> {
        self.litter.extract_if(.., |litter| matches!(litter.goes, Goes::AtOnce)).collect()
    }

    /// Takes out the litter of earlier passes that may go now.
    pub(super) fn take_old_litter(&mut self) -> Vec<Litter> {
        let items = &self.items;
        let is_elsewhere = |item: &Item| item.gone || !item.copies.is_empty();
        let may_go = |litter: &mut Litter| match &litter.goes {
            Goes::AtOnce | Goes::Later => true,
            Goes::After(items_of) => items_of.clone().all(|item| is_elsewhere(&items[item as usize])),
        };
        self.litter.extract_if(.., may_go).collect()
    }

    fn drop_local(&mut self, number: u32) -> i64 {
        let item = &mut self.items[number as usize];
        if !std::mem::take(&mut item.local) {
            return 0;
        }
        let bytes = item.bytes;
        let (first, count) = (item.first as usize, usize::from(item.count));
        self.room.local_left(&self.parts[first..first + count]);
        i64::try_from(bytes).unwrap_or(i64::MAX)
    }

    /// Takes an item with all of its bytes out of the books; returns what is free because of it.
    fn remove(&mut self, number: u32, goes: Goes) -> i64 {
        let was_local = self.items[number as usize].local;
        let freed = self.drop_local(number);
        let item = &mut self.items[number as usize];
        item.gone = true;
        let copies = item.copies.take(|_| true);
        let (first, count) = (item.first as usize, usize::from(item.count));
        self.room.left(&self.items[number as usize], &self.parts[first..first + count]);
        let told = copies.len() as u64 + u64::from(was_local);
        self.litter(number, copies, told, goes);
        freed
    }

    /// Makes a local item of each part of `parent`.
    fn split(&mut self, parent: &Item) {
        for number in parent.first..parent.first + u32::from(parent.count) {
            let mut part = self.parts[number as usize];
            part.item = self.items.len() as u32;
            (part.beyond, part.crowded) = (false, None);
            let first = self.parts.len() as u32;
            let child = SPLIT | (self.items.len() as u32 & (SPLIT - 1));
            let id = SegmentId { manifest: parent.id.manifest, child };
            self.parts.push(part);
            let (copies, mark) = (Copies::default(), None);
            self.push(Item {
                id,
                bytes: part.bytes,
                copies,
                mark,
                first,
                count: 1,
                local: true,
                ..parent.clone()
            });
        }
    }
}
