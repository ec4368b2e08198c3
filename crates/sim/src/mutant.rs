//! Planted bugs, by the names the promises know them by.

use icecore_ingest::mutants as ingest;
use icecore_log::mutants as log;

/// A bug that a simulation must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Answers leave before their block's fsync.
    AckBeforeFsync,
    /// Blocks are written and never synced.
    NoFdatasync,
    /// A new segment's directory is not synced.
    DirectoryNotSynced,
    /// Recovery believes what it reads, without writing the last block again.
    RecoveryTrustsPageCache,
    /// Deduplication looks one past a batch's end.
    DedupOffByOne,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::AckBeforeFsync,
        Self::NoFdatasync,
        Self::DirectoryNotSynced,
        Self::RecoveryTrustsPageCache,
        Self::DedupOffByOne,
    ];

    /// Runs `work` with the bug planted in this thread.
    pub fn planted<T>(self, work: impl FnOnce() -> T) -> T {
        let (in_log, in_ingest) = match self {
            Self::AckBeforeFsync => (None, Some(ingest::Mutant::AckBeforeFsync)),
            Self::NoFdatasync => (Some(log::Mutant::NoSync), None),
            Self::DirectoryNotSynced => (Some(log::Mutant::DirectoryNotSynced), None),
            Self::RecoveryTrustsPageCache => (Some(log::Mutant::TrustPageCache), None),
            Self::DedupOffByOne => (None, Some(ingest::Mutant::DedupOffByOne)),
        };
        log::plant(in_log);
        ingest::plant(in_ingest);
        let result = work();
        log::plant(None);
        ingest::plant(None);
        result
    }
}
