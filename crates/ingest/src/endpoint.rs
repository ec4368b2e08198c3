//! The QUIC endpoint: who may connect, and how the transport is tuned for many small connections.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{Registry, StopError, Writer, WriterHandle};

/// Where the endpoint listens and what it shows.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// UDP address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// PEM file with the CA that signs devices' and gateways' certificates.
    pub ca: PathBuf,
    /// PEM file with the server's certificate chain.
    pub certificate: PathBuf,
    /// PEM file with the server's private key.
    pub key: PathBuf,
}

/// Why the endpoint could not start.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The address could not be bound.
    #[error("cannot listen on UDP {listen}: {source}")]
    Bind {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The running endpoint.
#[derive(Debug)]
pub struct Ingest {}

impl Ingest {
    /// Binds the endpoint and starts to accept connections on the current tokio runtime.
    ///
    /// # Errors
    /// When a certificate or key cannot be used, or the address cannot be bound.
    pub fn start(
        _options: &IngestOptions,
        _registry: Arc<Registry>,
        _writer: WriterHandle,
    ) -> Result<Self, IngestError> {
        unimplemented!()
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        unimplemented!()
    }

    /// Number of open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        unimplemented!()
    }

    /// Stops in good order: says goodbye to the devices, commits what has arrived, acks it, closes the log.
    /// Connections that do not take their last acks within `grace` are closed without them.
    ///
    /// # Errors
    /// When something that had arrived could not be made durable (it was not acked).
    #[expect(clippy::unused_async, reason = "the skeleton awaits nothing yet")]
    pub async fn shutdown(self, _writer: Writer, _grace: Duration) -> Result<u64, StopError> {
        unimplemented!()
    }
}
