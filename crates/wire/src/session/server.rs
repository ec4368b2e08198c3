//! The server's end of the control stream.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use super::{PROTOCOL_VERSION, SessionError};
use crate::limits::{HELLO_TIMEOUT, MAX_RANGES};
use crate::{
    Ack, Attach, Attached, Code, Dropped, FrameKind, FrameReader, GoAway, Hello, Level, Message, Nack,
    NotRenewed, Pace, Refuse, Renewed, SequenceRanges, SessionLimits, Welcome,
};

/// What the client said.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// The session is open; answer with [`ServerSession::welcome`] or refuse it. An attach inside `Hello` follows as
    /// its own event.
    Hello {
        /// The client's software and version, for logs.
        sdk: String,
        /// The client's clock, nanoseconds since the Unix epoch; 0 = it has none.
        device_time: i64,
    },
    /// Answer with [`ServerSession::attached`] or refuse it.
    Attach(Attach),
    /// The client sends no more for this alias.
    Detach {
        /// The alias; it never stands for anything again.
        alias: u32,
    },
    /// Sequences that will never come.
    Dropped(Dropped),
    /// The client is done.
    Bye,
    /// The client asks for a new certificate; answer with [`ServerSession::renewed`] or [`ServerSession::not_renewed`].
    Renew,
}

/// Where an alias is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alias {
    /// Asked for, not answered yet.
    Pending,
    Attached,
}

/// The server's end of a session.
#[derive(Debug)]
pub struct ServerSession {
    limits: SessionLimits,
    frames: FrameReader,
    events: VecDeque<ServerEvent>,
    out: Vec<u8>,
    /// Set until `Hello` came.
    hello_deadline: Option<Duration>,
    last_alias: u32,
    aliases: HashMap<u32, Alias>,
    /// Acks that wait for [`Self::take_control`].
    acks: BTreeMap<(u32, Level), SequenceRanges>,
    /// Whether the client reads acks in the compact form.
    compact_acks: bool,
}

impl ServerSession {
    /// A session that waits for `Hello`.
    pub fn new(limits: SessionLimits, now: Duration) -> Self {
        Self {
            limits,
            frames: FrameReader::control(),
            events: VecDeque::new(),
            out: Vec::new(),
            hello_deadline: Some(now + HELLO_TIMEOUT),
            last_alias: 0,
            aliases: HashMap::new(),
            acks: BTreeMap::new(),
            compact_acks: false,
        }
    }

    /// Takes bytes that came on the control stream.
    pub fn control_received(&mut self, chunk: &[u8]) -> Result<(), SessionError> {
        self.frames.push(chunk);
        while let Some(frame) = self.frames.next()? {
            self.handle(Message::read(&frame)?)?;
        }
        Ok(())
    }

    /// The next thing the client said.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        self.events.pop_front()
    }

    /// Whether `alias` is attached (answered by [`Self::attached`] and not detached since).
    pub fn is_attached(&self, alias: u32) -> bool {
        self.aliases.get(&alias) == Some(&Alias::Attached)
    }

    /// Whether `alias` is above all that the client has asked for so far: its `Attach` may still be on its way, because
    /// batches travel on streams of their own.
    pub fn is_ahead(&self, alias: u32) -> bool {
        alias > self.last_alias
    }

    /// Answers `Hello`; `server_time` in nanoseconds since the Unix epoch.
    pub fn welcome(&mut self, server: &str, server_time: i64) {
        let welcome = Welcome {
            protocol: PROTOCOL_VERSION,
            server: server.to_owned(),
            server_time,
            limits: self.limits,
        };
        Message::Welcome(welcome).write_frame(&mut self.out);
    }

    /// Answers `Attach`; says nothing when the client has detached meanwhile.
    pub fn attached(&mut self, attached: Attached) {
        if let Some(alias) = self.aliases.get_mut(&attached.alias) {
            *alias = Alias::Attached;
            Message::Attached(attached).write_frame(&mut self.out);
        }
    }

    /// Acks sequences; acks of one alias and level are joined until [`Self::take_control`]. Says nothing when the client
    /// has detached meanwhile.
    pub fn ack(&mut self, alias: u32, range: Range<u64>, level: Level) {
        if self.is_attached(alias) {
            self.acks.entry((alias, level)).or_default().insert(range);
        }
    }

    /// From now on acks go out in the compact form: the client has shown, by a [compact
    /// batch](crate::BatchStreamReader::is_compact), that it reads it.
    pub fn ack_compactly(&mut self) {
        self.compact_acks = true;
    }

    /// Refuses a batch, which may have come before its device was attached. Says nothing when the client has detached
    /// meanwhile.
    pub fn nack(&mut self, nack: Nack) {
        if self.aliases.contains_key(&nack.alias) {
            Message::Nack(nack).write_frame(&mut self.out);
        }
    }

    /// Refuses a device, which ends its alias, or the connection.
    pub fn refuse(&mut self, refuse: Refuse) {
        if let Some(alias) = refuse.alias {
            self.aliases.remove(&alias);
            self.acks.retain(|(of, _), _| *of != alias);
        }
        Message::Refuse(refuse).write_frame(&mut self.out);
    }

    /// Tells the client how fast to send.
    pub fn pace(&mut self, pace: Pace) {
        Message::Pace(pace).write_frame(&mut self.out);
    }

    /// Tells the client that the connection is about to end.
    pub fn go_away(&mut self, go_away: GoAway) {
        Message::GoAway(go_away).write_frame(&mut self.out);
    }

    /// Hands a new certificate (X.509, DER) to the client that asked for one.
    pub fn renewed(&mut self, certificate: Vec<u8>) {
        Message::Renewed(Renewed { certificate }).write_frame(&mut self.out);
    }

    /// Tells the client that asked for a new certificate why there is none.
    pub fn not_renewed(&mut self, not_renewed: NotRenewed) {
        Message::NotRenewed(not_renewed).write_frame(&mut self.out);
    }

    /// Bytes that wait for [`Self::take_control`], acks not counted.
    pub fn unsaid_bytes(&self) -> usize {
        self.out.len()
    }

    /// The bytes to write to the control stream, empty when there are none.
    pub fn take_control(&mut self) -> Vec<u8> {
        for ((alias, level), ranges) in std::mem::take(&mut self.acks) {
            let mut ranges = ranges.iter().peekable();
            while ranges.peek().is_some() {
                let ranges = ranges.by_ref().take(MAX_RANGES).collect();
                let ack = Ack { alias, level, ranges };
                if self.compact_acks {
                    ack.write_compact_frame(&mut self.out);
                } else {
                    Message::Ack(ack).write_frame(&mut self.out);
                }
            }
        }
        std::mem::take(&mut self.out)
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn deadline(&self) -> Option<Duration> {
        self.hello_deadline
    }

    /// Tells the session that time has passed: an error when `Hello` did not come in time.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), SessionError> {
        match self.hello_deadline {
            Some(deadline) if now >= deadline => Err(SessionError::Timeout { expected: "Hello" }),
            _ => Ok(()),
        }
    }

    fn handle(&mut self, message: Message) -> Result<(), SessionError> {
        let open = self.hello_deadline.is_none();
        match message {
            Message::Hello(_) if open => {
                return Err(SessionError::unexpected(FrameKind::Hello, "the session is open already"));
            }
            Message::Hello(hello) => self.handle_hello(hello)?,
            other if !open => return Err(SessionError::unexpected(other.kind(), "Hello comes first")),
            Message::Attach(attach) => self.handle_attach(attach)?,
            Message::Detach { alias } => {
                // After a refusal that it had not seen, the client may let go of what it no longer has.
                if self.aliases.remove(&alias).is_some() {
                    self.acks.retain(|(of, _), _| *of != alias);
                    self.events.push_back(ServerEvent::Detach { alias });
                }
            }
            Message::Dropped(dropped) => {
                if self.is_attached(dropped.alias) {
                    self.events.push_back(ServerEvent::Dropped(dropped));
                }
            }
            Message::Bye => self.events.push_back(ServerEvent::Bye),
            Message::Renew => self.events.push_back(ServerEvent::Renew),
            other => return Err(SessionError::unexpected(other.kind(), "only servers send it")),
        }
        Ok(())
    }

    fn handle_hello(&mut self, hello: Hello) -> Result<(), SessionError> {
        let Hello { protocol, sdk, device_time, attach } = hello;
        if protocol != PROTOCOL_VERSION {
            return Err(SessionError::Version(protocol));
        }
        self.hello_deadline = None;
        self.events.push_back(ServerEvent::Hello { sdk, device_time });
        attach.map_or(Ok(()), |attach| self.handle_attach(attach))
    }

    fn handle_attach(&mut self, attach: Attach) -> Result<(), SessionError> {
        if attach.alias <= self.last_alias {
            return Err(SessionError::unexpected(
                FrameKind::Attach,
                "its alias is not above every earlier one",
            ));
        }
        self.last_alias = attach.alias;
        if self.aliases.len() >= self.limits.max_aliases as usize {
            let message =
                format!("{} devices are attached already; use another connection", self.aliases.len());
            let code = Code::TooManyAliases;
            self.refuse(Refuse { alias: Some(attach.alias), code, message, retry_after: None });
            return Ok(());
        }
        self.aliases.insert(attach.alias, Alias::Pending);
        self.events.push_back(ServerEvent::Attach(attach));
        Ok(())
    }
}
