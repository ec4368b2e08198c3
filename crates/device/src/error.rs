//! What can go wrong in calls; what goes wrong in the background is an [`Event`](crate::Event).

use std::path::PathBuf;

use icecore_wire::{BatchError, DeviceName};

/// Why a device or gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The identity is a gateway's where a device's is needed, or the other way round.
    #[error("the identity is {found}, but {wanted} is needed")]
    Role {
        /// What the certificate names.
        found: String,
        /// What the call needs.
        wanted: &'static str,
    },
    /// The certificate, key or CA cannot be used.
    #[error("the identity cannot be used for TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The socket cannot be made.
    #[error("cannot open a UDP socket: {0}")]
    Socket(std::io::Error),
    /// The spool cannot be opened.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The gateway has the device already; use a clone of that one.
    #[error("the gateway has a device {0} already")]
    Exists(DeviceName),
}

/// Why events cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The values do not fit the schema. Nothing was recorded.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A batch was handed in behind later ones. Close the device, and hand it in to a new one of the epoch.
    #[error("the batch from sequence {first} came behind sequence {next}")]
    OutOfOrder {
        /// Its first sequence.
        first: u64,
        /// The sequence behind the last batch.
        next: u64,
    },
    /// The device was closed.
    #[error("the device is closed")]
    Closed,
    /// The spool's disk failed. Nothing more is recorded: what cannot be synced must not be sent.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// What went wrong with a spool on disk.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpoolError {
    /// Another process has the spool open.
    #[error("the spool {} is in use by another process", dir.display())]
    InUse {
        /// The spool's directory.
        dir: PathBuf,
    },
    /// The system refused something.
    #[error("spool file {}: {what}: {reason}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was attempted.
        what: &'static str,
        /// What the system said.
        reason: String,
    },
}
