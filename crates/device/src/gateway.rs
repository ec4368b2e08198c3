//! A gateway: many devices over one connection.

use std::time::Duration;

use icecore_wire::{DeviceName, Epoch, Level};

use crate::config::Config;
use crate::device::Device;
use crate::error::ConnectError;
use crate::event::{Events, Pending, Stats};
use crate::spool::Spool;

/// A connection that writes for many devices. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    _private: (),
}

impl Gateway {
    /// Starts connecting in the background. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The identity is not a gateway's or cannot be used for TLS.
    pub fn connect(_config: Config) -> Result<Self, ConnectError> {
        unimplemented!("skeleton")
    }

    /// A device behind this gateway, with a spool of its own.
    ///
    /// # Errors
    /// The spool cannot be opened, or the gateway has the device already.
    pub fn device(&self, _name: DeviceName, _spool: Spool) -> Result<Device, ConnectError> {
        unimplemented!("skeleton")
    }

    /// A device whose epoch is given: for sources that can be read again from their start, such as files.
    ///
    /// The epoch must be a function of everything that decides the batches: the content, the schema, the cut
    /// ([`BatchPolicy::max_age`](crate::BatchPolicy::max_age) must be `None`). Sequences start at 0; what the server has
    /// stored of the epoch is not sent again. The spool is in memory, `max_bytes` large.
    ///
    /// # Errors
    /// The gateway has the device already.
    pub fn device_with_epoch(
        &self,
        _name: DeviceName,
        _epoch: Epoch,
        _max_bytes: usize,
    ) -> Result<Device, ConnectError> {
        unimplemented!("skeleton")
    }

    /// [`Device::flush`] for all devices of the gateway together.
    ///
    /// # Errors
    /// What is still pending, over all devices.
    pub async fn flush(&self, _level: Level, _deadline: Duration) -> Result<(), Pending> {
        unimplemented!("skeleton")
    }

    /// Subscribes to the events of the connection and all its devices, with room for `buffer` unread ones.
    #[must_use]
    pub fn events(&self, _buffer: usize) -> Events {
        unimplemented!("skeleton")
    }

    /// Counters of the connection.
    #[must_use]
    pub fn stats(&self) -> Stats {
        unimplemented!("skeleton")
    }

    /// Flushes all devices to durable, at most for `deadline`, then closes their spools and the connection.
    ///
    /// # Errors
    /// What was still pending, over all devices.
    pub async fn close(self, _deadline: Duration) -> Result<(), Pending> {
        unimplemented!("skeleton")
    }
}
