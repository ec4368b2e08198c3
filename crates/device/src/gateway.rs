//! A gateway: many devices over one connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use icecore_wire::{DeviceName, Epoch, Level};
use tokio::time::Instant;

use crate::channel::Channel;
use crate::config::Config;
use crate::device::{Device, Uplink};
use crate::error::ConnectError;
use crate::event::Pending;
use crate::identity::Role;
use crate::link::Link;
use crate::spool::Spool;
use crate::watch::{Events, Stats};

/// A connection that writes for many devices. Cheap to clone.
///
/// The connection ends when the gateway and all its devices are dropped, or with [`Gateway::close`].
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    uplink: Arc<Uplink>,
    devices: Mutex<Vec<Device>>,
}

impl Gateway {
    /// Starts connecting in the background. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The identity is not a gateway's or cannot be used for TLS.
    pub fn connect(config: Config) -> Result<Self, ConnectError> {
        if let Role::Device(name) = config.identity.role() {
            return Err(ConnectError::Role { found: format!("the device {name}'s"), wanted: "a gateway's" });
        }
        let uplink = Arc::new(Uplink(Link::start(config)?));
        Ok(Self(Arc::new(Inner { uplink, devices: Mutex::default() })))
    }

    /// A device behind this gateway, with a spool of its own. One on disk is read before this returns.
    ///
    /// # Errors
    /// The spool cannot be opened, or the gateway has the device already.
    pub fn device(&self, name: DeviceName, spool: Spool) -> Result<Device, ConnectError> {
        if self.link().has(&name) {
            return Err(ConnectError::Exists(name));
        }
        let channel = Channel::open(name, spool, self.link())?;
        self.add(channel)
    }

    /// A device whose epoch is given: for sources that can be read again from their start, such as files.
    ///
    /// The epoch must be a function of everything that decides the batches: the content, the schema, the cut
    /// ([`BatchPolicy::max_age`](crate::BatchPolicy::max_age) must be `None`). Sequences start at 0; what the server has
    /// stored of the epoch is not sent again, and what is not is sent in order. The spool is in memory, `max_bytes`
    /// large.
    ///
    /// # Errors
    /// The gateway has the device already.
    pub fn device_with_epoch(
        &self,
        name: DeviceName,
        epoch: Epoch,
        max_bytes: usize,
    ) -> Result<Device, ConnectError> {
        let channel = Channel::repeating(name, epoch, max_bytes, self.link());
        self.add(channel)
    }

    /// [`Device::flush`] for all devices of the gateway together.
    ///
    /// # Errors
    /// What is still pending, over all devices.
    pub async fn flush(&self, level: Level, deadline: Duration) -> Result<(), Pending> {
        let deadline = Instant::now() + deadline;
        let devices = self.devices().clone();
        let mut pending: Option<Pending> = None;
        for device in devices {
            if let Err(more) = device.flush_by(level, deadline).await {
                let sum =
                    pending.get_or_insert(Pending { batches: 0, events: 0, last_error: more.last_error });
                sum.batches += more.batches;
                sum.events += more.events;
            }
        }
        pending.map_or(Ok(()), Err)
    }

    /// Subscribes to the events of the connection and all its devices, with room for `buffer` unread ones.
    #[must_use]
    pub fn events(&self, buffer: usize) -> Events {
        self.link().watchers.subscribe(None, buffer)
    }

    /// Counters of the connection.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.link().stats()
    }

    /// Flushes all devices to durable, at most for `deadline`, then closes their spools and the connection. Recording
    /// fails from here on.
    ///
    /// # Errors
    /// What was still pending, over all devices.
    pub async fn close(self, deadline: Duration) -> Result<(), Pending> {
        let flushed = self.flush(Level::Durable, deadline).await;
        let devices = std::mem::take(&mut *self.devices());
        for device in devices {
            device.release().await;
        }
        self.link().stop();
        self.link().stopped().await;
        flushed
    }

    fn add(&self, channel: Arc<Channel>) -> Result<Device, ConnectError> {
        self.link().add(&channel)?;
        let device = Device::new(channel, Arc::clone(&self.0.uplink), false);
        let mut devices = self.devices();
        // Now and then closed devices are let go of.
        if devices.len() > 2 * self.link().len() {
            devices.retain(|device| self.link().has(device.name()));
        }
        devices.push(device.clone());
        Ok(device)
    }

    fn devices(&self) -> MutexGuard<'_, Vec<Device>> {
        self.0.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self) -> &Arc<Link> {
        &self.0.uplink.0
    }
}
