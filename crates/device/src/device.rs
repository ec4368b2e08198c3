//! A device: where events are recorded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use icecore_wire::{DeviceName, Epoch, Level, Payload, Schema};
use tokio::time::Instant;

use crate::channel::Channel;
use crate::config::Config;
use crate::error::{ConnectError, RecordError};
use crate::event::Pending;
use crate::identity::Role;
use crate::link::Link;
use crate::recorder::{OpenBatch, Recorder};
use crate::spool::Spool;
use crate::spool::outbox::Admission;
use crate::watch::{Events, Stats};

/// One device's way to the server. Cheap to clone; all clones are the same device.
///
/// When the last clone is dropped without [`Device::close`], a device's own connection ends, and what a spool in memory
/// held is lost.
#[derive(Clone)]
pub struct Device(Arc<Inner>);

struct Inner {
    channel: Arc<Channel>,
    /// What recorders gather, and what dropped ones left.
    open: Mutex<Vec<Arc<OpenBatch>>>,
    /// Keeps the connection up, shared with the gateway if the device is behind one.
    uplink: Arc<Uplink>,
    /// Whether the connection is the device's own.
    own_uplink: bool,
}

/// Whoever holds this wants the connection; it is stopped when nobody does any more.
pub(crate) struct Uplink(pub(crate) Arc<Link>);

impl Drop for Uplink {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Device {
    /// Opens the spool and starts connecting in the background: recording works before the network does.
    ///
    /// The device is the one that `config`'s identity names. Must be called within a tokio runtime. A spool on disk is
    /// read before this returns.
    ///
    /// # Errors
    /// The identity is a gateway's or cannot be used for TLS, or the spool cannot be opened.
    pub fn connect(config: Config, spool: Spool) -> Result<Self, ConnectError> {
        let name = match config.identity.role() {
            Role::Device(name) => name.clone(),
            Role::Gateway(name) => {
                return Err(ConnectError::Role {
                    found: format!("the gateway {name}'s"),
                    wanted: "a device's",
                });
            }
        };
        let uplink = Arc::new(Uplink(Link::start(config)?));
        let channel = Channel::open(name, spool, &uplink.0)?;
        uplink.0.add(&channel)?;
        Ok(Self::new(channel, uplink, true))
    }

    pub(crate) fn new(channel: Arc<Channel>, uplink: Arc<Uplink>, own_uplink: bool) -> Self {
        Self(Arc::new(Inner { channel, open: Mutex::default(), uplink, own_uplink }))
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &DeviceName {
        &self.channel().name
    }

    /// The epoch that new events belong to.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.channel().epoch
    }

    /// Where events of `schema` are recorded. A device may have several; they share its sequence.
    #[must_use]
    pub fn recorder(&self, schema: Arc<Schema>) -> Recorder {
        Recorder::new(self.clone(), schema)
    }

    /// Hands in a batch that was cut before, with the sequences it has, and waits while the spool is full: for sources whose batches
    /// are there already, on a device of [`Gateway::device_with_epoch`](crate::Gateway::device_with_epoch). Batches come in
    /// order of sequence; what lies between them stays as the server knows it.
    ///
    /// # Errors
    /// The payload is no batch, or comes behind a later one ([`RecordError::OutOfOrder`]), or the device is closed.
    pub async fn hand_in(&self, schema: &Arc<Schema>, payload: &Payload) -> Result<(), RecordError> {
        let channel = self.channel();
        while channel.hand_in(schema, payload)? == Admission::Full {
            let progress = channel.progress.notified();
            // Room may have come up in between.
            if channel.hand_in(schema, payload)? != Admission::Full {
                return Ok(());
            }
            progress.await;
        }
        Ok(())
    }

    /// Cuts what is open and waits until everything recorded so far has reached `level`, at most for `deadline`.
    ///
    /// Events that the server refused or the spool dropped are not waited for.
    ///
    /// # Errors
    /// What is still pending when the deadline has passed; it stays in the spool and goes on being sent.
    pub async fn flush(&self, level: Level, deadline: Duration) -> Result<(), Pending> {
        self.flush_by(level, Instant::now() + deadline).await
    }

    pub(crate) async fn flush_by(&self, level: Level, deadline: Instant) -> Result<(), Pending> {
        let open_batches = self.registered().clone();
        for open in open_batches {
            // A failure shows in what is pending, and to the next who records.
            if let Ok(Err(error)) = tokio::time::timeout_at(deadline, open.cut()).await {
                self.channel().link.set_error(error.to_string());
            }
        }
        let channel = self.channel();
        channel.sync_now();
        let mark = channel.outbox().mark();
        // Durable acks come by themselves; what is archived is told on attach.
        let _asking = (level == Level::Archived).then(|| channel.ask());
        let none_pending = || channel.pending(level, &mark).is_none();
        if channel.wait_until(deadline, none_pending).await {
            return Ok(());
        }
        channel.pending(level, &mark).map_or(Ok(()), Err)
    }

    /// Subscribes to this device's events and its connection's, with room for `buffer` unread ones.
    #[must_use]
    pub fn events(&self, buffer: usize) -> Events {
        self.channel().link.watchers.subscribe(Some(self.name().clone()), buffer)
    }

    /// Counters of the device's connection.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.channel().link.stats()
    }

    /// Flushes to durable, at most for `deadline`, then closes the spool cleanly and ends the connection if it is the
    /// device's own. Recording fails from here on.
    ///
    /// # Errors
    /// What was still pending; a spool on disk keeps it for the next start, one in memory loses it.
    pub async fn close(self, deadline: Duration) -> Result<(), Pending> {
        let flushed = self.flush(Level::Durable, deadline).await;
        self.release().await;
        let link = &self.0.uplink.0;
        if self.0.own_uplink {
            link.stop();
            link.stopped().await;
        }
        flushed
    }

    /// Closes the spool, and has the link let go of the device.
    pub(crate) async fn release(&self) {
        let channel = self.channel();
        if let Err(failure) = channel.close().await {
            tracing::error!(device = %channel.name, %failure, "the spool was not closed cleanly; its epoch ends");
        }
        channel.link.remove(channel);
    }

    pub(crate) fn channel(&self) -> &Arc<Channel> {
        &self.0.channel
    }

    pub(crate) fn register(&self, open: &Arc<OpenBatch>) {
        let mut registered = self.registered();
        registered.retain(|open| Arc::strong_count(open) > 1 || !open.is_empty());
        registered.push(Arc::clone(open));
    }

    fn registered(&self) -> MutexGuard<'_, Vec<Arc<OpenBatch>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
