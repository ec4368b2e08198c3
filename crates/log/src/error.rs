//! What can go wrong with a log, grouped by what the caller can do about it.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use icecore_wire::{DeviceName, Epoch};

use crate::segment_id::SegmentId;

/// Opening, recovering or reading failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused something; the message names the file and what was tried.
    #[error("cannot {what} {}: {source}", file.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// The file or directory it was tried on.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Stored bytes are not what was once made durable.
    #[error("damaged: {0}; to go on without it, accept it by its name, {name}", name = .0.name())]
    Damaged(Box<Damage>),
    /// Another process writes to this log.
    #[error("{} is locked: another process writes to this log; stop it first", file.display())]
    Locked {
        /// The lock file.
        file: PathBuf,
    },
    /// The file was written by a later version, or is no file of this log.
    #[error("{}: {what}", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What is unexpected in it.
        what: String,
    },
    /// A sealed segment is in object storage, not here.
    #[error(
        "sealed segment {id} (positions {} to {}) is not here; read it through the store that has it, \
         or ask for what is here only",
        positions.start, positions.end
    )]
    Absent {
        /// The segment.
        id: SegmentId,
        /// From its first event's position to behind its last one's.
        positions: Range<u64>,
    },
    /// The batches of a sealed segment cannot be looked up any more: its events were deleted, and its last part was lost as well.
    #[error("sealed segment {id} was deleted, and nothing is left of it to compare batches with")]
    Forgotten {
        /// The segment.
        id: SegmentId,
    },
    /// Whether a manifest was written is not known: its sync failed, and a sync is never retried.
    #[error("the log takes no more seals after an earlier failure; open it again")]
    SealsPoisoned,
    /// A stored batch cannot become part of a sealed segment; nothing was sealed.
    #[error(
        "the batch of {}, epoch {epoch}, from sequence {first_sequence} on cannot be sealed: {what}",
        device.as_str()
    )]
    Unsealable {
        /// Its device.
        device: DeviceName,
        /// Its epoch.
        epoch: Epoch,
        /// The sequence of its first event.
        first_sequence: u64,
        /// Why.
        what: String,
    },
}

impl LogError {
    pub(crate) fn io(what: &'static str, file: &Path) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_path_buf();
        move |source| Self::Io { what, file, source }
    }
}

impl From<Damage> for LogError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(Box::new(damage))
    }
}

/// A place in the log whose bytes cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The damaged file.
    pub file: PathBuf,
    /// Where in it the damage starts, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// The positions that cannot be read because of it, where they are known. Blocks without events affect none.
    pub positions: Option<Range<u64>>,
}

impl Damage {
    /// The name by which an operator accepts this damage: `<file name>@<offset>`.
    #[must_use]
    pub fn name(&self) -> String {
        let file = self.file.file_name().unwrap_or_default();
        format!("{}@{}", file.to_string_lossy(), self.offset)
    }

    /// Whether an operator means this damage: by its name, or by that of its file, which stands for all damage in it.
    /// One lost block can make many after it unreadable, if it announced what they refer to.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        name == self.name() || self.file.file_name().is_some_and(|file| file == name)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}: {}", self.file.display(), self.offset, self.what)?;
        match &self.positions {
            Some(range) => write!(f, "; positions {} to {} are affected", range.start, range.end),
            None => write!(f, "; which positions are affected is not known"),
        }
    }
}

/// A block was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// There is no space for it. Nothing counts as written: keep the block and commit it again later.
    #[error("no space left for {}: {source}; free some space, the block is kept and tried again", file.display())]
    Full {
        /// The file that could not grow.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A write or sync failed. What the disk holds is unknown from now on: stop acknowledging and restart.
    #[error("cannot {what} {}: {source}; the log takes no more writes until it is opened again", file.display())]
    Fatal {
        /// What was tried, as a verb.
        what: &'static str,
        /// The file it was tried on.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// An earlier commit failed for good; an fsync is never retried.
    #[error("the log takes no more writes after an earlier failure; open it again")]
    Poisoned,
}

impl CommitError {
    /// Only a full disk leaves room for another try.
    pub(crate) fn io(what: &'static str, file: &Path) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { file, source },
            _ => Self::Fatal { what, file, source },
        }
    }

    pub(crate) fn fatal(what: &'static str, file: &Path) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_path_buf();
        move |source| Self::Fatal { what, file, source }
    }
}

impl From<CommitError> for LogError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Full { file, source } => Self::Io { what: "reserve space in", file, source },
            CommitError::Fatal { what, file, source } => Self::Io { what, file, source },
            CommitError::Poisoned => unreachable!("a log that is being opened has no earlier failure"),
        }
    }
}
