//! What goes wrong with a store, by what can be done about it.

use std::time::Duration;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The configuration names no store that can be used.
    #[error("store `{store}`: {reason}")]
    Configuration {
        /// The store's name.
        store: String,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// There is no such object.
    #[error("store `{store}`: no object {path}")]
    Missing {
        /// The store's name.
        store: String,
        /// The object.
        path: String,
    },
    /// A create-only object is there already, with other content.
    #[error(
        "store `{store}`: {path} exists already, with other content: another machine writes to this bucket"
    )]
    Exists {
        /// The store's name.
        store: String,
        /// The object.
        path: String,
    },
    /// The store does not let us: trying again changes nothing until somebody grants the right.
    #[error(
        "store `{store}`: not allowed to {action} {path}: {reason}; check the credentials and their rights"
    )]
    Denied {
        /// The store's name.
        store: String,
        /// What was tried.
        action: &'static str,
        /// The object.
        path: String,
        /// What the store said.
        reason: String,
    },
    /// The store did not answer, or not sensibly: it is worth trying again. Whether the request was carried out is not known.
    #[error("store `{store}`: cannot {action} {path}: {reason}")]
    Unavailable {
        /// The store's name.
        store: String,
        /// What was tried.
        action: &'static str,
        /// The object.
        path: String,
        /// What the store or the network said.
        reason: String,
    },
    /// The store failed so often that it is left alone for a while; nothing was tried.
    #[error("store `{store}` is left alone for {} s after {failures} failures in a row", retry_after.as_secs())]
    Resting {
        /// The store's name.
        store: String,
        /// Failures in a row.
        failures: u32,
        /// When it is tried again.
        retry_after: Duration,
    },
    /// The local file could not be read.
    #[error("{path}: {source}")]
    Local {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl StoreError {
    /// Whether the same request may succeed later without anybody doing something.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Resting { .. })
    }

    /// Whether the object is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// What `error`, met while trying to `action` the object `path` of `store`, means for the caller.
    pub(super) fn of(store: &str, action: &'static str, path: &str, error: &object_store::Error) -> Self {
        use object_store::Error;
        let (store, path) = (store.to_owned(), path.to_owned());
        match error {
            Error::NotFound { .. } => Self::Missing { store, path },
            Error::AlreadyExists { .. } | Error::Precondition { .. } => Self::Exists { store, path },
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                Self::Denied { store, action, path, reason: innermost(error) }
            }
            _ => Self::Unavailable { store, action, path, reason: innermost(error) },
        }
    }
}

/// The message at the end of a chain of causes: what the store or the network itself said.
fn innermost(error: &object_store::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}
