//! One batch in a queue.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use icecore_wire::{Payload, Schema};

use crate::spool::priority::Priority;
use crate::spool::rebase::Rebase;

/// A batch that waits for its ack.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) first: u64,
    pub(crate) count: u32,
    /// Bytes of the payload.
    pub(crate) length: u32,
    pub(crate) schema: Arc<Schema>,
    /// `None` while it is only on disk.
    pub(crate) payload: Option<Payload>,
    /// Where it lies on disk; meaningless for a spool in memory.
    pub(crate) place: Place,
    pub(crate) mark: Mark,
    pub(crate) state: State,
    pub(crate) sent_before: bool,
}

/// Where a payload lies on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    /// Of the payload's first byte.
    pub(crate) offset: u64,
}

/// What the spool remembers of a batch beside its payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Its event times are uptimes.
    pub(crate) uptime: bool,
    pub(crate) priority: Priority,
}

/// How far a batch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Not fsynced yet, so it must not be sent.
    Unsynced,
    /// To be sent.
    Waiting,
    /// On its way on the present connection.
    Sent(Instant),
    /// The server wants it again, but not before this time.
    Deferred(Instant),
    /// Durable at the server; kept until it is archived there.
    Kept,
    /// Done; kept as a placeholder until the batches before it are done too.
    Settled,
}

impl Queued {
    pub(crate) fn range(&self) -> Range<u64> {
        self.first..self.end()
    }

    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// Whether it is on its way.
    pub(crate) fn is_sent(&self) -> bool {
        matches!(self.state, State::Sent(_))
    }

    /// Bytes that count as in flight because of this batch.
    pub(super) fn in_flight(&self) -> usize {
        if self.is_sent() { self.length as usize } else { 0 }
    }

    /// Bytes in memory because of this batch.
    pub(super) fn held(&self) -> usize {
        self.payload.as_ref().map_or(0, |payload| payload.len())
    }

    /// Whether the server wants it again now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Deferred(until) if until <= now)
    }

    /// Lets go of the payload if the batch waits to be sent; returns its bytes.
    pub(super) fn unload(&mut self) -> usize {
        if self.state != State::Waiting {
            return 0;
        }
        self.payload.take().map_or(0, |payload| payload.len())
    }

    /// Whether it may be sent now.
    pub(super) fn is_ready(&self, rebase: Option<Rebase>) -> bool {
        self.state == State::Waiting && self.payload.is_some() && (rebase.is_some() || !self.mark.uptime)
    }

    /// The payload as it is sent, if that can be told.
    pub(crate) fn sent_form(&self, rebase: Option<Rebase>) -> Option<Payload> {
        let payload = self.payload.as_ref()?;
        if !self.mark.uptime {
            return Some(payload.clone());
        }
        let Rebase { offset, uncertain } = rebase?;
        // Times that are not plain were not put there by this SDK; they are marked uncertain already.
        Some(icecore_wire::rebase(payload, offset, uncertain).unwrap_or_else(|_| payload.clone()))
    }

    /// Hands the batch out, if its payload is in memory and its times are known.
    pub(super) fn send(
        &mut self,
        alias: u32,
        rebase: Option<Rebase>,
        now: Instant,
        out: &mut Vec<Outgoing>,
    ) -> bool {
        let Some(payload) = self.sent_form(rebase) else { return false };
        let schema = Arc::clone(&self.schema);
        out.push(Outgoing { alias, schema, payload, resent: self.sent_before });
        self.state = State::Sent(now);
        self.sent_before = true;
        true
    }
}

/// A batch on its way to the link.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) alias: u32,
    pub(crate) schema: Arc<Schema>,
    pub(crate) payload: Payload,
    pub(crate) resent: bool,
}
