//! How a device or gateway connects, cuts batches and behaves when its spool is full.

use std::sync::Arc;
use std::time::Duration;

use icecore_wire::{EncodeOptions, Level};

use crate::clock::{BootClock, Clock};
use crate::identity::Identity;

/// What a device or gateway needs to know before it starts. Made with [`Config::new`], changed by its methods.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) server: String,
    pub(crate) identity: Identity,
    pub(crate) batch: BatchPolicy,
    pub(crate) when_full: WhenFull,
    pub(crate) window: usize,
    pub(crate) compression: Compression,
    pub(crate) sync_every: Duration,
    pub(crate) keep_until: Level,
    pub(crate) clock: Clock,
    pub(crate) boot_clock: Option<Arc<dyn BootClock>>,
    pub(crate) backoff: Backoff,
    pub(crate) endpoint: Option<quinn::Endpoint>,
    pub(crate) digests: bool,
    pub(crate) on_demand: Option<Duration>,
}

impl Config {
    /// Bytes of batches in flight by default: sent and not yet acked.
    ///
    /// At 100 MB/s this covers 10 ms, a round trip and a group commit on a short path; what a fast server has not
    /// committed yet waits in the spool rather than in its queues. On a path of 100 ms it allows 10 MB/s.
    pub const DEFAULT_WINDOW: usize = 1 << 20;

    /// The defaults for `identity` against the server at `server` (`host:port`).
    #[must_use]
    pub fn new(server: impl Into<String>, identity: Identity) -> Self {
        Self {
            server: server.into(),
            identity,
            batch: BatchPolicy::default(),
            when_full: WhenFull::Wait,
            window: Self::DEFAULT_WINDOW,
            compression: Compression::Auto,
            sync_every: Duration::ZERO,
            keep_until: Level::Durable,
            clock: Clock::System,
            boot_clock: None,
            backoff: Backoff::default(),
            endpoint: None,
            digests: false,
            on_demand: None,
        }
    }

    /// When a batch is cut.
    #[must_use]
    pub fn batch(self, batch: BatchPolicy) -> Self {
        Self { batch, ..self }
    }

    /// What recording does while the spool is full.
    #[must_use]
    pub fn when_full(self, when_full: WhenFull) -> Self {
        Self { when_full, ..self }
    }

    /// Bytes of batches that may be sent ahead of their acks on the connection. The bound is soft by one batch.
    #[must_use]
    pub fn window(self, window: usize) -> Self {
        Self { window, ..self }
    }

    /// How number columns are compressed; by default [where it pays](Compression::Auto).
    #[must_use]
    pub fn compression(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// How often a spool on disk is written to at most. By default as soon as the disk is free.
    ///
    /// A longer interval writes batches together, which wears flash less ([`Stats`](crate::Stats) counts what is
    /// written) and lets it sleep. Batches are sent only after their fsync, so it is also by how much acks are late; and a
    /// power cut loses what was recorded since the last fsync, up to this long. A flush and a close do not wait for it, and
    /// neither does more than a quarter of what may wait: 512 KiB, or less in a spool of less than 2 MiB.
    #[must_use]
    pub fn sync_every(self, sync_every: Duration) -> Self {
        Self { sync_every, ..self }
    }

    /// How long the spool keeps batches: until they are [durable](Level::Durable), the default, or until they are in object
    /// storage ([`Level::Archived`]), so that a server which loses its disk is sent them again.
    ///
    /// What is only kept takes no room from anything new: when the spool is full it goes first, oldest first (on disk, file
    /// by file). The server has it, so it is not reported as dropped.
    #[must_use]
    pub fn keep_until(self, keep_until: Level) -> Self {
        Self { keep_until, ..self }
    }

    /// Whether the system's clock is right, as it is by default.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Measures boots and uptimes by this instead of what Linux says.
    #[must_use]
    pub fn boot_clock(self, boot_clock: Arc<dyn BootClock>) -> Self {
        Self { boot_clock: Some(boot_clock), ..self }
    }

    /// Waiting times between attempts to connect.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Uses this endpoint's socket instead of one of the connection's own.
    ///
    /// One socket per connection is the default: it behaves like separate devices do, and a connection's traffic has a
    /// kernel buffer to itself. A process with hundreds of connections on one runtime saves file descriptors and
    /// receive loops by sharing one from [`transport::endpoint`](crate::transport::endpoint).
    #[must_use]
    pub fn endpoint(self, endpoint: quinn::Endpoint) -> Self {
        Self { endpoint: Some(endpoint), ..self }
    }

    /// Connects only when there is something to send, and closes the connection when everything is acked and nothing
    /// new has come for `linger`: for devices that sleep. Nothing is sent in between to keep the connection.
    ///
    /// After the first connection, the next ones resume its TLS session where the server allows it: the first packets
    /// carry batches already. What that needs is kept in memory and ends with the process. A device that wants to sleep
    /// waits for [`Device::flush`](crate::Device::flush) to [`Level::Durable`].
    #[must_use]
    pub fn on_demand(self, linger: Duration) -> Self {
        Self { on_demand: Some(linger), ..self }
    }

    /// Reports each batch's digest with its ack ([`Event::Acked`](crate::Event::Acked)): one BLAKE3 pass over it.
    #[must_use]
    pub fn digests(self, digests: bool) -> Self {
        Self { digests, ..self }
    }
}

/// Whether number columns are compressed (with pco), which trades CPU for bytes in the spool and on the wire.
///
/// The code for it is there with the crate's feature `compression`, on by default; without it every column stays plain,
/// whatever is asked for.
///
/// What it costs, for three fields and a time on one core of a small server: plain, an event takes 33 bytes and next to
/// no time; compressed, 5.5 bytes at 100 events a batch and 3.5 at 1,000, for about 1 µs an event at 100 a batch
/// and 0.25 to 0.4 µs at 1,000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// Each column for which it pays. Batches of fewer than 16 events stay plain, and so does a column that would not
    /// get smaller by an eighth; it is then left alone for the recorder's next 64 batches.
    #[default]
    Auto,
    /// Never: for devices that are poor in CPU.
    Off,
    /// Every column that gets smaller at all, at this level of pco's: 0 is the fastest, 12 the smallest and the most, 8 what
    /// [`Compression::Auto`] uses.
    Level(u8),
}

impl Compression {
    /// The level of [`Compression::Auto`]: above it, pco spends much more time for next to nothing.
    const AUTO_LEVEL: u8 = 8;

    pub(crate) fn options(self) -> EncodeOptions {
        let (pco, only_where_it_pays) = match self {
            Self::Auto => (Some(Self::AUTO_LEVEL), true),
            Self::Off => (None, false),
            Self::Level(level) => (Some(level), false),
        };
        EncodeOptions { pco, only_where_it_pays, ..EncodeOptions::PLAIN }
    }
}

/// When a batch is cut: as soon as one of these is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPolicy {
    /// Events in a batch; at most [`limits::MAX_ROWS`](icecore_wire::limits::MAX_ROWS).
    pub max_rows: usize,
    /// Estimated bytes of a batch before compression; at most half of
    /// [`limits::MAX_BATCH_BYTES`](icecore_wire::limits::MAX_BATCH_BYTES).
    pub max_bytes: usize,
    /// Time from a batch's first event until it is cut however small it is. `None`: only by size and by hand, so that
    /// the cut into batches depends on nothing but the events.
    pub max_age: Option<Duration>,
}

impl Default for BatchPolicy {
    /// 1,000 events (where compression gets most of what it can), 256 KiB, one second.
    fn default() -> Self {
        Self { max_rows: 1000, max_bytes: 256 << 10, max_age: Some(Duration::from_secs(1)) }
    }
}

/// What recording does while the spool is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Recording waits until acks free space: for sources that can wait, such as files.
    Wait,
    /// The oldest batches make way and are reported to the server as dropped: for sources that cannot wait. An epoch has room
    /// for a limited number of holes: on a link that has been too slow for long, others make way, and at last recording waits.
    DropOldest,
    /// Of the least important batches the oldest make way, by what [`Recorder::with_priority`](crate::Recorder::with_priority)
    /// said of them, and are reported as dropped; so is a batch less important than all that the spool holds, instead of
    /// being kept. On disk, where whole files are freed, all of one priority that lie in a file go together.
    ///
    /// Every run of dropped events between kept ones is a hole in the epoch's sequences, of which the server remembers a
    /// limited number for ever. Where another one would be the 257th of its epoch, the oldest batches go first, whatever
    /// their priority: what is important should be rare, or come in large batches.
    DropLeastImportant,
}

/// Exponential backoff with full jitter: the n-th wait is random between nothing and `min · 2ⁿ`, at most `max`; during
/// the first ten seconds of an outage, at most a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Default for Backoff {
    /// From 50 ms, so that a restarted server is found at once, to 15 s.
    fn default() -> Self {
        Self { min: Duration::from_millis(50), max: Duration::from_secs(15) }
    }
}
