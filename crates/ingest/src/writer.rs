//! The writer: one owner of the hot log, and the threads around it.

use std::path::Path;

/// How the writer works. The defaults suit the reference machine.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Most bytes of batches that may wait for the writer; when they are reached, streams are no longer read.
    pub queue_bytes: usize,
    /// zstd level of a block when there is no backlog; under backlog the writer steps down from it.
    pub zstd_level: i32,
    /// Ingestion stops while the data directory's file system has less free space than this, in bytes.
    pub reserve_bytes: u64,
    /// Bounds the refused batches kept in `quarantine/`, in bytes.
    pub quarantine_bytes: u64,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { queue_bytes: 32 << 20, zstd_level: 1, reserve_bytes: 256 << 20, quarantine_bytes: 64 << 20 }
    }
}

/// How the writer is doing; `/readyz` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Batches are being made durable.
    Running,
    /// The disk is full up to the reserve: nothing is acked until space returns, and then work goes on by itself.
    DiskFull {
        /// What was found, for the operator.
        message: String,
    },
    /// A write or fsync failed. Nothing is acked from here on; the process has to end with an error.
    Failed {
        /// What failed, for the operator.
        message: String,
    },
    /// Stopped in good order.
    Stopped,
}

/// Why the writer could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A thread could not be started.
    #[error("cannot start the writer's threads: {0}")]
    Thread(#[source] std::io::Error),
}

/// Why the writer did not stop in good order. Whatever was acked is durable all the same.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// A write or fsync had failed before.
    #[error("the log failed and what was not acked is lost here; devices will send it again: {0}")]
    Failed(String),
    /// The disk was full to the end.
    #[error(
        "the disk stayed full, so batches that were received were not stored; devices will send them again: {0}"
    )]
    DiskFull(String),
}

/// The running writer: owns the log until it is stopped.
#[derive(Debug)]
pub struct Writer {
    health: tokio::sync::watch::Receiver<Health>,
}

/// The way into the writer and the answers out of it: [`Ingest::start`](crate::Ingest::start) takes it.
#[derive(Debug)]
pub struct WriterHandle {}

impl Writer {
    /// Opens the log in `data` (recovering it), and starts the threads.
    ///
    /// # Errors
    /// When the log cannot be opened: locked by another process, damaged, or unreadable.
    pub fn start(_data: &Path, _options: WriterOptions) -> Result<(Self, WriterHandle), StartError> {
        unimplemented!()
    }

    /// How the writer is doing; changes are worth waking up for (`Failed` wants the process to end).
    #[must_use]
    pub fn health(&self) -> tokio::sync::watch::Receiver<Health> {
        self.health.clone()
    }

    /// The first position that is not durable yet.
    #[must_use]
    pub fn durable_position(&self) -> u64 {
        unimplemented!()
    }

    /// Commits what was submitted, closes the log and joins the threads. Blocks the calling thread; most callers
    /// want [`Ingest::shutdown`](crate::Ingest::shutdown), which does this at the right moment.
    ///
    /// # Errors
    /// When something that was submitted could not be made durable.
    pub fn stop(self) -> Result<u64, StopError> {
        unimplemented!()
    }
}
