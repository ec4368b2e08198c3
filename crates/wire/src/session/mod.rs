//! The session machines of both ends, without I/O: bytes and `now` in; bytes, events and deadlines out.
//!
//! `now` is the time since an origin that the caller chooses; it must not step backwards.

mod batch_stream;
mod client;
mod server;

#[cfg(test)]
mod tests;

pub use batch_stream::{BatchStreamReader, BatchStreamWriter, Incoming};
pub use client::{ClientEvent, ClientSession};
pub use server::{ServerEvent, ServerSession};

use crate::{Code, FrameError, FrameKind, MessageError, SchemaError, SchemaId};

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
    /// A message that the peer may not send, or not now.
    #[error("unexpected {kind:?} message: {reason}")]
    Unexpected {
        /// The message.
        kind: FrameKind,
        /// Why it is unexpected.
        reason: &'static str,
    },
    /// The peer speaks another version.
    #[error("the peer speaks protocol version {0}, this side speaks {PROTOCOL_VERSION}")]
    Version(u16),
    /// The peer did not answer in time.
    #[error("the peer did not say {expected} in time")]
    Timeout {
        /// What was waited for.
        expected: &'static str,
    },
    /// A schema announcement is malformed.
    #[error("schema announcement: {0}")]
    Schema(#[from] SchemaError),
    /// A schema was announced that the stream still remembers.
    #[error("schema {0} was announced twice on one stream")]
    SchemaTwice(SchemaId),
}

impl SessionError {
    /// The code to close the connection with.
    pub fn code(&self) -> Code {
        match self {
            Self::Version(_) => Code::UnsupportedVersion,
            _ => Code::ProtocolViolation,
        }
    }

    fn unexpected(kind: FrameKind, reason: &'static str) -> Self {
        Self::Unexpected { kind, reason }
    }
}
