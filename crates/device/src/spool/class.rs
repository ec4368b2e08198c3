//! What is live and what is backlog.

use std::ops::{Index, IndexMut};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Which batch stream a batch travels on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Cut since the epoch was attached, or little enough before it.
    Live,
    /// What piled up before: sent behind everything live.
    Backlog,
}

impl Class {
    pub(crate) const ALL: [Self; 2] = [Self::Live, Self::Backlog];
}

/// A number for each class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ByClass([usize; 2]);

impl ByClass {
    pub(crate) fn new(live: usize, backlog: usize) -> Self {
        Self([live, backlog])
    }

    pub(crate) fn total(&self) -> usize {
        self.0.iter().sum()
    }
}

impl Index<Class> for ByClass {
    type Output = usize;

    fn index(&self, class: Class) -> &usize {
        &self.0[class as usize]
    }
}

impl IndexMut<Class> for ByClass {
    fn index_mut(&mut self, class: Class) -> &mut usize {
        &mut self.0[class as usize]
    }
}

/// Bytes sent and not acked, of all devices on a connection. The devices change it, the connection goes by it.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    live: AtomicUsize,
    backlog: AtomicUsize,
}

impl InFlight {
    pub(crate) fn of(&self, class: Class) -> usize {
        self.counter(class).load(Ordering::Relaxed)
    }

    pub(crate) fn total(&self) -> usize {
        self.of(Class::Live) + self.of(Class::Backlog)
    }

    pub(super) fn add(&self, class: Class, bytes: usize) {
        self.counter(class).fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, bytes: ByClass) {
        for class in Class::ALL {
            self.counter(class).fetch_sub(bytes[class], Ordering::Relaxed);
        }
    }

    fn counter(&self, class: Class) -> &AtomicUsize {
        match class {
            Class::Live => &self.live,
            Class::Backlog => &self.backlog,
        }
    }
}
