//! The server's process without its threads and sockets: the session machines, the writer's core, and the log.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use icecore_ingest::{Answer, Attachment, Body, Core, Decision, InvalidBatch, Reply, Submission};
use icecore_log::disk::SimDisk;
use icecore_log::{
    CommitError, Committer, Disk, EncodedBlock, Encoder, LogError, Options, Recovery, SealPlan, Sealing,
};
use icecore_wire::{
    Attach, Attached, Batch, BatchStreamReader, Code, DeviceName, Disposition, GoAway, Incoming, Level, Nack,
    Schema, SequenceRanges, ServerEvent, ServerSession, SessionError, SessionLimits,
};

use crate::network::{ConnectionId, Stream};

/// The data directory.
pub const DATA: &str = "/data";

/// Blocks that are cut ahead of the one at the disk.
const BLOCKS_AHEAD: usize = 3;

/// A running server.
pub(crate) struct Server {
    core: Core,
    committer: Committer,
    encoder: Encoder,
    /// What the sessions submitted and the core was not offered.
    inbox: VecDeque<Submission>,
    /// Blocks on their way to the disk, in order.
    blocks: VecDeque<EncodedBlock>,
    sessions: BTreeMap<ConnectionId, Session>,
    /// What is added to simulated time to get received times, in nanoseconds: every process has its own clock.
    clock: i64,
    /// Whether the newest block holds something that an empty one should follow.
    unproven: bool,
    duplicates: u64,
}

struct Session {
    machine: ServerSession,
    attachments: BTreeMap<u32, Arc<Attachment>>,
    streams: BTreeMap<Stream, BatchStreamReader>,
}

impl Server {
    /// Opens the log and recovers it. `now` is in microseconds, `clock` in nanoseconds.
    pub(crate) fn start(
        disk: &SimDisk,
        options: Options,
        now: u64,
        clock: i64,
    ) -> Result<(Self, Recovery), LogError> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let (core, committer, recovery) = Core::open(disk, Path::new(DATA), options, received(now, clock))?;
        let server = Self {
            core,
            committer,
            encoder: Encoder::new(),
            inbox: VecDeque::new(),
            blocks: VecDeque::new(),
            sessions: BTreeMap::new(),
            clock,
            unproven: false,
            duplicates: 0,
        };
        Ok((server, recovery))
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Batches that came again and were acked again.
    pub(crate) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Takes bytes of a connection; an unknown one is new.
    pub(crate) fn hear(
        &mut self,
        connection: ConnectionId,
        stream: Stream,
        bytes: &[u8],
        now: u64,
    ) -> Result<(), SessionError> {
        let session = self.sessions.entry(connection).or_insert_with(|| Session::new(now));
        match stream {
            Stream::Control => session.hear(connection, bytes, now, &mut self.inbox),
            Stream::Batches(_) => session.read(stream, bytes, &mut self.inbox),
        }
    }

    /// Forgets a connection. What it submitted stays submitted.
    pub(crate) fn lose(&mut self, connection: ConnectionId) {
        self.sessions.remove(&connection);
    }

    /// Offers at most `most` submissions to the core and cuts a block when the disk is free or the block full.
    pub(crate) fn write(&mut self, most: usize, now: u64) {
        for _ in 0..most {
            if self.core.is_full() && self.blocks.len() >= BLOCKS_AHEAD {
                break;
            }
            let Some(submission) = self.inbox.pop_front() else { break };
            if matches!(self.core.offer(submission), Decision::Duplicate) {
                self.duplicates += 1;
            }
            if self.core.is_full() && self.blocks.len() < BLOCKS_AHEAD {
                self.cut(now);
            }
        }
        if !self.core.is_empty() && self.blocks.is_empty() {
            self.cut(now);
        }
    }

    /// Cuts an empty block when nothing has come since the last one.
    pub(crate) fn prove_last_block(&mut self, now: u64) {
        if self.unproven && self.is_at_rest() {
            self.cut(now);
            self.unproven = false;
        }
    }

    /// Whether everything that came is durable.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.inbox.is_empty() && self.core.is_empty() && self.blocks.is_empty()
    }

    pub(crate) fn has_blocks(&self) -> bool {
        !self.blocks.is_empty()
    }

    pub(crate) fn has_submissions(&self) -> bool {
        !self.inbox.is_empty()
    }

    fn cut(&mut self, now: u64) {
        let block = self.core.take_block(received(now, self.clock));
        self.blocks.push_back(self.encoder.encode(block, 1));
        self.unproven = true;
    }

    /// Makes the oldest block durable.
    pub(crate) fn commit(&mut self) -> Result<(), CommitError> {
        let Some(block) = self.blocks.front_mut() else { return Ok(()) };
        let committed = self.committer.commit(block)?;
        self.blocks.pop_front();
        self.core.committed(&committed);
        Ok(())
    }

    /// Seals finished segments, up to `hot_bytes` of them, and gives up after some pieces of work. Whether it was done.
    pub(crate) fn seal(&self, hot_bytes: u64, mut pieces: u64, now: u64) -> Result<bool, LogError> {
        let classify = |schema: &Schema, device: &DeviceName, _| -> Arc<str> {
            let even = device.as_str().len() + device.as_str().bytes().map(usize::from).sum::<usize>();
            if even.is_multiple_of(2) { "even".into() } else { schema.version().to_string().into() }
        };
        let mut pace = |_| {
            pieces = pieces.saturating_sub(1);
            if pieces == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let now = received(now, self.clock);
        let plan = SealPlan { hot_bytes, classify: &classify, pace: &mut pace, now };
        Ok(matches!(self.committer.sealer().seal(plan)?, Sealing::Done(_)))
    }

    /// What there is to write to control streams.
    pub(crate) fn say(&mut self) -> Vec<(ConnectionId, Vec<u8>)> {
        for answer in self.core.take_answers() {
            if let Some(session) = self.sessions.get_mut(&answer.to.session) {
                session.answer(answer);
            }
        }
        let control =
            |(&connection, session): (_, &mut Session)| (connection, session.machine.take_control());
        self.sessions.iter_mut().map(control).filter(|(_, bytes)| !bytes.is_empty()).collect()
    }

    /// Says goodbye to everybody.
    pub(crate) fn go_away(&mut self) {
        for session in self.sessions.values_mut() {
            session
                .machine
                .go_away(GoAway { retry_after: Duration::from_secs(1), message: "restart".to_owned() });
        }
    }

    /// Commits everything and closes the log.
    pub(crate) fn stop(mut self, now: u64) -> Result<Vec<(ConnectionId, Vec<u8>)>, CommitError> {
        while !self.is_at_rest() {
            self.write(usize::MAX, now);
            self.commit()?;
        }
        self.cut(now);
        self.commit()?;
        let last_words = self.say();
        self.committer.close()?;
        Ok(last_words)
    }
}

/// Received time, in nanoseconds since the Unix epoch.
fn received(now: u64, clock: i64) -> i64 {
    clock + i64::try_from(now).expect("histories are short") * 1000
}

impl Session {
    fn new(now: u64) -> Self {
        let machine = ServerSession::new(SessionLimits::default(), Duration::from_micros(now));
        Self { machine, attachments: BTreeMap::new(), streams: BTreeMap::new() }
    }

    fn hear(
        &mut self,
        connection: ConnectionId,
        bytes: &[u8],
        now: u64,
        inbox: &mut VecDeque<Submission>,
    ) -> Result<(), SessionError> {
        self.machine.control_received(bytes)?;
        while let Some(event) = self.machine.poll_event() {
            match event {
                ServerEvent::Hello { .. } => self.machine.welcome("icecore-sim", received(now, 0)),
                ServerEvent::Attach(Attach { alias, device, epoch }) => {
                    let from = Attachment::new(connection, alias, device, epoch);
                    self.attachments.insert(alias, Arc::clone(&from));
                    inbox.push_back(Submission { from, body: Body::Attach });
                }
                ServerEvent::Dropped(dropped) => {
                    if let Some(from) = self.attachments.get(&dropped.alias).cloned() {
                        inbox.push_back(Submission { from, body: Body::Dropped(dropped.ranges) });
                    }
                }
                // Simulated devices neither detach nor say goodbye: they vanish.
                _ => {}
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        stream: Stream,
        bytes: &[u8],
        inbox: &mut VecDeque<Submission>,
    ) -> Result<(), SessionError> {
        let reader =
            self.streams.entry(stream).or_insert_with(|| BatchStreamReader::new(&SessionLimits::default()));
        reader.push(bytes);
        while let Some(incoming) = reader.next()? {
            if reader.is_compact() {
                self.machine.ack_compactly();
            }
            let (alias, body) = judge(incoming);
            // A replayed batch may overtake its attach; nobody waits for it.
            if let Some(from) = self.attachments.get(&alias).cloned() {
                inbox.push_back(Submission { from, body });
            }
        }
        Ok(())
    }

    fn answer(&mut self, answer: Answer) {
        let alias = answer.to.alias;
        match answer.reply {
            Reply::Attached { epoch_number, stored, settled } => {
                let archived = SequenceRanges::new();
                self.machine.attached(Attached { alias, epoch_number, stored, settled, archived });
            }
            Reply::Durable(range) => self.machine.ack(alias, range, Level::Durable),
            Reply::Settled(range) => self.machine.ack(alias, range, Level::Settled),
            Reply::Refused { range, code, message } => {
                self.machine.nack(Nack { alias, range, code, disposition: Disposition::Permanent, message });
            }
            Reply::Deferred { range, code, message, retry_after } => {
                let disposition = Disposition::RetryAfter(retry_after);
                self.machine.nack(Nack { alias, range, code, disposition, message });
            }
        }
    }
}

/// Validates what came on a batch stream.
fn judge(incoming: Incoming) -> (u32, Body) {
    let (alias, range, error, payload) = match incoming {
        Incoming::Batch { alias, header, schema, payload } => {
            match Batch::validate(payload.clone(), schema) {
                Ok(batch) => return (alias, Body::Batch(batch)),
                Err(error) => (alias, header.range(), error, payload),
            }
        }
        Incoming::Unreadable { alias, header, payload, error } => {
            (alias, header.map_or(0..0, |header| header.range()), error, payload)
        }
    };
    let code = Code::MalformedBatch;
    (alias, Body::Invalid(InvalidBatch { range, code, message: error.to_string(), payload }))
}
