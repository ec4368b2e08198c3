//! Flight SQL where SQL is not built in: it is refused.

use std::net::SocketAddr;
use std::sync::Arc;

use icecore_ingest::Registry;
use tokio::sync::watch;

use super::http::Stage;
use super::stored::Stored;
use crate::config::{Config, OFF};

/// There is none.
pub(super) enum Flight {}

impl Flight {
    /// Refuses.
    pub(super) fn start(
        address: SocketAddr,
        _: &Config,
        _: Arc<Stored>,
        _: Arc<Registry>,
        _: watch::Receiver<Stage>,
    ) -> anyhow::Result<Self> {
        anyhow::bail!(
            "Flight SQL is configured on {address}, and this icecore was built without SQL: build it with the feature `sql`, or set \
             listen in [flight] to {OFF:?}"
        )
    }

    pub(super) fn address(&self) -> SocketAddr {
        match *self {}
    }

    pub(super) fn stop(self) {
        match self {}
    }
}
