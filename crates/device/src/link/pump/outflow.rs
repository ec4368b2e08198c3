//! Batches out: live ones first, backlog behind them on a stream of its own.
//!
//! All live batches of a connection share one stream. A packet lost there holds up every device of a gateway for a
//! round trip; more streams would halve that at the price of announcing every schema on each of them and of keeping a
//! device on its stream for its order's sake, so the server's four streams are left to those who need them more.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use icecore_wire::{BatchStreamWriter, FRAME_HEADER_BYTES};
use quinn::{Connection, ConnectionError, SendStream, WriteError};
use tokio::time::Instant;

use super::Pump;
use crate::channel::Channel;
use crate::spool::class::Class;
use crate::spool::queue::{Attachment, Outgoing};
use crate::transport::SEND_WINDOW;

/// Bytes taken from one device before the next one's turn: fairness between the devices of a gateway.
const QUANTUM: usize = 64 << 10;

/// Bytes prepared for a stream at a time. Copied together, because QUIC keeps a list of what it was given and walks it
/// for every packet: few large pieces are faster than a header, a payload and padding for each small batch.
const WRITE_BYTES: usize = 256 << 10;

/// The same for the backlog: less, so that little of it is ahead when live batches come.
const BACKLOG_WRITE_BYTES: usize = 64 << 10;

/// With a pace, bytes are prepared for this long at a time, in parts of a second.
const PACE_PARTS: u64 = 10;

/// QUIC sends what streams of a higher priority have first.
pub(super) const CONTROL_PRIORITY: i32 = 2;

/// One batch stream, opened when there is something for it.
pub(super) struct Lane {
    class: Class,
    stream: Option<SendStream>,
    frames: BatchStreamWriter,
    begun: bool,
    /// Framed and not yet taken by QUIC.
    data: Bytes,
}

impl Lane {
    pub(super) fn new(class: Class) -> Self {
        Self { class, stream: None, frames: BatchStreamWriter::new(), begun: false, data: Bytes::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// With its stream opened already.
    pub(super) async fn open(class: Class, connection: &Connection) -> Result<Self, ConnectionError> {
        let stream = connection.open_uni().await?;
        // Fails for a closed stream only.
        let _ = stream.set_priority(if class == Class::Live { CONTROL_PRIORITY - 1 } else { 0 });
        Ok(Self { stream: Some(stream), ..Self::new(class) })
    }

    /// Gives some of the data to QUIC. What is not yet given when this is cancelled stays.
    pub(super) async fn write(&mut self, connection: &Connection) -> Result<(), WriteError> {
        if self.stream.is_none() {
            self.stream = Self::open(self.class, connection).await?.stream;
        }
        let Some(stream) = &mut self.stream else { return Ok(()) };
        stream.write_chunks(slice::from_mut(&mut self.data)).await.map(drop)
    }

    /// Frames batches in one piece.
    fn frame(&mut self, batches: &mut Vec<Outgoing>) {
        let bytes: usize = batches.iter().map(|batch| batch.payload.len() + 2 * FRAME_HEADER_BYTES).sum();
        let mut data = Vec::with_capacity(bytes);
        if !std::mem::replace(&mut self.begun, true) && self.class == Class::Backlog {
            data.extend_from_slice(&BatchStreamWriter::backlog_mark());
        }
        for batch in batches.drain(..) {
            self.frames.append(batch.alias, &batch.schema, &batch.payload, &mut data);
        }
        self.data = data.into();
    }
}

impl Pump<'_> {
    /// Frames the next batches for a lane that has none, within window and pace. The live one's turn is also when
    /// devices are attached and drops reported.
    pub(super) fn fill(&mut self, lane: &mut Lane) {
        let now = Instant::now();
        if !lane.is_empty() || self.farewell.is_some() || self.hold_until.is_some_and(|until| now < until) {
            return;
        }
        let class = lane.class;
        let mut room = self.room(class, now);
        while room > 0 {
            let Some(channel) = self.link.next_ready(class) else { break };
            channel.begin_service(class);
            let taken = self.serve(class, &channel, now, room.min(QUANTUM));
            room = room.saturating_sub(taken);
        }
        if self.outgoing.is_empty() {
            return;
        }
        self.silence.listen(self.connection, now);
        let mut report = self.link.watchers.report();
        report.stats.batches_sent = self.outgoing.len() as u64;
        report.stats.batches_resent = self.outgoing.iter().filter(|batch| batch.resent).count() as u64;
        // The server counts what it stores, in whatever form that travels.
        let bytes: usize = self.outgoing.iter().map(|batch| batch.payload.len()).sum();
        lane.frame(&mut self.outgoing);
        self.link.watchers.publish(&report);
        if let Some((rate, until)) = self.pace(now) {
            let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
            self.hold_until = Some((now + cost).min(until));
        }
    }

    /// Bytes that may be sent now. The backlog has half of the window, and half of what QUIC takes, so that however
    /// slowly it is read, live batches and control always find room.
    fn room(&self, class: Class, now: Instant) -> usize {
        let (window, in_flight) = (self.link.config.window, &self.link.in_flight);
        let room = window.saturating_sub(in_flight.total());
        let room = match class {
            Class::Live => room.min(WRITE_BYTES),
            Class::Backlog => {
                let half = window.min(SEND_WINDOW as usize) / 2;
                room.min(half.max(1).saturating_sub(in_flight.of(class))).min(BACKLOG_WRITE_BYTES)
            }
        };
        match self.pace(now) {
            Some((rate, _)) => room.min(usize::try_from(rate / PACE_PARTS).unwrap_or(usize::MAX).max(1)),
            None => room,
        }
    }

    /// Bytes a second that the server allows, and until when it said so; `None`: as many as fit.
    fn pace(&self, now: Instant) -> Option<(u64, Instant)> {
        let (pace, until) = self.pace.as_ref()?;
        (now < *until && pace.bytes_per_s > 0).then_some((pace.bytes_per_s, *until))
    }

    /// Does what a device needs: attaches its epochs, reports its drops, takes its batches. Returns the bytes taken.
    fn serve(&mut self, class: Class, channel: &Arc<Channel>, now: Instant, budget: usize) -> usize {
        let mut outbox = channel.outbox();
        if channel.is_removed() {
            self.let_go(&mut outbox);
            return 0;
        }
        if class == Class::Live {
            self.attach(channel, &mut outbox, now);
            for queue in outbox.queues_mut() {
                if let Attachment::Attached(alias) = queue.attachment {
                    self.session.report_dropped(alias, &std::mem::take(&mut queue.unreported));
                }
            }
        }
        let now = now.into_std();
        let taken = outbox.take(class, now, budget, &mut self.outgoing);
        let more = Class::ALL.map(|class| outbox.is_sendable(class, now));
        drop(outbox);
        for class in Class::ALL.into_iter().filter(|class| more[*class as usize]) {
            channel.signal_class(class);
        }
        channel.work_on_disk();
        taken
    }
}
