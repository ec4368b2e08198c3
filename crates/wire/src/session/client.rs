//! The client's end of the control stream.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::{PROTOCOL_VERSION, SessionError};
use crate::limits::{HELLO_TIMEOUT, MAX_RANGES};
use crate::{
    Ack, Attach, Attached, DeviceName, Dropped, Epoch, FrameKind, FrameReader, GoAway, Hello, Message, Nack,
    NotRenewed, Pace, Refuse, Renewed, SequenceRanges, Welcome,
};

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The session is open.
    Welcome(Welcome),
    /// A device is attached; batches may be sent.
    Attached(Attached),
    /// Sequences reached a level.
    Acked(Ack),
    /// A batch was not taken.
    Nacked(Nack),
    /// A device, or the connection, is not taken.
    Refused(Refuse),
    /// How fast to send.
    Pace(Pace),
    /// The connection is about to end.
    GoAway(GoAway),
    /// The answer to [`ClientSession::renew`]: a certificate to use from the next connection on.
    Renewed(Renewed),
    /// The answer to [`ClientSession::renew`]: there is none.
    NotRenewed(NotRenewed),
}

/// The client's end of a session.
#[derive(Debug)]
pub struct ClientSession {
    frames: FrameReader,
    events: VecDeque<ClientEvent>,
    out: Vec<u8>,
    /// Not yet written, so that the first attach can still travel in it.
    hello: Option<Hello>,
    /// Set until the server says something.
    welcome_deadline: Option<Duration>,
    last_alias: u32,
    /// Asked for or attached. What the server says of others crossed a detach and is dropped.
    aliases: HashSet<u32>,
}

impl ClientSession {
    /// Opens a session: `Hello` is the first thing [`Self::take_control`] gives. `device_time` is the device's clock in
    /// nanoseconds since the Unix epoch, 0 for none.
    pub fn new(sdk: &str, device_time: i64, now: Duration) -> Self {
        let hello = Hello { protocol: PROTOCOL_VERSION, sdk: sdk.to_owned(), device_time, attach: None };
        Self {
            frames: FrameReader::control(),
            events: VecDeque::new(),
            out: Vec::new(),
            hello: Some(hello),
            welcome_deadline: Some(now + HELLO_TIMEOUT),
            last_alias: 0,
            aliases: HashSet::new(),
        }
    }

    /// Asks to send for a device; the answer is [`ClientEvent::Attached`] or [`ClientEvent::Refused`] with this alias.
    /// The first attach before `Hello` has left travels inside it.
    pub fn attach(&mut self, device: DeviceName, epoch: Epoch) -> u32 {
        self.last_alias = self.last_alias.checked_add(1).expect("no connection attaches 2^32 devices");
        let alias = self.last_alias;
        self.aliases.insert(alias);
        let attach = Attach { alias, device, epoch };
        match &mut self.hello {
            Some(hello) if hello.attach.is_none() => hello.attach = Some(attach),
            _ => self.send(&Message::Attach(attach)),
        }
        alias
    }

    /// Stops sending for a device. Nothing more is heard of it.
    pub fn detach(&mut self, alias: u32) {
        if self.aliases.remove(&alias) {
            self.send(&Message::Detach { alias });
        }
    }

    /// Says that sequences of an attached device will never come.
    pub fn report_dropped(&mut self, alias: u32, ranges: &SequenceRanges) {
        let ranges: Vec<_> = ranges.iter().collect();
        for ranges in ranges.chunks(MAX_RANGES) {
            let ranges = ranges.iter().cloned().collect();
            self.send(&Message::Dropped(Dropped { alias, ranges }));
        }
    }

    /// Asks for a new certificate for the key of this connection; the answer is [`ClientEvent::Renewed`] or
    /// [`ClientEvent::NotRenewed`].
    pub fn renew(&mut self) {
        self.send(&Message::Renew);
    }

    /// Says that the client is done.
    pub fn bye(&mut self) {
        self.send(&Message::Bye);
    }

    /// Takes bytes that came on the control stream.
    pub fn control_received(&mut self, chunk: &[u8]) -> Result<(), SessionError> {
        self.frames.push(chunk);
        while let Some(frame) = self.frames.next()? {
            self.handle(Message::read(&frame)?)?;
        }
        Ok(())
    }

    /// The next thing the server said.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// The bytes to write to the control stream, empty when there are none.
    pub fn take_control(&mut self) -> Vec<u8> {
        self.flush_hello();
        std::mem::take(&mut self.out)
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn deadline(&self) -> Option<Duration> {
        self.welcome_deadline
    }

    /// Tells the session that time has passed: an error when the server did not answer in time.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), SessionError> {
        match self.welcome_deadline {
            Some(deadline) if now >= deadline => Err(SessionError::Timeout { expected: "Welcome" }),
            _ => Ok(()),
        }
    }

    fn send(&mut self, message: &Message) {
        self.flush_hello();
        message.write_frame(&mut self.out);
    }

    fn flush_hello(&mut self) {
        if let Some(hello) = self.hello.take() {
            Message::Hello(hello).write_frame(&mut self.out);
        }
    }

    fn handle(&mut self, message: Message) -> Result<(), SessionError> {
        let welcomed = self.welcome_deadline.is_none();
        match message {
            Message::Welcome(welcome) => {
                if welcomed {
                    return Err(SessionError::unexpected(FrameKind::Welcome, "the session is open already"));
                }
                if welcome.protocol != PROTOCOL_VERSION {
                    return Err(SessionError::Version(welcome.protocol));
                }
                self.welcome_deadline = None;
                self.events.push_back(ClientEvent::Welcome(welcome));
            }
            // A server may turn a client away before it opens the session.
            Message::Refuse(refuse) => match refuse.alias {
                None => self.events.push_back(ClientEvent::Refused(refuse)),
                Some(alias) => {
                    if self.expects(FrameKind::Refuse, alias)? {
                        self.aliases.remove(&alias);
                        self.events.push_back(ClientEvent::Refused(refuse));
                    }
                }
            },
            Message::GoAway(go_away) => self.events.push_back(ClientEvent::GoAway(go_away)),
            other if !welcomed => {
                return Err(SessionError::unexpected(other.kind(), "the session is not open yet"));
            }
            Message::Attached(attached) => {
                if self.expects(FrameKind::Attached, attached.alias)? {
                    self.events.push_back(ClientEvent::Attached(attached));
                }
            }
            Message::Ack(ack) => {
                if self.expects(FrameKind::Ack, ack.alias)? {
                    self.events.push_back(ClientEvent::Acked(ack));
                }
            }
            Message::Nack(nack) => {
                if self.expects(FrameKind::Nack, nack.alias)? {
                    self.events.push_back(ClientEvent::Nacked(nack));
                }
            }
            Message::Pace(pace) => self.events.push_back(ClientEvent::Pace(pace)),
            Message::Renewed(renewed) => self.events.push_back(ClientEvent::Renewed(renewed)),
            Message::NotRenewed(not_renewed) => self.events.push_back(ClientEvent::NotRenewed(not_renewed)),
            other => return Err(SessionError::unexpected(other.kind(), "only clients send it")),
        }
        Ok(())
    }

    /// Whether `alias` is in use. One that was let go may still be spoken of; one that never was may not.
    fn expects(&self, kind: FrameKind, alias: u32) -> Result<bool, SessionError> {
        if alias > self.last_alias {
            return Err(SessionError::unexpected(kind, "its alias was never attached"));
        }
        Ok(self.aliases.contains(&alias))
    }
}
