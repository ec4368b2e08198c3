//! A device: where events are recorded.

use std::sync::Arc;
use std::time::Duration;

use icecore_wire::{DeviceName, Epoch, Level, Schema};

use crate::config::Config;
use crate::error::ConnectError;
use crate::event::{Events, Pending, Stats};
use crate::recorder::Recorder;
use crate::spool::Spool;

/// One device's way to the server. Cheap to clone; all clones are the same device.
#[derive(Clone)]
pub struct Device {
    name: DeviceName,
    epoch: Epoch,
}

impl Device {
    /// Opens the spool and starts connecting in the background: recording works before the network does.
    ///
    /// The device is the one that `config`'s identity names. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The identity is a gateway's or cannot be used for TLS, or the spool cannot be opened.
    pub fn connect(_config: Config, _spool: Spool) -> Result<Self, ConnectError> {
        unimplemented!("skeleton")
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &DeviceName {
        &self.name
    }

    /// The epoch that new events belong to.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where events of `schema` are recorded. A device may have several; they share its sequence.
    #[must_use]
    pub fn recorder(&self, _schema: Arc<Schema>) -> Recorder {
        unimplemented!("skeleton")
    }

    /// Cuts what is open and waits until everything recorded so far has reached `level`, at most for `deadline`.
    ///
    /// Events that the server refused or the spool dropped are not waited for.
    ///
    /// # Errors
    /// What is still pending when the deadline has passed; it stays in the spool and goes on being sent.
    pub async fn flush(&self, _level: Level, _deadline: Duration) -> Result<(), Pending> {
        unimplemented!("skeleton")
    }

    /// Subscribes to this device's events and its connection's, with room for `buffer` unread ones.
    #[must_use]
    pub fn events(&self, _buffer: usize) -> Events {
        unimplemented!("skeleton")
    }

    /// Counters of the device's connection.
    #[must_use]
    pub fn stats(&self) -> Stats {
        unimplemented!("skeleton")
    }

    /// Flushes to durable, at most for `deadline`, then closes the spool cleanly and ends the connection.
    ///
    /// # Errors
    /// What was still pending; a disk spool keeps it for the next start, a memory spool loses it.
    pub async fn close(self, _deadline: Duration) -> Result<(), Pending> {
        unimplemented!("skeleton")
    }
}
