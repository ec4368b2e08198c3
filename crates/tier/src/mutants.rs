//! Planted bugs. Tests plant one and must notice it; without the `mutants` feature none can be planted.

#![cfg_attr(not(feature = "mutants"), expect(unreachable_pub, reason = "public only with the feature"))]

#[cfg(feature = "mutants")]
use std::cell::Cell;

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// What is destructive takes effect before the journal has it.
    EffectBeforeJournal,
    /// A rebuild passes over holds.
    RebuildIgnoresHolds,
    /// A copy is recorded without having been read back.
    CopyNotCompared,
    /// A local file goes before it is decided that it may.
    FileBeforeDecision,
    /// The bytes of a segment go when it is marked.
    DeleteAtMark,
    /// A snapshot is recorded without having been read back.
    SnapshotNotCompared,
}

#[cfg(feature = "mutants")]
thread_local! {
    static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Plants a bug in this thread, or removes it.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
}

#[cfg(feature = "mutants")]
pub(crate) fn planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

#[cfg(not(feature = "mutants"))]
pub(crate) const fn planted(_: Mutant) -> bool {
    false
}
