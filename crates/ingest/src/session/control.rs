//! The control stream of one connection, and the tasks of its batch streams.

use std::sync::Arc;
use std::time::Duration;

use icecore_wire::limits::MAX_ALIASES;
use icecore_wire::{Attach, Code, DeviceName, GoAway, NotRenewed, Refuse, ServerEvent, SessionError};
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, WriteError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::admission::{EarlyStreams, certificate_of};
use super::{Loss, Session, State, batches, close};
use crate::endpoint::{Hub, Phase};
use crate::identity::Denied;
use crate::writer::{Attachment, Body, Reservation, Submission, wall_time};

/// What the server calls itself in `Welcome`.
const SERVER: &str = concat!("icecore/", env!("CARGO_PKG_VERSION"));

/// How long a client may take to open its control stream.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);

/// When clients may come back after a goodbye: a restart takes about this long.
const RETRY_AFTER_RESTART: Duration = Duration::from_secs(1);

/// How long a client that is turned out may take to read why.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Devices that a session may own: as many as may be attached, and as many again whose aliases were ended by the server.
const MAX_OWNED: usize = 2 * MAX_ALIASES;

/// Bytes read from the control stream at once.
const READ_BYTES: usize = 16 << 10;

/// Why a connection ends.
enum End {
    /// It is gone already.
    Gone,
    /// The client broke the protocol.
    Breach(SessionError),
    /// The client may not be here any more.
    Denied(Denied),
    /// The server stops.
    Closing,
}

/// The task that drives one connection.
struct Control {
    hub: Arc<Hub>,
    session: Arc<Session>,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    /// Whether the client may still say something on the control stream.
    listening: bool,
    /// Bytes to be written, and how many of them were.
    out: Vec<u8>,
    written: usize,
    streams: JoinSet<Result<(), SessionError>>,
    /// At most one: an identity may ask once a minute, and that is more than one takes.
    renewals: JoinSet<Result<Vec<u8>, NotRenewed>>,
    phase: watch::Receiver<Phase>,
}

/// Runs a session until its connection ends.
pub(super) async fn run(hub: Arc<Hub>, connection: Connection, early: EarlyStreams, session: Arc<Session>) {
    let (send, recv) = match early {
        Some(streams) => streams,
        None => match timeout(CONTROL_TIMEOUT, connection.accept_bi()).await {
            Ok(Ok(streams)) => streams,
            Ok(Err(_)) => return,
            Err(_) => {
                let reason = "the client did not open a control stream";
                return close(&connection, Code::ProtocolViolation, reason);
            }
        },
    };
    hub.enter(&session, &connection);
    let mut control = Control {
        phase: hub.phase.subscribe(),
        hub,
        session,
        connection,
        send,
        recv,
        listening: true,
        out: Vec::new(),
        written: 0,
        streams: JoinSet::new(),
        renewals: JoinSet::new(),
    };
    // Somebody who connects while the server is going away is told so.
    control.phase.mark_changed();
    let end = loop {
        if let Err(end) = control.step().await {
            break end;
        }
    };
    control.finish(end).await;
}

impl Control {
    /// Waits for one thing to happen and deals with it.
    async fn step(&mut self) -> Result<(), End> {
        if self.written == self.out.len() {
            self.out = self.session.take_control();
            self.written = 0;
        }
        let hub = Arc::clone(&self.hub);
        let rest = &self.out[self.written..];
        let deadline = self.session.deadline();
        let bytes = self.session.next_bytes();
        let listening = self.listening && bytes == 0 && !self.session.is_behind();
        tokio::select! {
            written = self.send.write(rest), if !rest.is_empty() => self.written += written?,
            chunk = self.recv.read_chunk(READ_BYTES, true), if listening => match chunk? {
                Some(chunk) => self.hear(&chunk.bytes)?,
                None => self.listening = false,
            },
            room = hub.inbox.reserve(bytes), if bytes > 0 => match room {
                Ok(room) => self.session.submit_next(room),
                // The writer has ended, and the server is about to.
                Err(_) => self.session.state().pending.clear(),
            },
            () = self.session.outgoing.notified() => self.follow_review()?,
            stream = self.connection.accept_uni() => {
                self.streams.spawn(batches::read(Arc::clone(&self.hub), Arc::clone(&self.session), stream?));
            }
            Some(ended) = self.streams.join_next() => ended.unwrap_or(Ok(())).map_err(End::Breach)?,
            Some(Ok(renewed)) = self.renewals.join_next() => self.answer_renewal(renewed),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                self.session.handle_timeout().map_err(End::Breach)?;
            }
            _ = self.phase.changed() => self.follow_phase()?,
        }
        Ok(())
    }

    /// Takes bytes of the control stream.
    fn hear(&mut self, bytes: &[u8]) -> Result<(), End> {
        let session = Arc::clone(&self.session);
        let mut losses = Vec::new();
        let mut state = session.state();
        state.machine.control_received(bytes).map_err(End::Breach)?;
        while let Some(event) = state.machine.poll_event() {
            match event {
                ServerEvent::Hello { sdk, device_time } => {
                    tracing::debug!(name = %session.identity.name, sdk, device_time, "hello");
                    state.machine.welcome(SERVER, wall_time());
                }
                ServerEvent::Attach(attach) => losses.extend(self.attach(&mut state, attach)),
                ServerEvent::Detach { alias } => {
                    let device = state.device_of(alias);
                    state.end_alias(alias);
                    if let Some(device) = device.filter(|device| state.aliases_of(device).is_empty()) {
                        state.owned.remove(&device);
                        self.hub.owners.release(&device, session.id);
                    }
                }
                ServerEvent::Dropped(dropped) => {
                    if let Some(from) = state.attachments.get(&dropped.alias).cloned() {
                        let body = Body::Dropped(dropped.ranges);
                        state.pending.push_back(Submission { from, body });
                    }
                }
                ServerEvent::Renew => {
                    if let Err(not_renewed) = self.renew() {
                        state.machine.not_renewed(not_renewed);
                    }
                }
                // After `Bye` the client waits for its acks and closes the connection itself; events of later
                // versions are nothing to act on.
                _ => {}
            }
        }
        drop(state);
        // What was refused or detached is known as well.
        session.attaching.notify_waiters();
        // Outside of the lock: two sessions may be taking devices over from each other.
        for (device, loss) in losses {
            self.hub.take_over(&device, loss);
        }
        Ok(())
    }

    /// Attaches a device or says why not; returns what another session lost by it.
    fn attach(&self, state: &mut State, attach: Attach) -> Option<(DeviceName, Loss)> {
        let Attach { alias, device, epoch } = attach;
        if epoch.is_derived() {
            let message = format!("epoch {epoch} is one of the server's own; begin a new one");
            let refuse = Refuse { alias: Some(alias), code: Code::NotGranted, message, retry_after: None };
            state.machine.refuse(refuse);
            return None;
        }
        if let Err(denied) = self.session.identity.may_write(&device, &self.hub.registry, wall_time()) {
            if let Some(left_out) = self.hub.refused_attaches.admit(std::time::Instant::now()) {
                let (code, reason) = (denied.code.name(), &denied.message);
                tracing::info!(code, reason, left_out, "refused an attach");
            }
            let (alias, code, message) = (Some(alias), denied.code, denied.message);
            state.machine.refuse(Refuse { alias, code, message, retry_after: None });
            return None;
        }
        if state.owned.len() >= MAX_OWNED {
            self.disown_ended(state);
        }
        let loss = self.hub.claim(&device, self.session.id);
        state.owned.insert(device.clone());
        let from = Attachment::new(self.session.id, alias, device.clone(), epoch);
        state.pending.push_back(Submission { from, body: Body::Attach });
        loss.map(|loss| (device, loss))
    }

    /// Lets go of the devices whose aliases the server has ended.
    fn disown_ended(&self, state: &mut State) {
        let mut owned = std::mem::take(&mut state.owned);
        owned.retain(|device| {
            let attached = !state.aliases_of(device).is_empty();
            if !attached {
                self.hub.owners.release(device, self.session.id);
            }
            attached
        });
        state.owned = owned;
    }

    fn renew(&mut self) -> Result<(), NotRenewed> {
        self.hub.renewals.admit(&self.session.identity.name, std::time::Instant::now())?;
        if let Some(certificate) = certificate_of(&self.connection) {
            self.renewals.spawn(Arc::clone(&self.hub.renewals).renew(certificate));
        }
        Ok(())
    }

    fn answer_renewal(&self, renewed: Result<Vec<u8>, NotRenewed>) {
        let mut state = self.session.state();
        match renewed {
            Ok(certificate) => state.machine.renewed(certificate),
            Err(not_renewed) => state.machine.not_renewed(not_renewed),
        }
    }

    fn follow_review(&self) -> Result<(), End> {
        self.session.state().denied.take().map_or(Ok(()), |denied| Err(End::Denied(denied)))
    }

    fn follow_phase(&mut self) -> Result<(), End> {
        let phase = *self.phase.borrow_and_update();
        match phase {
            Phase::Open => Ok(()),
            Phase::GoingAway => {
                let message = "the server stops".to_owned();
                self.session.state().machine.go_away(GoAway { retry_after: RETRY_AFTER_RESTART, message });
                Ok(())
            }
            Phase::Closing => Err(End::Closing),
        }
    }

    async fn finish(mut self, end: End) {
        match end {
            End::Gone => {}
            End::Breach(e) => {
                tracing::warn!(name = %self.session.identity.name, error = %e, "a client broke the protocol");
                close(&self.connection, e.code(), &e.to_string());
            }
            End::Denied(Denied { code, message }) => {
                // Nothing that comes from here on is taken.
                self.streams.abort_all();
                tracing::info!(name = %self.session.identity.name, code = code.name(), reason = message, "turned a client out");
                let refuse = Refuse { alias: None, code, message: message.clone(), retry_after: None };
                self.session.state().machine.refuse(refuse);
                let _ = timeout(LAST_WORDS, self.say_last_words()).await;
                close(&self.connection, code, &message);
            }
            End::Closing => {
                // An error means that the client has gone before its last acks; it will learn of them when it attaches.
                let _ = self.say_last_words().await;
                close(&self.connection, Code::ShuttingDown, "the server stops");
            }
        }
        self.hub.leave(&self.session);
    }

    /// Writes what there is to say and waits until the client has it.
    async fn say_last_words(&mut self) -> Result<(), WriteError> {
        self.send.write_all(&self.out[self.written..]).await?;
        self.send.write_all(&self.session.take_control()).await?;
        if self.send.finish().is_ok() {
            // Whether all was acknowledged or the connection was lost: there is nothing more to wait for.
            let _ = self.send.stopped().await;
        }
        Ok(())
    }
}

impl Session {
    /// The bytes to write to the control stream.
    fn take_control(&self) -> Vec<u8> {
        let mut state = self.state();
        state.woken = false;
        let said = state.machine.take_control();
        drop(state);
        self.written.notify_waiters();
        said
    }

    /// Bytes of what the writer is to be told next; 0 when there is nothing.
    fn next_bytes(&self) -> usize {
        self.state().pending.front().map_or(0, Submission::bytes)
    }

    fn submit_next(&self, room: Reservation<'_>) {
        let mut state = self.state();
        let Some(submission) = state.pending.pop_front() else { return };
        if matches!(submission.body, Body::Attach) {
            // Both under the lock: no answer and no batch may come in between.
            state.attachments.insert(submission.from.alias, Arc::clone(&submission.from));
        }
        room.submit([submission]);
        drop(state);
        self.attaching.notify_waiters();
    }

    /// When [`Session::handle_timeout`] wants to be called.
    fn deadline(&self) -> Option<Instant> {
        self.state().machine.deadline().map(|deadline| Instant::from_std(self.started + deadline))
    }

    fn handle_timeout(&self) -> Result<(), SessionError> {
        self.state().machine.handle_timeout(self.now())
    }
}

impl From<ConnectionError> for End {
    fn from(_: ConnectionError) -> Self {
        Self::Gone
    }
}

impl From<ReadError> for End {
    fn from(_: ReadError) -> Self {
        Self::Gone
    }
}

impl From<WriteError> for End {
    fn from(_: WriteError) -> Self {
        Self::Gone
    }
}
