//! Planted bugs. Crash tests plant one and must notice it; without the `mutants` feature none can be planted.

#![cfg_attr(not(feature = "mutants"), expect(unreachable_pub, reason = "public only with the feature"))]

#[cfg(feature = "mutants")]
use std::cell::Cell;

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A block counts as durable before its sync.
    AckBeforeSync,
    /// Blocks are never synced.
    NoSync,
    /// A new segment's directory is not synced.
    DirectoryNotSynced,
    /// Recovery believes the last block it reads without writing it again.
    TrustPageCache,
    /// A manifest is written before its children are synced.
    ManifestBeforeChildren,
    /// A manifest is written before its children have their names for good.
    ChildrenNotNamed,
    /// The sources of a seal are removed before its manifest is durable.
    SourcesBeforeManifest,
    /// Recovery takes a manifest that is there for one that is durable.
    TrustManifest,
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
