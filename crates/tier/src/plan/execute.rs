//! What the books say after something was done.

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
    /// Copies that are not any more, replaced or removed.
    pub(super) removed: Vec<Kept>,
    /// The place that the bytes of an upload or a split came from; `None` is the local copy.
    pub(super) from: Option<Kept>,
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
                done.removed = item.copies.take(|copy| places.share_a_store(copy.place, place));
                item.copies.push(Kept { place, day: day(now) });
            }
            Task::DropCopy(place) => done.removed = item.copies.take(|copy| copy.place == place),
            Task::DropLocal => done.freed = self.drop_local(step.item),
            Task::Mark { due } => item.mark = Some(due),
            Task::Unmark => item.mark = None,
            Task::Delete => done = self.remove(step.item),
            Task::Split => {
                let parent = item.clone();
                done = self.remove(step.item);
                done.from = if parent.local { None } else { parent.copies.iter().last() };
                done.freed -= i64::try_from(parent.bytes).unwrap_or(i64::MAX);
                self.split(&parent);
            }
        }
        self.touch(step.item);
        done
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

    /// Takes an item with all of its bytes out of the books.
    fn remove(&mut self, number: u32) -> Done {
        let freed = self.drop_local(number);
        let item = &mut self.items[number as usize];
        item.gone = true;
        let removed = item.copies.take(|_| true);
        let (first, count) = (item.first as usize, usize::from(item.count));
        self.room.left(&self.items[number as usize], &self.parts[first..first + count]);
        Done { freed, removed, from: None }
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
