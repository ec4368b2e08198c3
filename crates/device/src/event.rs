//! What happens to recorded events after they were recorded.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use icecore_wire::{Code, DeviceName, Digest, Epoch, Level};

/// What a device or gateway reports to those who subscribed.
#[derive(Debug, Clone)]
pub enum Event {
    /// The server welcomed the connection.
    Connected {
        /// The server's version string.
        server: String,
    },
    /// The connection ended, or an attempt to make one failed.
    Disconnected {
        /// Why.
        reason: Disconnect,
        /// When the next attempt starts; of no meaning after [`Disconnect::Idle`], which lasts until there is something
        /// to send.
        retry_in: Duration,
    },
    /// The server is ready for a device's batches and said what it has.
    Attached {
        /// The device.
        device: DeviceName,
        /// The epoch.
        epoch: Epoch,
        /// The server's number for the epoch.
        epoch_number: u32,
        /// Events of the epoch that the server has stored.
        stored: u64,
    },
    /// A batch reached a level.
    Acked {
        /// The device.
        device: DeviceName,
        /// The epoch.
        epoch: Epoch,
        /// The batch's sequences.
        range: Range<u64>,
        /// What the server made sure of.
        level: Level,
        /// The batch's digest, if [`Config::digests`](crate::Config::digests) asked for it.
        digest: Option<Digest>,
        /// Time since the batch was last sent; `None` when it never was, because the server had it already.
        latency: Option<Duration>,
    },
    /// The server refused a batch for good and recorded that it did; it is not sent again.
    Rejected {
        /// The device.
        device: DeviceName,
        /// The epoch.
        epoch: Epoch,
        /// The batch's sequences.
        range: Range<u64>,
        /// Why.
        code: Code,
        /// Why, for people.
        message: String,
    },
    /// The server refused a device (or, without one, the connection). It is tried again after a while, in case an
    /// operator enrols or grants.
    Refused {
        /// The device; `None` for the whole connection.
        device: Option<DeviceName>,
        /// Why.
        code: Code,
        /// Why, for people.
        message: String,
        /// When it is tried again.
        retry_after: Duration,
    },
    /// The full spool dropped a batch; the server will be told.
    Dropped {
        /// The device.
        device: DeviceName,
        /// The epoch.
        epoch: Epoch,
        /// The batch's sequences.
        range: Range<u64>,
    },
    /// The identity has a new certificate for its name and key, used from the next connection on.
    Renewed {
        /// What is to be kept in the place of the old one, as PEM.
        certificate: String,
        /// Whether it has been kept, in the directory that the identity was loaded from.
        stored: bool,
    },
    /// The certificate is about to expire and was not renewed. It is tried again.
    NotRenewed {
        /// Why, for people.
        reason: String,
    },
    /// The subscriber was slower than its buffer allowed, and this many events before the next one are missing here.
    Missed {
        /// How many.
        events: u64,
    },
}

impl Event {
    /// The device that the event is about; `None` when it is about the connection.
    #[must_use]
    pub fn device(&self) -> Option<&DeviceName> {
        match self {
            Self::Attached { device, .. }
            | Self::Acked { device, .. }
            | Self::Rejected { device, .. }
            | Self::Dropped { device, .. } => Some(device),
            Self::Refused { device, .. } => device.as_ref(),
            Self::Connected { .. }
            | Self::Disconnected { .. }
            | Self::Renewed { .. }
            | Self::NotRenewed { .. }
            | Self::Missed { .. } => None,
        }
    }
}

/// Why there is no connection. The variants differ in what a person would do about them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disconnect {
    /// The server's address cannot be used or resolved.
    #[error("cannot resolve the server's address {server}: {reason}")]
    Unresolved {
        /// The address as configured.
        server: String,
        /// What the resolver said.
        reason: String,
    },
    /// Nothing answers at the address.
    #[error("no answer from {server}: is the server running and reachable over UDP?")]
    Unreachable {
        /// The address as configured.
        server: String,
    },
    /// The server's certificate is not from the CA that the identity trusts, or not for this name.
    #[error(
        "the server's certificate is not trusted: {reason}; the identity was made for another server or CA"
    )]
    ServerNotTrusted {
        /// What TLS said.
        reason: String,
    },
    /// The server did not accept this identity's certificate.
    #[error("the server does not accept this certificate: {reason}")]
    CertificateRefused {
        /// What TLS said.
        reason: String,
    },
    /// The server knows who this is and refuses the connection.
    #[error("refused by the server ({}): {message}", code.name())]
    Refused {
        /// Why.
        code: Code,
        /// Why, for people.
        message: String,
    },
    /// A connection that had worked fell silent.
    #[error("the connection fell silent")]
    Silent,
    /// Nothing was left to send, and the connection is made only [on demand](crate::Config::on_demand). No fault.
    #[error("nothing is left to send")]
    Idle,
    /// The server is going away, by its own word.
    #[error("the server is stopping: {message}")]
    GoAway {
        /// Why, for people.
        message: String,
    },
    /// The connection ended in another way.
    #[error("the connection was lost: {reason}")]
    Lost {
        /// What QUIC said.
        reason: String,
    },
    /// The server said something that this SDK does not understand.
    #[error("the server broke the protocol: {reason}")]
    Protocol {
        /// What it was.
        reason: String,
    },
}

/// What is not yet where it should be when a deadline has passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Pending {
    /// Batches that have not reached the level.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
    /// The last thing that went wrong, if anything did.
    pub last_error: Option<String>,
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events in {} batches are still pending", self.events, self.batches)?;
        match &self.last_error {
            Some(error) => write!(f, "; last error: {error}"),
            None => Ok(()),
        }
    }
}
