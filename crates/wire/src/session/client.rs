//! The client's end of the control stream.

use std::ops::Range;
use std::time::Duration;

use super::SessionError;
use crate::{Ack, Attached, DeviceName, Epoch, GoAway, Nack, Pace, Refuse, Welcome};

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
}

/// The client's end of a session.
#[derive(Debug)]
pub struct ClientSession {
    _private: (),
}

impl ClientSession {
    /// Opens a session: `Hello` is the first thing [`Self::take_control`] gives. `device_time` is the device's clock in
    /// nanoseconds since the Unix epoch, 0 for none.
    pub fn new(sdk: &str, device_time: i64, now: Duration) -> Self {
        let _ = (sdk, device_time, now);
        Self { _private: () }
    }

    /// Asks to send for a device; the answer is [`ClientEvent::Attached`] or [`ClientEvent::Refused`] with this alias.
    /// The first attach before `Hello` has left travels inside it.
    pub fn attach(&mut self, device: DeviceName, epoch: Epoch) -> u32 {
        let _ = (device, epoch);
        unimplemented!()
    }

    /// Stops sending for a device.
    pub fn detach(&mut self, alias: u32) {
        let _ = alias;
        unimplemented!()
    }

    /// Says that sequences of an attached device will never come.
    pub fn report_dropped(&mut self, alias: u32, range: Range<u64>) {
        let _ = (alias, range);
        unimplemented!()
    }

    /// Says that the client is done.
    pub fn bye(&mut self) {
        unimplemented!()
    }

    /// Takes bytes that came on the control stream.
    pub fn control_received(&mut self, chunk: &[u8], now: Duration) -> Result<(), SessionError> {
        let _ = (chunk, now);
        unimplemented!()
    }

    /// The next thing the server said.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
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

    /// Tells the session that time has passed: an error when the server did not answer in time.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), SessionError> {
        let _ = now;
        unimplemented!()
    }
}
