//! Planted bugs. Crash tests plant one and must notice; a build without the `mutants` feature has none of this.

use std::cell::Cell;

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Answers go out when their block is cut, not when it is durable.
    AckBeforeFsync,
    /// Deduplication looks one past the end of a batch.
    DedupOffByOne,
}

thread_local! {
    static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Plants a bug in this thread, or removes it.
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
}

pub(crate) fn planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}
