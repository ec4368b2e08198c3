//! The network: connections of ordered byte streams, as QUIC gives them, over paths that QUIC cannot mend.
//!
//! Within a stream bytes come in order; streams overtake each other. A connection may die with any part of its bytes
//! on the way lost, one end may learn of it long before the other, and the beginning of a connection may arrive a
//! second time, as replayed 0-RTT data do.

use std::collections::BTreeMap;

use fastrand::Rng;
use icecore_wire::Digest;

use crate::fault::Fault;

/// One millisecond of simulated time.
pub(crate) const MS: u64 = 1000;

/// Chunks of a connection's beginning that can be replayed.
const REPLAYABLE: usize = 12;

pub(crate) type ConnectionId = u64;

/// A stream from client to server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stream {
    Control,
    Batches(u8),
}

/// What happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    /// A device cuts a batch.
    Cut { device: usize },
    /// A device tries to connect.
    Connect { device: usize },
    /// A device sends what has become due.
    Send { device: usize },
    /// Bytes reach the server.
    ToServer { connection: ConnectionId, stream: Stream, bytes: Vec<u8> },
    /// Bytes reach a client.
    ToClient { connection: ConnectionId, bytes: Vec<u8> },
    /// A client learns that its connection is gone.
    ClientLost { connection: ConnectionId },
    /// The server learns that a connection is gone.
    ServerLost { connection: ConnectionId },
    /// The server's writer looks at its queue. `boot` tells whether it is still the same process.
    Write { boot: u64 },
    /// The disk has had the time that a block takes.
    Commit { boot: u64 },
    /// The server has been idle for a while.
    Idle { boot: u64 },
    /// The server's process starts.
    Start,
    /// The disk has space again.
    SpaceReturns,
    /// Something goes wrong.
    Fault(Fault),
    /// Nothing goes wrong from now on.
    Peace,
}

#[derive(Debug)]
struct Connection {
    /// Who opened it; `None` for a replay, whose answers nobody hears.
    client: Option<usize>,
    /// Whether nothing gets through any more.
    severed: bool,
    /// When the last chunk of each stream arrives: the next one comes later.
    arrivals: BTreeMap<Stream, u64>,
    answers_arrive: u64,
    beginning: Vec<(Stream, Vec<u8>)>,
}

/// The paths, and what is on its way, on one clock.
#[derive(Debug)]
pub(crate) struct Network {
    /// Microseconds since the history began.
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) trace: String,
    /// The longest a chunk takes, in microseconds.
    max_delay: u64,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    connections: BTreeMap<ConnectionId, Connection>,
    opened: ConnectionId,
}

impl Network {
    pub(crate) fn new(mut rng: Rng) -> Self {
        let max_delay = rng.u64(1..=40) * MS;
        Self {
            now: 0,
            rng,
            trace: String::new(),
            max_delay,
            events: BTreeMap::new(),
            scheduled: 0,
            connections: BTreeMap::new(),
            opened: 0,
        }
    }

    /// Lets something happen `delay` microseconds from now.
    pub(crate) fn schedule(&mut self, delay: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((self.now + delay, self.scheduled), event);
    }

    /// Moves the clock to what happens next.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let ((time, _), event) = self.events.pop_first()?;
        self.now = time;
        Some(event)
    }

    /// Adds a line to the trace.
    pub(crate) fn note(&mut self, line: std::fmt::Arguments<'_>) {
        use std::fmt::Write as _;
        let (ms, us) = (self.now / MS, self.now % MS);
        writeln!(self.trace, "{ms:6}.{us:03} {line}").expect("strings take everything");
    }

    pub(crate) fn open(&mut self, client: Option<usize>) -> ConnectionId {
        self.opened += 1;
        let connection = Connection {
            client,
            severed: false,
            arrivals: BTreeMap::new(),
            answers_arrive: 0,
            beginning: Vec::new(),
        };
        self.connections.insert(self.opened, connection);
        self.opened
    }

    /// Who opened a connection, if anybody listens there.
    pub(crate) fn client(&self, connection: ConnectionId) -> Option<usize> {
        self.connections.get(&connection)?.client
    }

    /// Whether bytes on a connection get through.
    pub(crate) fn gets_through(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|connection| !connection.severed)
    }

    pub(crate) fn send_to_server(&mut self, connection: ConnectionId, stream: Stream, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        self.note(format_args!("{connection} {stream:?} -> {}", fingerprint(&bytes)));
        let Some(link) = self.connections.get_mut(&connection) else { return };
        if link.client.is_some() && link.beginning.len() < REPLAYABLE {
            link.beginning.push((stream, bytes.clone()));
        }
        let mut rest = bytes;
        loop {
            let tail =
                if self.rng.u8(..8) == 0 { rest.split_off(self.rng.usize(..rest.len())) } else { Vec::new() };
            self.send_chunk(connection, stream, rest);
            if tail.is_empty() {
                return;
            }
            rest = tail;
        }
    }

    fn send_chunk(&mut self, connection: ConnectionId, stream: Stream, bytes: Vec<u8>) {
        let delay = self.delay();
        let Some(link) = self.connections.get_mut(&connection) else { return };
        let last = link.arrivals.entry(stream).or_default();
        *last = (*last).max(self.now + delay);
        let delay = *last - self.now;
        self.schedule(delay, Event::ToServer { connection, stream, bytes });
    }

    pub(crate) fn send_to_client(&mut self, connection: ConnectionId, bytes: Vec<u8>) {
        self.note(format_args!("{connection} <- {}", fingerprint(&bytes)));
        let delay = self.delay();
        let Some(link) = self.connections.get_mut(&connection) else { return };
        link.answers_arrive = link.answers_arrive.max(self.now + delay);
        let delay = link.answers_arrive - self.now;
        self.schedule(delay, Event::ToClient { connection, bytes });
    }

    /// The client's end is gone at once: what it sent still arrives, and the server learns of it some time later.
    pub(crate) fn abandon(&mut self, connection: ConnectionId) {
        if let Some(link) = self.connections.get_mut(&connection) {
            link.client = None;
            let delay = self.delay() * 3;
            self.schedule(delay, Event::ServerLost { connection });
        }
    }

    /// Nothing gets through from now on; each end finds out by itself.
    pub(crate) fn sever(&mut self, connection: ConnectionId) {
        if let Some(link) = self.connections.get_mut(&connection) {
            link.severed = true;
            let (client, server) = (self.rng.u64(..400 * MS), self.rng.u64(..2000 * MS));
            self.schedule(client, Event::ClientLost { connection });
            self.schedule(server, Event::ServerLost { connection });
        }
    }

    /// The server's end is gone: what still arrives belongs to nothing.
    pub(crate) fn close(&mut self, connection: ConnectionId) {
        if let Some(link) = self.connections.get_mut(&connection) {
            link.severed = true;
        }
    }

    /// The server's process is gone, and with it its end of every connection.
    pub(crate) fn sever_all(&mut self) {
        let open: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, link)| !link.severed)
            .map(|(connection, _)| *connection)
            .collect();
        for connection in open {
            self.sever(connection);
        }
    }

    /// Sends the beginning of some earlier connection once more, as a new one.
    pub(crate) fn replay(&mut self) {
        let earlier: Vec<_> = self.connections.keys().copied().collect();
        let Some(original) = (!earlier.is_empty()).then(|| earlier[self.rng.usize(..earlier.len())]) else {
            return;
        };
        let beginning = self.connections[&original].beginning.clone();
        let replay = self.open(None);
        self.note(format_args!("{replay} replays {original}"));
        for (stream, bytes) in beginning {
            self.send_to_server(replay, stream, bytes);
        }
        self.schedule(500 * MS, Event::ServerLost { connection: replay });
    }

    /// Most chunks are quick; one in eight is late.
    fn delay(&mut self) -> u64 {
        let bound = if self.rng.u8(..8) == 0 { self.max_delay } else { 2 * MS };
        self.rng.u64(100..=bound.max(200))
    }
}

fn fingerprint(bytes: &[u8]) -> String {
    format!("{} bytes {}", bytes.len(), Digest::of(bytes))
}
