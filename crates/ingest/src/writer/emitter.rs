//! Batches that no device sends: the server derived them itself from what is in the log.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

use icecore_wire::{Batch, DeviceName, Epoch};

use super::inbox::{Inbox, Lane, MAX_GROUP_BYTES};
use super::live::LiveState;
use super::queue::Class;
use super::submission::{Attachment, Body, Reply, Submission};

/// A batch that was derived from the events of a device.
#[derive(Debug)]
pub struct Derived {
    /// The device.
    pub device: DeviceName,
    /// [`Epoch::derived`] of the log, the device and the batch's schema.
    pub epoch: Epoch,
    /// The batch; its sequences go on from [`Emitter::next_sequence`].
    pub batch: Batch,
}

/// Why derived batches were not stored, or not all of them.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// The writer was stopped, or the log failed.
    #[error("the writer takes nothing any more")]
    Closed,
    /// The writer turned one down.
    #[error("derived events {}..{} were not stored: {message}", range.start, range.end)]
    TurnedDown {
        /// Its sequences.
        range: Range<u64>,
        /// Why.
        message: String,
    },
}

/// Has derived batches stored as those of devices are: in turn, once, and durably.
#[derive(Debug)]
pub struct Emitter {
    inbox: Arc<Inbox>,
    live: LiveState,
    position: Arc<AtomicU64>,
    lane: Lane,
    /// Waits for room in the queue, which is done by polling.
    runtime: tokio::runtime::Runtime,
}

impl Emitter {
    pub(super) fn new(inbox: Arc<Inbox>, live: LiveState, position: Arc<AtomicU64>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        // Old data by nature: live data goes first.
        Ok(Self { inbox, live, position, lane: Lane::new(Class::Backlog), runtime })
    }

    /// The first position that is not durable yet.
    #[must_use]
    pub fn durable_position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// The sequence of the next event of a derived epoch: all before it are durable.
    #[must_use]
    pub fn next_sequence(&self, device: &DeviceName, epoch: &Epoch) -> u64 {
        let state = self.live.device(device);
        state.and_then(|state| Some(state.ledger().epoch(epoch)?.next())).unwrap_or(0)
    }

    /// Has the batches stored, in this order. When it returns, they are durable.
    ///
    /// # Errors
    /// When any of them is not stored; others may be.
    pub fn emit(&self, batches: Vec<Derived>) -> Result<(), EmitError> {
        let mut group = Vec::new();
        let mut bytes = 0;
        let (answers, replies) = channel();
        let mut attachments: HashMap<(DeviceName, Epoch), Arc<Attachment>> = HashMap::new();
        let count = batches.len();
        for Derived { device, epoch, batch } in batches {
            let attach = || Attachment::own(device.clone(), epoch, answers.clone());
            let from = Arc::clone(attachments.entry((device.clone(), epoch)).or_insert_with(attach));
            let submission = Submission { from, body: Body::Batch(batch) };
            let more = submission.bytes();
            if bytes + more > MAX_GROUP_BYTES {
                self.submit(std::mem::take(&mut group), bytes)?;
                bytes = 0;
            }
            bytes += more;
            group.push(submission);
        }
        self.submit(group, bytes)?;
        drop((attachments, answers));
        // All of them, so that nothing is on its way when an error is told.
        let replies: Vec<Reply> = replies.iter().take(count).collect();
        if replies.len() < count {
            return Err(EmitError::Closed);
        }
        replies.into_iter().try_for_each(|reply| match reply {
            Reply::Refused { range, message, .. } | Reply::Deferred { range, message, .. } => {
                Err(EmitError::TurnedDown { range, message })
            }
            Reply::Durable(_) | Reply::Settled(_) | Reply::Attached { .. } => Ok(()),
        })
    }

    fn submit(&self, group: Vec<Submission>, bytes: usize) -> Result<(), EmitError> {
        if group.is_empty() {
            return Ok(());
        }
        let room = self.runtime.block_on(self.inbox.reserve_in(&self.lane, bytes));
        room.map_err(|_| EmitError::Closed)?.submit(group);
        Ok(())
    }
}
