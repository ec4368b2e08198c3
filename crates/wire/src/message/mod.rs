//! Control messages: what client and server say beside batches.

mod code;
mod codec;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

pub use code::Code;
pub use codec::MessageError;

use crate::{DeviceName, Epoch, SequenceRanges};

/// Client → server, first on the control stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The protocol version the client speaks.
    pub protocol: u16,
    /// The client's software and version, for logs.
    pub sdk: String,
    /// The client's clock, nanoseconds since the Unix epoch; 0 = it has none.
    pub device_time: i64,
    /// A plain device attaches at once.
    pub attach: Option<Attach>,
}

/// Client → server: from now on `alias` stands for (device, epoch) on this connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The client's choice: not 0, and greater than every alias before it on this connection, so that a late ack can
    /// never be taken for another device's.
    pub alias: u32,
    /// Who the events are of.
    pub device: DeviceName,
    /// The incarnation of its spool.
    pub epoch: Epoch,
}

/// Client → server: sequences that will never come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The attached device and epoch.
    pub alias: u32,
    /// What was dropped.
    pub ranges: SequenceRanges,
}

/// What the server takes on this connection; never more than [`crate::limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Bytes of a batch payload.
    pub max_batch_bytes: u32,
    /// Rows of a batch.
    pub max_rows: u32,
    /// Devices attached at once.
    pub max_aliases: u32,
}

impl Default for SessionLimits {
    fn default() -> Self {
        use crate::limits::{MAX_ALIASES, MAX_BATCH_BYTES, MAX_ROWS};
        Self {
            max_batch_bytes: MAX_BATCH_BYTES as u32,
            max_rows: MAX_ROWS as u32,
            max_aliases: MAX_ALIASES as u32,
        }
    }
}

/// Server → client: the answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The protocol version spoken from here on.
    pub protocol: u16,
    /// The server's software and version, for logs.
    pub server: String,
    /// The server's clock, nanoseconds since the Unix epoch.
    pub server_time: i64,
    /// What it takes.
    pub limits: SessionLimits,
}

/// Server → client: the answer to [`Attach`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The attached device and epoch.
    pub alias: u32,
    /// The server's number of the epoch.
    pub epoch_number: u32,
    /// Durable sequences.
    pub stored: SequenceRanges,
    /// Sequences that are durably known to be dropped or refused: not to be sent again either.
    pub settled: SequenceRanges,
    /// Sequences that are in object storage.
    pub archived: SequenceRanges,
}

/// How safe acked sequences are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Durably known to be dropped or refused; the events themselves are not stored.
    Settled = 1,
    /// Fsynced on the server.
    Durable = 2,
    /// In object storage.
    Archived = 3,
}

/// Server → client: sequences that reached a level (only what is new).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The attached device and epoch.
    pub alias: u32,
    /// How safe they are.
    pub level: Level,
    /// The sequences.
    pub ranges: SequenceRanges,
}

/// Whether a refused batch may come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Never: a durable refusal was recorded.
    Permanent,
    /// Not before this much time has passed (milliseconds on the wire).
    RetryAfter(Duration),
}

impl Disposition {
    /// How long to wait before trying again; `None` = for ever.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Permanent => None,
            Self::RetryAfter(after) => Some(after),
        }
    }
}

/// Server → client: a batch that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// The attached device and epoch.
    pub alias: u32,
    /// The batch's sequences.
    pub range: Range<u64>,
    /// Why.
    pub code: Code,
    /// Whether it may come again.
    pub disposition: Disposition,
    /// Why, for people.
    pub message: String,
}

/// Server → client: a device (or the connection, without alias) is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refuse {
    /// The device and epoch; `None` = the connection.
    pub alias: Option<u32>,
    /// Why.
    pub code: Code,
    /// Why, for people.
    pub message: String,
    /// When to try again; `None` = not before something was changed.
    pub retry_after: Option<Duration>,
}

/// Server → client: how fast to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Bytes of batches a second; 0 = none for now.
    pub bytes_per_s: u64,
    /// How long this holds.
    pub retry_after: Duration,
}

/// Server → client: the connection is about to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoAway {
    /// When to connect again.
    pub retry_after: Duration,
    /// Why, for people.
    pub message: String,
}

/// Server → client: a certificate to use from the next connection on, for the key that this connection was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// X.509 in DER, issued by the CA that issued the one before.
    pub certificate: Vec<u8>,
}

/// Server → client: why there is no new certificate; the old one stays good until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotRenewed {
    /// Why.
    pub code: Code,
    /// Why, for people.
    pub message: String,
    /// When to ask again; `None` = not before something was changed.
    pub retry_after: Option<Duration>,
}

/// A control message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Client: the first message of a connection.
    Hello(Hello),
    /// Client: starts sending for a device.
    Attach(Attach),
    /// Client: stops sending for a device.
    Detach {
        /// The attached device and epoch.
        alias: u32,
    },
    /// Client: sequences that will never come.
    Dropped(Dropped),
    /// Client: an orderly end.
    Bye,
    /// Client: asks for a new certificate.
    Renew,
    /// Server: the answer to `Hello`.
    Welcome(Welcome),
    /// Server: the answer to `Attach`.
    Attached(Attached),
    /// Server: sequences that reached a level.
    Ack(Ack),
    /// Server: a batch that was not taken.
    Nack(Nack),
    /// Server: a device or connection that is not taken.
    Refuse(Refuse),
    /// Server: how fast the client may send.
    Pace(Pace),
    /// Server: the connection is about to end.
    GoAway(GoAway),
    /// Server: a new certificate.
    Renewed(Renewed),
    /// Server: there is no new certificate.
    NotRenewed(NotRenewed),
}
