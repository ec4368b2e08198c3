//! One connection from `Hello` to its end.
//!
//! - [`attach`]: which devices and epochs it speaks for
//! - [`outflow`]: batches out, live ones ahead of the backlog

mod attach;
mod outflow;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use icecore_wire::{Ack, ClientEvent, ClientSession, Disposition, Epoch, Nack, Pace, SessionError, limits};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use tokio::time::Instant;

use self::outflow::{CONTROL_PRIORITY, Lane};
use super::dial::{FirstFlight, meaning_of};
use super::silence::{Clocks, Silence, Verdict};
use super::{Ended, Link};
use crate::channel::Channel;
use crate::event::{Disconnect, Event};
use crate::spool::class::Class;
use crate::spool::queue::Outgoing;
use crate::transport::{self, Family};

/// What the SDK says it is.
const SDK: &str = concat!("icecore-device/", env!("CARGO_PKG_VERSION"));

/// How long a goodbye may take.
const BYE: Duration = Duration::from_millis(500);

/// Bytes taken from the control stream at a time.
const READ_BYTES: usize = 64 << 10;

/// Runs the session on an open connection until it ends.
pub(super) async fn run(
    link: &Arc<Link>,
    connection: &Connection,
    own_endpoint: Option<Endpoint>,
    mut first_flight: Option<FirstFlight>,
) -> Ended {
    loop {
        let mut pump = Pump::new(link, connection, own_endpoint.clone(), first_flight.take());
        match pump.begin().await {
            Err(Stop::Ended(ended)) => return pump.farewell.take().unwrap_or(ended),
            // The connection stands; everything is said again on new streams.
            Err(Stop::NotTaken) => {
                for channel in link.all() {
                    channel.update(|outbox, _| outbox.take_back());
                }
            }
        }
    }
}

/// Why a session stops.
enum Stop {
    Ended(Ended),
    /// The server took nothing of the first flight.
    NotTaken,
}

impl From<Ended> for Stop {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

struct Pump<'a> {
    link: &'a Arc<Link>,
    connection: &'a Connection,
    session: ClientSession,
    /// Set until the server has answered what was sent before it had.
    first_flight: Option<FirstFlight>,
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
    /// What [`Pump::fill`] is gathering; kept for its allocation.
    outgoing: Vec<Outgoing>,
    silence: Silence,
    clocks: Clocks,
    /// Where the connection can be moved to another socket: no other connection uses it.
    own_endpoint: Option<Endpoint>,
    /// Why the server is about to end the connection, if it said so.
    farewell: Option<Ended>,
    /// Since when nothing is left to do on a connection on demand.
    idle_since: Option<Instant>,
    /// The server's clock, and when it showed that.
    welcomed: Option<(i64, Instant)>,
    /// When to ask for a new certificate.
    renew_at: Option<Instant>,
    /// Whether it was asked for, and not answered yet.
    renewing: bool,
}

impl<'a> Pump<'a> {
    fn new(
        link: &'a Arc<Link>,
        connection: &'a Connection,
        own_endpoint: Option<Endpoint>,
        first_flight: Option<FirstFlight>,
    ) -> Self {
        let device_time = link.clock.device_time();
        Self {
            link,
            connection,
            session: ClientSession::new(SDK, device_time, Duration::ZERO),
            first_flight,
            origin: Instant::now(),
            aliases: HashMap::new(),
            later: BTreeMap::new(),
            timers: 0,
            hold_until: None,
            pace: None,
            crowded_out: Vec::new(),
            max_aliases: limits::MAX_ALIASES,
            outgoing: Vec::new(),
            silence: Silence::new(),
            clocks: Clocks::new(),
            own_endpoint,
            farewell: None,
            idle_since: None,
            welcomed: None,
            renew_at: None,
            renewing: false,
        }
    }

    /// Opens the streams and drives them. Both at once: in a first flight, whatever is opened later might already be
    /// open to a server that took nothing of it.
    async fn begin(&mut self) -> Result<Infallible, Stop> {
        let opened = tokio::try_join!(self.connection.open_bi(), Lane::open(Class::Live, self.connection));
        let (control, live) = opened.map_err(|error| Ended::from(meaning_of(&error)))?;
        // Fails for a closed stream only.
        let _ = control.0.set_priority(CONTROL_PRIORITY);
        for channel in self.link.all() {
            self.look_again_at_refused(&channel);
            channel.signal();
        }
        self.drive(control, live).await
    }

    /// Reads, serves and writes until the connection ends.
    async fn drive(&mut self, control: (SendStream, RecvStream), mut live: Lane) -> Result<Infallible, Stop> {
        let (mut control_out, mut control_in) = control;
        let mut backlog = Lane::new(Class::Backlog);
        let mut control = Bytes::new();
        let timer = tokio::time::sleep_until(self.origin);
        tokio::pin!(timer);
        loop {
            if self.clocks.have_parted() {
                return Err(Ended::from(Disconnect::Silent).into());
            }
            self.fill(&mut live);
            self.fill(&mut backlog);
            if self.link.is_stopping() {
                return Err(self.say_bye(control_out, &control).await.into());
            }
            if control.is_empty() {
                control = self.session.take_control().into();
            }
            if live.is_empty() && backlog.is_empty() && control.is_empty() && self.in_flight() == 0 {
                self.nothing_left()?;
            } else {
                self.idle_since = None;
            }
            let deadline = self.deadline();
            if timer.is_elapsed() || deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            tokio::select! {
                biased;
                taken = answer(&mut self.first_flight) => self.answered(taken)?,
                read = control_in.read_chunk(READ_BYTES, true) => match read {
                    Ok(Some(chunk)) => self.received(&chunk.bytes)?,
                    Ok(None) => return Err(lost("the server closed the control stream").into()),
                    Err(error) => return Err(self.end_of(&error)),
                },
                written = control_out.write_chunks(slice::from_mut(&mut control)), if !control.is_empty() => {
                    written.map_err(|error| self.end_of(&error))?;
                }
                written = live.write(self.connection), if !live.is_empty() => {
                    written.map_err(|error| self.end_of(&error))?;
                }
                written = backlog.write(self.connection), if !backlog.is_empty() => {
                    written.map_err(|error| self.end_of(&error))?;
                }
                () = self.link.wake.notified() => {}
                () = &mut timer => self.time_passed()?,
            }
        }
    }

    /// The handshake is over.
    fn answered(&mut self, taken: bool) -> Result<(), Stop> {
        self.first_flight = None;
        let closed = self.connection.close_reason();
        let mut report = self.link.watchers.report();
        report.stats.zero_rtt_offered = u64::from(closed.is_none());
        report.stats.zero_rtt_accepted = u64::from(taken);
        self.link.watchers.publish(&report);
        match closed {
            Some(ConnectionError::TimedOut) => Err(self.unreachable()),
            Some(reason) => Err(Ended::from(meaning_of(&reason)).into()),
            None if taken => Ok(()),
            None => Err(Stop::NotTaken),
        }
    }

    fn unreachable(&self) -> Stop {
        Ended::from(Disconnect::Unreachable { server: self.link.config.server.clone() }).into()
    }

    /// Everything is acked: the end, if the server is about to stop, or nobody needs the connection any more.
    fn nothing_left(&mut self) -> Result<(), Ended> {
        if self.farewell.is_some() {
            return Err(lost("the server is stopping, and everything is acked"));
        }
        let Some(linger) = self.link.config.on_demand else { return Ok(()) };
        let now = Instant::now();
        if self.first_flight.is_some() || self.renewing || self.link.is_demanded(now) {
            self.idle_since = None;
            return Ok(());
        }
        if now >= *self.idle_since.get_or_insert(now) + linger {
            return Err(Disconnect::Idle.into());
        }
        Ok(())
    }

    /// What an error on a stream means: usually that the connection is gone, and that says why.
    fn end_of(&self, error: &dyn std::error::Error) -> Stop {
        match self.connection.close_reason() {
            Some(reason) => Ended::from(meaning_of(&reason)).into(),
            None if self.first_flight.is_some() => Stop::NotTaken,
            None => lost(&error.to_string()).into(),
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
        self.link.in_flight.total()
    }

    /// Takes bytes from the control stream.
    fn received(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        self.session.control_received(bytes).map_err(|error| self.violated(&error))?;
        while let Some(event) = self.session.poll_event() {
            match event {
                ClientEvent::Welcome(welcome) => {
                    self.link.heard_time(welcome.server_time, self.connection.rtt() / 2);
                    let mut report = self.link.watchers.report();
                    report.stats.connections = 1;
                    report.event(|| Event::Connected { server: welcome.server });
                    self.max_aliases = self.max_aliases.min(welcome.limits.max_aliases as usize);
                    self.welcomed = Some((welcome.server_time, Instant::now()));
                    self.plan_renewal();
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
                ClientEvent::Renewed(renewed) => {
                    self.link.renewed(renewed.certificate);
                    self.plan_renewal();
                }
                ClientEvent::NotRenewed(refusal) => {
                    self.link.renewal().refused(refusal.retry_after, Instant::now());
                    self.link.not_renewed(format!("{} ({})", refusal.message, refusal.code.name()));
                    self.plan_renewal();
                }
                // A newer server's message that this SDK does not know.
                _ => {}
            }
        }
        Ok(())
    }

    /// Looks up when to ask for a new certificate. The clock that counts is the server's.
    fn plan_renewal(&mut self) {
        let now = Instant::now();
        self.renewing = false;
        self.renew_at = self.welcomed.and_then(|(server_time, at)| {
            let elapsed = i64::try_from((now - at).as_nanos()).unwrap_or(i64::MAX);
            self.link.renewal().due(server_time.saturating_add(elapsed), now)
        });
    }

    fn violated(&self, error: &SessionError) -> Ended {
        Disconnect::Protocol { reason: error.to_string() }.into()
    }

    fn acked(&mut self, ack: &Ack) {
        let Some((channel, epoch)) = self.aliases.get(&ack.alias).cloned() else { return };
        let now = Instant::now().into_std();
        channel.update(|outbox, report| outbox.reached(epoch, ack.level, &ack.ranges, now, report));
        self.after_ack(ack.alias, &channel, epoch);
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
        let answer = self.first_flight.as_ref().map(|flight| flight.answer_by);
        let idle = self.idle_since.zip(self.link.config.on_demand).map(|(since, linger)| since + linger);
        let all = [session, later, answer, idle, self.hold_until, self.renew_at, self.silence.deadline()];
        all.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + IDLE)
    }

    fn time_passed(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        if self.first_flight.as_ref().is_some_and(|flight| flight.answer_by <= now) {
            return Err(self.unreachable());
        }
        self.session.handle_timeout(now - self.origin).map_err(|error| self.violated(&error))?;
        if self.hold_until.is_some_and(|until| until <= now) {
            self.hold_until = None;
        }
        if self.renew_at.is_some_and(|at| at <= now) {
            (self.renew_at, self.renewing) = (None, true);
            self.link.renewal().asked(now);
            self.session.renew();
        }
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            entry.remove().signal();
        }
        match self.silence.look(self.connection, self.in_flight() > 0, now) {
            Verdict::Alive => Ok(()),
            Verdict::Move if self.move_to_another_socket() => Ok(()),
            Verdict::Move | Verdict::Dead => Err(Ended::from(Disconnect::Silent).into()),
        }
    }

    /// Goes on from another port, which also asks for a sign of life. False if that cannot be.
    fn move_to_another_socket(&self) -> bool {
        let Some(endpoint) = &self.own_endpoint else { return false };
        let family = Family::of(&self.connection.remote_address());
        if let Err(error) = transport::socket(family).and_then(|socket| endpoint.rebind(socket)) {
            tracing::debug!(%error, "no other socket for a silent connection");
            return false;
        }
        let mut report = self.link.watchers.report();
        report.stats.moves = 1;
        self.link.watchers.publish(&report);
        true
    }
}

/// Whether the server took the first flight, when it has answered. Without one there is nothing to wait for.
async fn answer(first_flight: &mut Option<FirstFlight>) -> bool {
    match first_flight {
        Some(flight) => (&mut flight.accepted).await,
        None => std::future::pending().await,
    }
}

fn lost(reason: &str) -> Ended {
    Disconnect::Lost { reason: reason.to_owned() }.into()
}
