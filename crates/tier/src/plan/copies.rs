//! Where the copies of a segment are, in few bytes.

use std::collections::HashMap;
use std::sync::Arc;

use super::action::Destination;

/// The number of a [`Destination`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place(u16);

/// All destinations there are, each once. Segments have numbers of them.
#[derive(Debug, Default)]
pub(super) struct Places {
    all: Vec<Arc<Destination>>,
    /// By store, the numbers of its destinations.
    numbers: HashMap<String, Vec<Place>>,
}

impl Places {
    /// The number of a destination, a new one if it has none.
    ///
    /// # Panics
    /// Beyond 65,536 of them, which no catalog of ours has: stores and classes are written by people.
    pub(super) fn number(&mut self, store: &str, class: Option<&str>) -> Place {
        let known = self.numbers.get(store).map_or(&[][..], Vec::as_slice);
        let same = |place: &&Place| self.all[usize::from(place.0)].class.as_deref() == class;
        if let Some(place) = known.iter().find(same) {
            return *place;
        }
        let place = Place(self.all.len().try_into().expect("stores and classes are few"));
        self.all.push(Arc::new(Destination { store: store.to_owned(), class: class.map(str::to_owned) }));
        self.numbers.entry(store.to_owned()).or_default().push(place);
        place
    }

    pub(super) fn get(&self, place: Place) -> &Arc<Destination> {
        &self.all[place.index()]
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Destination> {
        self.all.iter().map(AsRef::as_ref)
    }

    pub(super) fn share_a_store(&self, one: Place, other: Place) -> bool {
        one == other || self.get(one).store == self.get(other).store
    }
}

impl Place {
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A verified copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Kept {
    pub(super) place: Place,
    /// The day it was verified on, counted from the Unix epoch: for the fees of storage classes with a least time.
    pub(super) day: i32,
}

/// Copies that are known of a segment: it has one in each store, and those in more stores than this are superseded ones,
/// which are seen to in later plans.
const MOST: usize = 4;

/// The newest verified copies of a segment, oldest first.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Copies {
    kept: [Kept; MOST],
    count: u8,
}

impl Copies {
    pub(super) fn iter(&self) -> impl Iterator<Item = Kept> {
        self.kept.into_iter().take(usize::from(self.count))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn push(&mut self, copy: Kept) {
        let full = usize::from(self.count) == MOST;
        if full {
            self.kept.rotate_left(1);
            self.count -= 1;
        }
        self.kept[usize::from(self.count)] = copy;
        self.count += 1;
    }

    /// Removes those for which `gone` holds, and returns them.
    pub(super) fn take(&mut self, gone: impl Fn(Kept) -> bool) -> Vec<Kept> {
        let (taken, left): (Vec<Kept>, Vec<Kept>) = self.iter().partition(|copy| gone(*copy));
        *self = Self::default();
        left.into_iter().for_each(|copy| self.push(copy));
        taken
    }
}
