//! The server's end of the control stream.

use std::ops::Range;
use std::time::Duration;

use super::SessionError;
use crate::{Attach, Attached, Dropped, GoAway, Level, Nack, Pace, Refuse, SessionLimits};

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
        /// The alias, free again.
        alias: u32,
    },
    /// Sequences that will never come.
    Dropped(Dropped),
    /// The client is done.
    Bye,
}

/// The server's end of a session.
#[derive(Debug)]
pub struct ServerSession {
    _private: (),
}

impl ServerSession {
    /// A session that waits for `Hello`.
    pub fn new(limits: SessionLimits, now: Duration) -> Self {
        let _ = (limits, now);
        Self { _private: () }
    }

    /// Takes bytes that came on the control stream.
    pub fn control_received(&mut self, chunk: &[u8], now: Duration) -> Result<(), SessionError> {
        let _ = (chunk, now);
        unimplemented!()
    }

    /// The next thing the client said.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        unimplemented!()
    }

    /// Whether `alias` is attached (answered by [`Self::attached`] and not detached since).
    pub fn is_attached(&self, alias: u32) -> bool {
        let _ = alias;
        unimplemented!()
    }

    /// Answers `Hello`; `server_time` in nanoseconds since the Unix epoch.
    pub fn welcome(&mut self, server: &str, server_time: i64) {
        let _ = (server, server_time);
        unimplemented!()
    }

    /// Answers `Attach`.
    pub fn attached(&mut self, attached: Attached) {
        let _ = attached;
        unimplemented!()
    }

    /// Acks sequences; acks of one alias and level are joined until [`Self::take_control`].
    pub fn ack(&mut self, alias: u32, range: Range<u64>, level: Level) {
        let _ = (alias, range, level);
        unimplemented!()
    }

    /// Refuses a batch.
    pub fn nack(&mut self, nack: Nack) {
        let _ = nack;
        unimplemented!()
    }

    /// Refuses a device (its alias is free again) or the connection.
    pub fn refuse(&mut self, refuse: Refuse) {
        let _ = refuse;
        unimplemented!()
    }

    /// Tells the client how fast to send.
    pub fn pace(&mut self, pace: Pace) {
        let _ = pace;
        unimplemented!()
    }

    /// Tells the client that the connection is about to end.
    pub fn go_away(&mut self, go_away: GoAway) {
        let _ = go_away;
        unimplemented!()
    }

    /// The bytes to write to the control stream, empty when there are none.
    pub fn take_control(&mut self) -> Vec<u8> {
        unimplemented!()
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn deadline(&self) -> Option<Duration> {
        unimplemented!()
    }

    /// Tells the session that time has passed: an error when `Hello` did not come in time.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), SessionError> {
        let _ = now;
        unimplemented!()
    }
}
