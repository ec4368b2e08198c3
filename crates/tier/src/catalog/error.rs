//! What can go wrong with a catalog.

use std::path::PathBuf;

use crate::journal::JournalError;
use crate::segment::SegmentId;

/// The catalog could not be read, or did not do what was asked; then nothing of it was done.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The database refused, or is damaged.
    #[error("catalog.redb: {0}{to_do}", to_do = to_do(.0))]
    Database(Box<redb::Error>),
    /// Another process has the catalog open for writing.
    #[error("{} is in use by another process; ask the server, or stop it first", file.display())]
    InUse {
        /// The database file.
        file: PathBuf,
    },
    /// There is no catalog yet.
    #[error("{} does not exist; the server makes it when it starts", file.display())]
    Absent {
        /// The database file.
        file: PathBuf,
    },
    /// A row cannot be read.
    #[error("catalog.redb: {table}: the row of {key} cannot be read ({what}); rebuild the catalog")]
    Row {
        /// The table.
        table: &'static str,
        /// Which row.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// What was asked would break an invariant, or a stored state breaks it.
    #[error(transparent)]
    Broken(#[from] Violation),
    /// No live segment has this name.
    #[error("there is no segment {segment} in the catalog{}", if *.gone { " any more; `segments explain` says why" } else { "" })]
    Unknown {
        /// The name asked for.
        segment: SegmentId,
        /// Whether there was one.
        gone: bool,
    },
    /// No hold has this number.
    #[error("there is no hold {number}; `hold list` shows those that stand")]
    NoHold {
        /// The number asked for.
        number: u64,
    },
    /// What was asked contradicts what is so.
    #[error("{about}: {what}")]
    Refused {
        /// What it is about.
        about: String,
        /// What contradicts it, and what to do.
        what: String,
    },
    /// Nothing is deleted at present.
    #[error("nothing is deleted until an operator confirms it: {reason}")]
    DeletionsOff {
        /// Why deletions are off.
        reason: String,
    },
    /// A decision that wants to be on record first is not yet; it takes effect when the bucket answers, unless something that
    /// comes before forbids it.
    #[error(
        "decision {decision} is not known to be in the journal yet and takes effect when it is: {source}"
    )]
    InDoubt {
        /// The decision's number.
        decision: u64,
        /// What the bucket said.
        source: JournalError,
    },
    /// The decision got on record too late to be still allowed; nothing of it was done.
    #[error("decision {decision} was taken back: {reason}")]
    Voided {
        /// The decision's number.
        decision: u64,
        /// What forbade it.
        reason: String,
    },
    /// The journal in the bucket could not be read or extended.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The file system refused.
    #[error("cannot {what} {}: {source}", file.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// The file it was tried on.
        file: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl CatalogError {
    /// Whether the decision was not allowed, rather than not possible to carry out.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Broken(_)
                | Self::Unknown { .. }
                | Self::NoHold { .. }
                | Self::Refused { .. }
                | Self::DeletionsOff { .. }
        )
    }

    /// What forbids a decision, for the history: without what the reader of an error is told beside.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Broken(violation) => format!("{}: {}", violation.invariant, violation.what),
            error => error.to_string(),
        }
    }
}

/// What helps against damage, behind the message that tells of it.
fn to_do(error: &redb::Error) -> &'static str {
    let is_damage = match error {
        redb::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => true,
        _ => false,
    };
    if is_damage {
        "; it is damaged: stop the server, and make it anew with `icecore catalog rebuild`"
    } else {
        ""
    }
}

/// An invariant of the catalog that does not hold, or would not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "catalog: `{invariant}` is broken by {about}: {what}. It must hold that {says}; nothing was changed. {to_do}"
)]
pub struct Violation {
    /// The invariant's name.
    pub invariant: &'static str,
    /// What it demands.
    pub says: &'static str,
    /// The segment, manifest or table that breaks it.
    pub about: String,
    /// In what way.
    pub what: String,
    /// What to do about it.
    pub to_do: &'static str,
}

macro_rules! from_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for CatalogError {
            fn from(error: redb::$error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        })*
    };
}

from_redb!(StorageError, TableError, TransactionError, CommitError, DatabaseError);
