//! The session machines of both ends, without I/O: bytes and `now` in; bytes, events and deadlines out.
//!
//! `now` is the time since an origin that the caller chooses; it must not step backwards.

mod batch_stream;
mod client;
mod server;

pub use batch_stream::{BatchFrames, BatchStreamReader, BatchStreamWriter, Incoming};
pub use client::{ClientEvent, ClientSession};
pub use server::{ServerEvent, ServerSession};

use crate::{Code, FrameError, MessageError};

/// The version of the protocol described in `docs/protocol.md`; ALPN `icecore/1`.
pub const PROTOCOL_VERSION: u16 = 1;

/// Why a session or stream cannot go on. The connection should be closed with [`SessionError::code`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The bytes are not frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A control message is malformed.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The peer did not answer in time.
    #[error("the peer did not say {expected} in time")]
    Timeout {
        /// What was waited for.
        expected: &'static str,
    },
}

impl SessionError {
    /// The code to close the connection with.
    pub fn code(&self) -> Code {
        Code::ProtocolViolation
    }
}
