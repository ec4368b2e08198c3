//! Why something could not be done.

use std::path::PathBuf;

use icecore_log::{Damage, LogError};

use crate::catalog::CatalogError;
use crate::plan::UnknownPolicy;
use crate::policy::PolicyError;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Policies(#[from] PolicyError),
    #[error(transparent)]
    Policy(#[from] UnknownPolicy),
    #[error("the state cannot be saved: {source}")]
    State { source: std::io::Error },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error(
        "no store is called `{store}` in the configuration; add it, or apply policies that do not name it"
    )]
    NoStore { store: String },
    #[error(
        "store `{store}`: {object} is not what was sent to it when it is read back: {found} bytes of {sent}"
    )]
    Differs { store: String, object: String, found: u64, sent: u64 },
    #[error("{path}: this is not the segment that its manifest names: the roots differ")]
    Foreign { path: PathBuf },
    #[error("{damage}; and {others} more")]
    Damaged { damage: Box<Damage>, others: usize },
    #[error("the local file is gone and nobody dropped it, and there is no copy")]
    Nowhere,
    #[error("manifest {manifest} is not in store `{store}` yet, and goes first")]
    ManifestFirst { manifest: u64, store: String },
    #[error(
        "store `{store}` is empty, though there are copies in it by the catalog: is it the right one, and mounted if it is a directory?"
    )]
    Emptied { store: String },
    #[error("{bytes} bytes are to go through the disk, and only {free} are free")]
    NoRoom { bytes: u64, free: u64 },
    #[error("{object}: {what}; it is left as it is")]
    Stray { object: String, what: &'static str },
}

impl Trouble {
    /// What it is counted as.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Store(StoreError::Denied { .. }) => "denied",
            Self::Store(StoreError::Local { .. }) | Self::File { .. } | Self::NoRoom { .. } => "disk",
            Self::State { .. } => "state",
            Self::Store(_) => "store",
            Self::Catalog(CatalogError::Journal(_) | CatalogError::InDoubt { .. }) => "journal",
            Self::Catalog(_) => "catalog",
            Self::Log(LogError::Damaged(_)) | Self::Damaged { .. } | Self::Foreign { .. } | Self::Nowhere => {
                "damage"
            }
            Self::Log(_) => "log",
            Self::Policies(_) | Self::Policy(_) | Self::NoStore { .. } => "configuration",
            Self::Differs { .. } | Self::Stray { .. } | Self::Emptied { .. } => "differs",
            Self::ManifestFirst { .. } => "manifest",
        }
    }

    /// Whether the bytes of a segment are not what they were.
    pub(super) fn is_damage(&self) -> bool {
        self.kind() == "damage"
    }

    /// Whether there is no such file.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }

    /// Whether the journal was not there to be written to: then nothing else that needs it is tried.
    pub(super) fn is_journal(&self) -> bool {
        self.kind() == "journal"
    }
}
