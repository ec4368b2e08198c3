//! One connection from `Hello` to its end.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use icecore_wire::{
    Ack, Attached, BatchStreamWriter, ClientEvent, ClientSession, Disposition, Epoch, Nack, PADDING, Pace,
    Refuse, SessionError, limits,
};
use quinn::{Connection, RecvStream, SendStream};
use tokio::time::Instant;

use super::dial::meaning_of;
use super::silence::Silence;
use super::{Ended, Link};
use crate::channel::Channel;
use crate::event::{Disconnect, Event};
use crate::spool::outbox::Outbox;
use crate::spool::queue::{Attachment, Outgoing};

/// What the SDK says it is.
const SDK: &str = concat!("icecore-device/", env!("CARGO_PKG_VERSION"));

/// Bytes taken from one device before the next one's turn: fairness between the devices of a gateway.
const QUANTUM: usize = 64 << 10;

/// Bytes prepared for the batch stream at a time. Copied together, because QUIC keeps a list of what it was given and
/// walks it for every packet: few large pieces are faster than a header, a payload and padding for each small batch.
const WRITE_BYTES: usize = 256 << 10;

/// When a refused device is tried again if the server does not say: an operator may have granted it by then.
const REFUSED_RETRY: Duration = Duration::from_secs(30);

/// How long a goodbye may take.
const BYE: Duration = Duration::from_millis(500);

/// Bytes taken from the control stream at a time.
const READ_BYTES: usize = 64 << 10;

/// Runs the session on an open connection until it ends.
pub(super) async fn run(link: &Arc<Link>, connection: &Connection) -> Ended {
    let streams = match tokio::try_join!(connection.open_bi(), connection.open_uni()) {
        Ok(((control_out, control_in), batches)) => Streams { control_out, control_in, batches },
        Err(error) => return meaning_of(&error).into(),
    };
    let mut pump = Pump::new(link, connection);
    match pump.drive(streams).await {
        Err(ended) => pump.farewell.take().unwrap_or(ended),
    }
}

struct Streams {
    control_out: SendStream,
    control_in: RecvStream,
    batches: SendStream,
}

struct Pump<'a> {
    link: &'a Arc<Link>,
    connection: &'a Connection,
    session: ClientSession,
    frames: BatchStreamWriter,
    /// The session's clock starts here.
    origin: Instant,
    aliases: HashMap<u32, (Arc<Channel>, Epoch)>,
    /// Devices to look at again at a time: refused ones, and those with deferred batches. The number tells equal times
    /// apart.
    later: BTreeMap<(Instant, u64), Arc<Channel>>,
    timers: u64,
    /// Nothing is sent before this: the server's pace.
    hold_until: Option<Instant>,
    pace: Option<(Pace, Instant)>,
    /// Devices that found no alias free.
    crowded_out: Vec<Arc<Channel>>,
    max_aliases: usize,
    /// What [`Pump::gather`] is gathering; kept for its allocation.
    outgoing: Vec<Outgoing>,
    silence: Silence,
    /// Why the server is about to end the connection, if it said so.
    farewell: Option<Ended>,
}

impl<'a> Pump<'a> {
    fn new(link: &'a Arc<Link>, connection: &'a Connection) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // A clock beyond the year 2262 is no clock.
        let device_time = i64::try_from(since_epoch.as_nanos()).unwrap_or(0);
        Self {
            link,
            connection,
            session: ClientSession::new(SDK, device_time, Duration::ZERO),
            frames: BatchStreamWriter::new(),
            origin: Instant::now(),
            aliases: HashMap::new(),
            later: BTreeMap::new(),
            timers: 0,
            hold_until: None,
            pace: None,
            crowded_out: Vec::new(),
            max_aliases: limits::MAX_ALIASES,
            outgoing: Vec::new(),
            silence: Silence::default(),
            farewell: None,
        }
    }

    /// Reads, serves and writes until the connection ends.
    async fn drive(&mut self, streams: Streams) -> Result<Infallible, Ended> {
        let Streams { mut control_out, mut control_in, mut batches } = streams;
        let (mut control, mut data) = (Bytes::new(), Bytes::new());
        let timer = tokio::time::sleep_until(self.origin);
        tokio::pin!(timer);
        for channel in self.link.all() {
            channel.signal();
        }
        loop {
            if data.is_empty() {
                data = self.gather();
            }
            if self.link.is_stopping() {
                return Err(self.say_bye(control_out, &control).await);
            }
            if self.farewell.is_some() && data.is_empty() && self.in_flight() == 0 {
                return Err(lost("the server is stopping, and everything is acked"));
            }
            if control.is_empty() {
                control = self.session.take_control().into();
            }
            let deadline = self.deadline();
            if timer.is_elapsed() || deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            tokio::select! {
                biased;
                read = control_in.read_chunk(READ_BYTES, true) => match read {
                    Ok(Some(chunk)) => self.received(&chunk.bytes)?,
                    Ok(None) => return Err(lost("the server closed the control stream")),
                    Err(error) => return Err(self.end_of(&error)),
                },
                written = control_out.write_chunks(slice::from_mut(&mut control)), if !control.is_empty() => {
                    written.map_err(|error| self.end_of(&error))?;
                }
                written = batches.write_chunks(slice::from_mut(&mut data)), if !data.is_empty() => {
                    written.map_err(|error| self.end_of(&error))?;
                }
                () = self.link.wake.notified() => {}
                () = &mut timer => self.time_passed()?,
            }
        }
    }

    /// What an error on a stream means: usually that the connection is gone, and that says why.
    fn end_of(&self, error: &dyn std::error::Error) -> Ended {
        match self.connection.close_reason() {
            Some(reason) => meaning_of(&reason).into(),
            None => lost(&error.to_string()),
        }
    }

    async fn say_bye(&mut self, mut control_out: SendStream, unwritten: &[u8]) -> Ended {
        self.session.bye();
        let bytes = self.session.take_control();
        let said = async {
            // Courtesy only: without it the server learns by the closed connection.
            let _ = control_out.write_all(unwritten).await;
            let _ = control_out.write_all(&bytes).await;
            let _ = control_out.finish();
            let _ = control_out.stopped().await;
        };
        let _ = tokio::time::timeout(BYE, said).await;
        lost("closed by this side")
    }

    /// Bytes sent and not acked, of all devices.
    fn in_flight(&self) -> usize {
        self.link.in_flight.load(Ordering::Relaxed)
    }

    /// The next batches, framed. Attaches devices and reports drops on the way.
    fn gather(&mut self) -> Bytes {
        let now = Instant::now();
        if self.farewell.is_some() || self.hold_until.is_some_and(|until| now < until) {
            return Bytes::new();
        }
        let mut room = self.link.config.window.saturating_sub(self.in_flight()).min(WRITE_BYTES);
        while room > 0 {
            let Some(channel) = self.link.next_ready() else { break };
            channel.begin_service();
            let taken = self.serve(&channel, now, room.min(QUANTUM));
            room = room.saturating_sub(taken);
        }
        if self.outgoing.is_empty() {
            return Bytes::new();
        }
        self.silence.listen(self.connection, now);
        let data = self.frame();
        if let Some((pace, until)) = self.pace.filter(|(pace, until)| now < *until && pace.bytes_per_s > 0) {
            let cost = Duration::from_secs_f64(data.len() as f64 / pace.bytes_per_s as f64);
            self.hold_until = Some((now + cost).min(until));
        }
        data
    }

    /// Does what a device needs: attaches its epochs, reports its drops, takes its batches. Returns the bytes taken.
    fn serve(&mut self, channel: &Arc<Channel>, now: Instant, budget: usize) -> usize {
        let mut outbox = channel.outbox();
        if channel.is_removed() {
            self.let_go(&mut outbox);
            return 0;
        }
        self.attach(channel, &mut outbox, now);
        for queue in outbox.queues_mut() {
            if let Attachment::Attached(alias) = queue.attachment {
                for range in &std::mem::take(&mut queue.unreported) {
                    self.session.report_dropped(alias, range);
                }
            }
        }
        let taken = outbox.take(now.into_std(), budget, &mut self.outgoing);
        let more = outbox.is_sendable();
        drop(outbox);
        if more {
            channel.signal();
        } else {
            channel.work_on_disk();
        }
        taken
    }

    /// Asks to attach the epochs that are not and should be: the present one always, older ones while they have
    /// something left to say.
    fn attach(&mut self, channel: &Arc<Channel>, outbox: &mut Outbox, now: Instant) {
        for queue in outbox.queues_mut() {
            let wanted = match queue.attachment {
                Attachment::Detached => queue.epoch == channel.epoch || !queue.is_done(),
                Attachment::Refused(until) => until <= now.into_std(),
                Attachment::Asked | Attachment::Attached(_) => false,
            };
            if !wanted {
                continue;
            }
            if self.aliases.len() >= self.max_aliases && (queue.is_done() || !self.evict_idle(channel)) {
                let waits = self.crowded_out.iter().any(|waiting| Arc::ptr_eq(waiting, channel));
                if !queue.is_done() && !waits {
                    self.crowded_out.push(Arc::clone(channel));
                }
                continue;
            }
            let alias = self.session.attach(channel.name.clone(), queue.epoch);
            self.aliases.insert(alias, (Arc::clone(channel), queue.epoch));
            queue.attachment = Attachment::Asked;
        }
    }

    /// Detaches a device that has nothing to send, to make room for `channel`, whose outbox is locked.
    fn evict_idle(&mut self, channel: &Arc<Channel>) -> bool {
        let others = self.aliases.iter().filter(|(_, (other, _))| !Arc::ptr_eq(other, channel));
        let evicted = others.map(|(alias, (other, epoch))| (*alias, other, *epoch)).find_map(
            |(alias, other, epoch)| {
                let mut outbox = other.outbox();
                let queue = outbox.queue(epoch).filter(|queue| queue.is_done())?;
                queue.attachment = Attachment::Detached;
                Some(alias)
            },
        );
        let Some(alias) = evicted else { return false };
        self.session.detach(alias);
        self.aliases.remove(&alias);
        true
    }

    /// Detaches a closed device.
    fn let_go(&mut self, outbox: &mut Outbox) {
        for queue in outbox.queues() {
            if let Attachment::Attached(alias) = queue.attachment {
                self.session.detach(alias);
                self.aliases.remove(&alias);
            }
        }
        outbox.rewind();
    }

    /// Frames what was gathered, in one piece.
    fn frame(&mut self) -> Bytes {
        let mut report = self.link.watchers.report();
        let bytes: usize = self.outgoing.iter().map(|batch| batch.payload.len() + 2 * PADDING.len()).sum();
        let mut data = Vec::with_capacity(bytes);
        for batch in self.outgoing.drain(..) {
            let frames = self.frames.frames(batch.alias, &batch.schema, &batch.payload);
            data.extend_from_slice(frames.schema.as_deref().unwrap_or_default());
            data.extend_from_slice(&frames.header);
            data.extend_from_slice(&batch.payload);
            data.extend_from_slice(&PADDING[..frames.padding]);
            report.stats.batches_sent += 1;
            report.stats.batches_resent += u64::from(batch.resent);
        }
        self.link.watchers.publish(&report);
        data.into()
    }

    /// Takes bytes from the control stream.
    fn received(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        self.session.control_received(bytes).map_err(|error| self.violated(&error))?;
        while let Some(event) = self.session.poll_event() {
            match event {
                ClientEvent::Welcome(welcome) => {
                    let mut report = self.link.watchers.report();
                    report.stats.connections = 1;
                    report.event(|| Event::Connected { server: welcome.server });
                    self.max_aliases = self.max_aliases.min(welcome.limits.max_aliases as usize);
                    self.link.watchers.publish(&report);
                }
                ClientEvent::Attached(attached) => self.attached(&attached),
                ClientEvent::Acked(ack) => self.acked(&ack),
                ClientEvent::Nacked(nack) => self.nacked(&nack),
                ClientEvent::Refused(refuse) => self.refused(refuse)?,
                ClientEvent::Pace(pace) => self.paced(pace),
                ClientEvent::GoAway(go_away) => {
                    let reason = Disconnect::GoAway { message: go_away.message };
                    self.farewell = Some(Ended { reason, retry_after: Some(go_away.retry_after) });
                }
                // A newer server's message that this SDK does not know.
                _ => {}
            }
        }
        Ok(())
    }

    fn violated(&self, error: &SessionError) -> Ended {
        Disconnect::Protocol { reason: error.to_string() }.into()
    }

    fn attached(&mut self, attached: &Attached) {
        let Some((channel, epoch)) = self.aliases.get(&attached.alias).cloned() else { return };
        let now = Instant::now().into_std();
        channel.update(|outbox, report| {
            outbox.attached(epoch, attached, now, report);
        });
        self.after_ack(attached.alias, &channel, epoch);
        channel.signal();
    }

    fn acked(&mut self, ack: &Ack) {
        let Some((channel, epoch)) = self.aliases.get(&ack.alias).cloned() else { return };
        let now = Instant::now().into_std();
        channel.update(|outbox, report| outbox.reached(epoch, ack.level, &ack.ranges, now, report));
        self.after_ack(ack.alias, &channel, epoch);
    }

    /// Lets go of an old epoch that has nothing left to say, and of idle devices if others wait for an alias.
    fn after_ack(&mut self, alias: u32, channel: &Arc<Channel>, epoch: Epoch) {
        let crowded = !self.crowded_out.is_empty();
        if epoch == channel.epoch && !crowded {
            return;
        }
        let mut outbox = channel.outbox();
        let Some(queue) = outbox.queue(epoch).filter(|queue| queue.is_done()) else { return };
        queue.attachment = Attachment::Detached;
        outbox.retire(epoch);
        self.session.detach(alias);
        self.aliases.remove(&alias);
        drop(outbox);
        if let Some(waiting) = self.crowded_out.pop() {
            waiting.signal();
        }
    }

    fn nacked(&mut self, nack: &Nack) {
        let Some((channel, epoch)) = self.aliases.get(&nack.alias).cloned() else { return };
        match nack.disposition {
            Disposition::Permanent => {
                channel.update(|outbox, report| {
                    outbox.rejected(epoch, &nack.range, nack.code, &nack.message, report);
                });
                self.link.set_error(format!("{}: {} ({})", channel.name, nack.message, nack.code.name()));
                self.after_ack(nack.alias, &channel, epoch);
            }
            Disposition::RetryAfter(wait) => {
                let until = Instant::now() + wait;
                channel.update(|outbox, _| outbox.deferred(epoch, &nack.range, until.into_std()));
                self.look_again(until, channel);
            }
        }
    }

    fn refused(&mut self, refuse: Refuse) -> Result<(), Ended> {
        let retry_after = refuse.retry_after.unwrap_or(REFUSED_RETRY);
        let attachment = refuse.alias.map(|alias| self.aliases.remove(&alias));
        let device = attachment.iter().flatten().map(|(channel, _)| channel.name.clone()).next();
        let (code, message) = (refuse.code, refuse.message);
        let whom = device.as_ref().map_or_else(|| "the connection".to_owned(), ToString::to_string);
        self.link.set_error(format!("{whom} was refused: {message} ({})", code.name()));
        self.link.watchers.event(Event::Refused { device, code, message: message.clone(), retry_after });
        match attachment {
            None => {
                Err(Ended { reason: Disconnect::Refused { code, message }, retry_after: Some(retry_after) })
            }
            Some(None) => Ok(()),
            Some(Some((channel, epoch))) => {
                let until = Instant::now() + retry_after;
                channel.update(|outbox, _| outbox.refused(epoch, until.into_std()));
                self.look_again(until, channel);
                Ok(())
            }
        }
    }

    fn paced(&mut self, pace: Pace) {
        let until = Instant::now() + pace.retry_after;
        self.pace = Some((pace, until));
        self.hold_until = (pace.bytes_per_s == 0).then_some(until);
    }

    fn look_again(&mut self, at: Instant, channel: Arc<Channel>) {
        self.timers += 1;
        self.later.insert((at, self.timers), channel);
    }

    /// The next time at which something has to be done even if nothing happens.
    fn deadline(&self) -> Instant {
        const IDLE: Duration = Duration::from_secs(3600);
        let session = self.session.deadline().map(|deadline| self.origin + deadline);
        let later = self.later.keys().next().map(|(at, _)| *at);
        let all = [session, later, self.hold_until, self.silence.deadline()];
        all.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + IDLE)
    }

    fn time_passed(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        self.session.handle_timeout(now - self.origin).map_err(|error| self.violated(&error))?;
        if self.hold_until.is_some_and(|until| until <= now) {
            self.hold_until = None;
        }
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            entry.remove().signal();
        }
        if self.silence.is_dead(self.connection, self.in_flight() > 0, now) {
            return Err(Disconnect::Silent.into());
        }
        Ok(())
    }
}

fn lost(reason: &str) -> Ended {
    Disconnect::Lost { reason: reason.to_owned() }.into()
}
