//! One connection: admission, its control stream, and what it shares with its batch streams.
//!
//! The protocol is [`ServerSession`]'s business; here are the waiting, the registry and the way to the writer.

mod admission;
mod batches;
mod control;
mod intake;
mod takeover;

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use icecore_wire::limits::HELLO_TIMEOUT;
use icecore_wire::{
    Attached, Code, DeviceName, Disposition, Level, Nack, Pace, Refuse, SequenceRanges, ServerSession,
    SessionError, SessionLimits,
};
use quinn::{Connection, VarInt};
use tokio::sync::Notify;
use tokio::time::timeout_at;

pub(crate) use admission::serve;
pub(crate) use takeover::{Conflict, Loss, Owners};

use crate::Registry;
use crate::identity::{Denied, Identity};
use crate::writer::{Answer, Attachment, Body, Reply, Submission};

/// When a device may try again whose batch could not be read at all: something has to change on its side first.
const RETRY_AFTER_UNREADABLE: Duration = Duration::from_secs(60);

/// Bytes of answers that may wait for a client that does not read them; then it is not read either. Acks do not count:
/// they are joined, and bounded with the ranges they are made of.
const MAX_UNREAD: usize = 256 << 10;

/// For how long a client is told to keep a pace; it is told again when it is still too fast afterwards.
const PACE_HOLDS: Duration = Duration::from_secs(5);

/// What the tasks of one connection and the answering task share.
pub(crate) struct Session {
    id: u64,
    identity: Identity,
    started: Instant,
    state: Mutex<State>,
    outgoing: Notify,
    /// Tells whoever waits for it that what there was to say is being written.
    written: Notify,
    /// Tells the batch streams that the writer knows of more aliases.
    attaching: Notify,
}

struct State {
    machine: ServerSession,
    /// What the aliases stand for whose attach was submitted.
    attachments: HashMap<u32, Arc<Attachment>>,
    /// Why the client is to be turned out, since it was let in.
    denied: Option<Denied>,
    /// The devices that this session may have to let go of.
    owned: HashSet<DeviceName>,
    /// What the client said and the writer was not told yet. While there is something, the control stream is not read.
    pending: VecDeque<Submission>,
    /// Whether the control task knows already that it has something to write.
    woken: bool,
    /// When the client was last told how fast to send.
    paced: Option<Instant>,
}

impl Session {
    fn new(identity: Identity) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let machine = ServerSession::new(SessionLimits::default(), Duration::ZERO);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            identity,
            started: Instant::now(),
            state: Mutex::new(State {
                machine,
                attachments: HashMap::new(),
                denied: None,
                owned: HashSet::new(),
                pending: VecDeque::new(),
                woken: false,
                paced: None,
            }),
            outgoing: Notify::new(),
            written: Notify::new(),
            attaching: Notify::new(),
        })
    }

    /// Its number, unique within the process.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Takes an answer to be written; says whether the session has to be woken for it.
    pub(crate) fn take_answer(&self, answer: Answer) -> bool {
        let mut state = self.state();
        let Answer { to, reply } = answer;
        // The alias may have been given up, and even be in use for another device, since this was asked.
        if !state.attachments.get(&to.alias).is_some_and(|current| Arc::ptr_eq(current, &to)) {
            return false;
        }
        state.reply(to.alias, reply);
        !std::mem::replace(&mut state.woken, true)
    }

    /// The client reads acks in the compact form.
    fn ack_compactly(&self) {
        self.state().machine.ack_compactly();
    }

    /// Wakes the task that writes the control stream.
    pub(crate) fn wake(&self) {
        self.outgoing.notify_one();
    }

    /// Who its client is.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Judges the identity and the attached devices once more, at `now` (nanoseconds since the Unix epoch).
    pub(crate) fn review(&self, registry: &Registry, now: i64) {
        let mut state = self.state();
        match self.identity.enrolment(registry, now) {
            Err(denied) => state.denied = Some(denied),
            Ok(enrolment) => {
                for device in state.owned.clone() {
                    if let Err(denied) = self.identity.granted(&enrolment, &device) {
                        state.end_aliases(&device, denied.code, &denied.message, None);
                    }
                }
            }
        }
        drop(state);
        self.attaching.notify_waiters();
        self.wake();
    }

    /// The devices it spoke for; it does not any more.
    pub(crate) fn take_owned(&self) -> HashSet<DeviceName> {
        std::mem::take(&mut self.state().owned)
    }

    /// Ends the aliases of a device that another session speaks for now.
    pub(crate) fn lose(&self, device: &DeviceName, loss: Loss) {
        let mut state = self.state();
        state.owned.remove(device);
        let (code, message) = (loss.code(), loss.message(device));
        state.end_aliases(device, code, &message, Some(loss.retry_after));
        drop(state);
        self.attaching.notify_waiters();
        self.wake();
    }

    /// Tells the client that a batch, or the device when it is not known which batch, may come again later.
    fn defer(
        &self,
        to: Arc<Attachment>,
        range: Range<u64>,
        code: Code,
        message: String,
        retry_after: Duration,
    ) {
        if self.take_answer(Answer { to, reply: Reply::Deferred { range, code, message, retry_after } }) {
            self.wake();
        }
    }

    /// Has the client send at this pace, and says whether it had to be told: it was not within [`PACE_HOLDS`].
    fn pace(&self, bytes_per_s: u64) -> bool {
        let mut state = self.state();
        if state.paced.is_some_and(|at| at.elapsed() < PACE_HOLDS) {
            return false;
        }
        state.paced = Some(Instant::now());
        state.machine.pace(Pace { bytes_per_s, retry_after: PACE_HOLDS });
        if !std::mem::replace(&mut state.woken, true) {
            self.wake();
        }
        true
    }

    /// Whether the client leaves too much unread of what was said to it.
    fn is_behind(&self) -> bool {
        self.state().machine.unsaid_bytes() > MAX_UNREAD
    }

    /// Waits until the client is not behind.
    async fn caught_up(&self) {
        loop {
            let written = self.written.notified();
            if !self.is_behind() {
                return;
            }
            written.await;
        }
    }

    /// What `alias` stands for, if anything; waits until the writer knows it. Batches travel on streams of their own and
    /// may arrive before their `Attach`; the writer has to have the attach first, or their acks would be lost.
    ///
    /// # Errors
    /// When the client does not attach it in time.
    async fn await_attach(&self, alias: u32) -> Result<Option<Arc<Attachment>>, SessionError> {
        let mut deadline = tokio::time::Instant::now() + HELLO_TIMEOUT;
        loop {
            let mut changed = pin!(self.attaching.notified());
            changed.as_mut().enable();
            let late = {
                let state = self.state();
                if state.is_known(alias) {
                    return Ok(state.attachments.get(&alias).cloned());
                }
                // While the control stream is not read, it is not the client that is late.
                state.pending.is_empty()
            };
            if timeout_at(deadline, changed).await.is_err() {
                if late {
                    return Err(SessionError::Timeout { expected: "Attach" });
                }
                deadline += HELLO_TIMEOUT;
            }
        }
    }

    /// `None` as well while the writer does not know of the attach.
    fn attachment(&self, alias: u32) -> Option<Arc<Attachment>> {
        self.state().attachments.get(&alias).cloned()
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under this lock ends its own connection's task; the others never see this session.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether everything that the client said of `alias` up to now was handed on: it is not still to be heard of, and
    /// its attach does not wait for room in the writer's queue.
    fn is_known(&self, alias: u32) -> bool {
        let waits =
            |pending: &Submission| pending.from.alias == alias && matches!(pending.body, Body::Attach);
        !self.machine.is_ahead(alias) && !self.pending.iter().any(waits)
    }

    /// What aliases stand for, or will when there is room in the writer's queue.
    fn spoken_for(&self) -> impl Iterator<Item = &Arc<Attachment>> {
        self.attachments.values().chain(self.pending.iter().map(|submission| &submission.from))
    }

    /// Which device `alias` stands for.
    fn device_of(&self, alias: u32) -> Option<DeviceName> {
        self.spoken_for().find(|from| from.alias == alias).map(|from| from.device.clone())
    }

    /// The aliases that stand for `device`.
    fn aliases_of(&self, device: &DeviceName) -> Vec<u32> {
        let mut aliases: Vec<u32> =
            self.spoken_for().filter(|from| from.device == *device).map(|from| from.alias).collect();
        aliases.sort_unstable();
        aliases.dedup();
        aliases
    }

    /// Refuses what is attached for `device`. What was submitted for it is stored, but nobody is told.
    fn end_aliases(&mut self, device: &DeviceName, code: Code, message: &str, retry_after: Option<Duration>) {
        for alias in self.aliases_of(device) {
            self.end_alias(alias);
            let message = message.to_owned();
            self.machine.refuse(Refuse { alias: Some(alias), code, message, retry_after });
        }
    }

    fn end_alias(&mut self, alias: u32) {
        self.attachments.remove(&alias);
        self.pending.retain(|submission| submission.from.alias != alias);
    }

    fn reply(&mut self, alias: u32, reply: Reply) {
        match reply {
            Reply::Attached { epoch_number, stored, settled } => {
                let archived = SequenceRanges::new();
                self.machine.attached(Attached { alias, epoch_number, stored, settled, archived });
            }
            Reply::Durable(range) => self.machine.ack(alias, range, Level::Durable),
            Reply::Settled(range) => self.machine.ack(alias, range, Level::Settled),
            Reply::Refused { range, code, message } if range.is_empty() => {
                self.turn_away(alias, code, message, RETRY_AFTER_UNREADABLE);
            }
            Reply::Refused { range, code, message } => {
                let disposition = Disposition::Permanent;
                self.machine.nack(Nack { alias, range, code, disposition, message });
            }
            Reply::Deferred { range, code, message, retry_after } if range.is_empty() => {
                self.turn_away(alias, code, message, retry_after);
            }
            Reply::Deferred { range, code, message, retry_after } => {
                let disposition = Disposition::RetryAfter(retry_after);
                self.machine.nack(Nack { alias, range, code, disposition, message });
            }
        }
    }

    /// Turns a device away of whose batch there is no telling which one it was.
    fn turn_away(&mut self, alias: u32, code: Code, message: String, retry_after: Duration) {
        self.attachments.remove(&alias);
        let retry_after = Some(retry_after);
        self.machine.refuse(Refuse { alias: Some(alias), code, message, retry_after });
    }
}

/// Closes the connection with a code of the protocol and its reason.
fn close(connection: &Connection, code: Code, message: &str) {
    connection.close(VarInt::from_u32(u32::from(code.number())), message.as_bytes());
}

#[cfg(test)]
mod tests {
    use icecore_wire::Epoch;

    use super::*;
    use crate::Role;

    fn session() -> Arc<Session> {
        let name = "pump".parse().unwrap();
        Session::new(Identity { role: Role::Device, name, fingerprint: String::new(), expires: 0 })
    }

    #[tokio::test(start_paused = true)]
    async fn batches_wait_so_long_for_their_attach() {
        let (session, start) = (session(), tokio::time::Instant::now());
        let error = session.await_attach(1).await.unwrap_err();
        assert_eq!((error.code(), start.elapsed()), (Code::ProtocolViolation, HELLO_TIMEOUT));
        assert!(error.to_string().contains("Attach"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_not_read_is_not_late() {
        let session = session();
        let other = Attachment::new(session.id, 1, "fan".parse().unwrap(), Epoch::from_bytes([0; 16]));
        session.state().pending.push_back(Submission { from: other, body: Body::Attach });
        let mut waiting = pin!(session.await_attach(2));
        let longer = HELLO_TIMEOUT * 5 / 2;
        assert!(tokio::time::timeout(longer, &mut waiting).await.is_err(), "the writer has no room");
        // From here on it has the rest of its ten seconds.
        session.state().pending.clear();
        session.attaching.notify_waiters();
        let start = tokio::time::Instant::now();
        assert_eq!(waiting.await.unwrap_err().code(), Code::ProtocolViolation);
        assert!(
            start.elapsed().abs_diff(HELLO_TIMEOUT / 2) < Duration::from_millis(10),
            "{:?}",
            start.elapsed()
        );
    }
}
