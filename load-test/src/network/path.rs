//! One way to the server: its sockets, and the datagrams that are under way.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::conditions::{Conditions, Lane, Traffic};

/// The largest datagram that UDP carries.
const MAX_DATAGRAM: usize = 65_507;
/// Clients of a path; more are not heard.
const MAX_CLIENTS: usize = 4_096;
/// Payload bytes under way on a path; more are lost.
const MAX_UNDER_WAY: usize = 256 << 20;
/// Payload bytes that a capture keeps: its first ones.
const MAX_CAPTURED: usize = 64 << 20;
/// Kernel buffer of each socket, bytes: a fleet's burst.
const SOCKET_BUFFER: usize = 4 << 20;
/// Last bytes of the addresses 127.0.0.x that clients have towards the server.
const CLIENT_ADDRESSES: std::ops::Range<u8> = 2..250;
/// The same for whoever sends a capture again.
const REPLAYER_ADDRESS: u8 = 250;

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// A datagram as it was sent into a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Where it went.
    pub direction: Direction,
    /// The client's end.
    pub client: SocketAddr,
    /// The payload.
    pub payload: Vec<u8>,
}

/// One way to the server. Cheap to clone; all clones are the same path.
#[derive(Debug, Clone)]
pub struct Path(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Handle,
    server: SocketAddr,
    address: SocketAddr,
    /// Where the clients send to.
    front: UdpSocket,
    state: Mutex<State>,
    /// Something is due earlier than anything was.
    sooner: Notify,
}

#[derive(Debug)]
struct State {
    up: Lane,
    down: Lane,
    silence: Silence,
    clients: HashMap<SocketAddr, Client>,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    under_way_bytes: usize,
    /// Datagrams so far: those of the same instant keep their order.
    count: u64,
    capture: Option<Vec<Captured>>,
    captured_bytes: usize,
    next_address: u8,
}

/// Whether a path is a black hole.
#[derive(Debug, Clone, Copy)]
enum Silence {
    None,
    Until(Instant),
    Endless,
}

/// A client's other end, as the server sees it.
#[derive(Debug)]
struct Client {
    socket: Arc<UdpSocket>,
    listener: AbortHandle,
}

/// A datagram on its way, ordered by when it arrives.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    due: Instant,
    number: u64,
    up: bool,
    client: SocketAddr,
    payload: Vec<u8>,
}

impl Path {
    pub(super) fn open(runtime: &Handle, server: SocketAddr, seed: u64) -> io::Result<Self> {
        let front = bind(runtime, 1)?;
        let state = State {
            // Any two numbers would do: the lanes must not throw the same dice.
            up: Lane::new(seed.wrapping_mul(2)),
            down: Lane::new(seed.wrapping_mul(2).wrapping_add(1)),
            silence: Silence::None,
            clients: HashMap::new(),
            under_way: BinaryHeap::new(),
            under_way_bytes: 0,
            count: 0,
            capture: None,
            captured_bytes: 0,
            next_address: CLIENT_ADDRESSES.start,
        };
        let address = front.local_addr()?;
        let (state, sooner) = (Mutex::new(state), Notify::new());
        let path = Self(Arc::new(Inner { runtime: runtime.clone(), server, address, front, state, sooner }));
        runtime.spawn(hear_clients(Arc::clone(&path.0)));
        runtime.spawn(deliver(Arc::clone(&path.0)));
        Ok(path)
    }

    /// Where clients connect in place of the server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Sets the conditions of both directions.
    pub fn set(&self, conditions: Conditions) {
        let mut state = self.0.state();
        state.up.conditions = conditions;
        state.down.conditions = conditions;
    }

    /// Sets the conditions of one direction.
    pub fn set_one(&self, direction: Direction, conditions: Conditions) {
        self.0.state().lane(direction).conditions = conditions;
    }

    /// Makes the path a black hole for a time, or until [`Path::restore`].
    pub fn cut(&self, time: Option<Duration>) {
        self.0.state().silence = time.map_or(Silence::Endless, |time| Silence::Until(Instant::now() + time));
    }

    /// Ends a black hole.
    pub fn restore(&self) {
        self.0.state().silence = Silence::None;
    }

    /// Gives every client another port towards the server, as a NAT does that has forgotten it.
    ///
    /// # Errors
    /// When the system gives no socket. Clients that come after the one without are not moved.
    pub fn rebind(&self) -> io::Result<()> {
        self.move_clients(false)
    }

    /// Gives every client another address and port towards the server, as changing the network does.
    ///
    /// # Errors
    /// When the system gives no socket. Clients that come after the one without are not moved.
    pub fn roam(&self) -> io::Result<()> {
        self.move_clients(true)
    }

    fn move_clients(&self, to_other_address: bool) -> io::Result<()> {
        let mut state = self.0.state();
        let clients = state.clients.keys().copied().collect::<Vec<_>>();
        for client in clients {
            let old = state.clients[&client].socket.local_addr()?;
            let host = match old {
                SocketAddr::V4(old) if !to_other_address => old.ip().octets()[3],
                _ => state.next_address(),
            };
            let new = self.0.client(client, host)?;
            if let Some(old) = state.clients.insert(client, new) {
                old.listener.abort();
            }
        }
        Ok(())
    }

    /// What went through one direction so far.
    #[must_use]
    pub fn traffic(&self, direction: Direction) -> Traffic {
        self.0.state().lane(direction).traffic
    }

    /// Addresses that the clients have towards the server at present.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn client_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.0.state().clients.values().map(|client| client.socket.local_addr()).collect()
    }

    /// Keeps a copy of every datagram from now on, as many as there is room for.
    pub fn capture(&self) {
        let mut state = self.0.state();
        (state.capture, state.captured_bytes) = (Some(Vec::new()), 0);
    }

    /// Ends a capture and returns it.
    #[must_use]
    pub fn captured(&self) -> Vec<Captured> {
        self.0.state().capture.take().unwrap_or_default()
    }

    /// Sends what a capture has for the server once more, at once and from an address of its own, as an attacker who
    /// has listened might. What the server answers is lost.
    ///
    /// # Errors
    /// When the system gives no socket or does not send.
    pub fn replay(&self, capture: &[Captured]) -> io::Result<()> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::new(127, 0, 0, REPLAYER_ADDRESS), 0))?;
        for captured in capture.iter().filter(|captured| captured.direction == Direction::Up) {
            socket.send_to(&captured.payload, self.0.server)?;
        }
        Ok(())
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves counters and queues whole at each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new end towards the server on 127.0.0.`host` for `client`.
    fn client(self: &Arc<Self>, client: SocketAddr, host: u8) -> io::Result<Client> {
        let socket = Arc::new(bind(&self.runtime, host)?);
        let listener = self.runtime.spawn(hear_server(Arc::clone(self), Arc::clone(&socket), client));
        Ok(Client { socket, listener: listener.abort_handle() })
    }

    /// Takes a datagram in; it is delivered now, later, twice or never.
    fn carry(self: &Arc<Self>, direction: Direction, client: SocketAddr, payload: &mut [u8]) {
        let now = Instant::now();
        let mut state = self.state();
        if !state.clients.contains_key(&client) {
            if state.clients.len() >= MAX_CLIENTS {
                return;
            }
            let host = state.next_address();
            match self.client(client, host) {
                Ok(end) => state.clients.insert(client, end),
                Err(error) => return eprintln!("network: no socket for client {client}: {error}"),
            };
        }
        state.keep(direction, client, payload);
        let silent = state.is_silent(now);
        let soonest = state.under_way.peek().map(|Reverse(next)| next.due);
        for due in state.lane(direction).pass(now, payload, silent).into_iter().flatten() {
            if due <= now && soonest.is_none_or(|soonest| soonest > now) {
                self.send(&state, direction == Direction::Up, client, payload);
            } else {
                state.start(due, direction, client, payload);
            }
        }
        if state.under_way.peek().map(|Reverse(next)| next.due) != soonest {
            self.sooner.notify_one();
        }
    }

    /// Sends past tokio: an UDP socket on the loopback interface is always ready, and tokio would first have to learn it.
    fn send(&self, state: &State, up: bool, client: SocketAddr, payload: &[u8]) {
        let (socket, to) = match state.clients.get(&client) {
            Some(client) if up => (SockRef::from(&*client.socket), self.server),
            _ => (SockRef::from(&self.front), client),
        };
        // Nobody there, or a full buffer: a loss like others.
        let _ = socket.send_to(payload, &to.into());
    }

    /// Sends what is due; returns when the next is.
    fn send_due(&self) -> Option<Instant> {
        let mut state = self.state();
        loop {
            let due = state.under_way.peek()?.0.due;
            if due > Instant::now() {
                return Some(due);
            }
            let Reverse(next) = state.under_way.pop()?;
            state.under_way_bytes -= next.payload.len();
            self.send(&state, next.up, next.client, &next.payload);
        }
    }
}

impl State {
    fn lane(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }

    fn is_silent(&self, now: Instant) -> bool {
        match self.silence {
            Silence::None => false,
            Silence::Until(end) => now < end,
            Silence::Endless => true,
        }
    }

    fn next_address(&mut self) -> u8 {
        let address = self.next_address;
        let next = address + 1;
        self.next_address = if next < CLIENT_ADDRESSES.end { next } else { CLIENT_ADDRESSES.start };
        address
    }

    fn keep(&mut self, direction: Direction, client: SocketAddr, payload: &[u8]) {
        if let Some(capture) = &mut self.capture
            && self.captured_bytes + payload.len() <= MAX_CAPTURED
        {
            self.captured_bytes += payload.len();
            capture.push(Captured { direction, client, payload: payload.to_vec() });
        }
    }

    fn start(&mut self, due: Instant, direction: Direction, client: SocketAddr, payload: &[u8]) {
        if self.under_way_bytes + payload.len() > MAX_UNDER_WAY {
            return;
        }
        self.under_way_bytes += payload.len();
        self.count += 1;
        let (number, up, payload) = (self.count, direction == Direction::Up, payload.to_vec());
        self.under_way.push(Reverse(UnderWay { due, number, up, client, payload }));
    }
}

/// A socket on a free port of 127.0.0.`host`.
fn bind(runtime: &Handle, host: u8) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0))?;
    socket.set_nonblocking(true)?;
    // The kernel gives what it may.
    SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER)?;
    let _runtime = runtime.enter();
    UdpSocket::from_std(socket)
}

async fn hear_clients(path: Arc<Inner>) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    // An unconnected UDP socket does not fail for what others do.
    while let Ok((length, client)) = path.front.recv_from(&mut buffer).await {
        path.carry(Direction::Up, client, &mut buffer[..length]);
    }
}

async fn hear_server(path: Arc<Inner>, socket: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    while let Ok((length, sender)) = socket.recv_from(&mut buffer).await {
        if sender == path.server {
            path.carry(Direction::Down, client, &mut buffer[..length]);
        }
    }
}

/// Delivers what was delayed when it is due.
async fn deliver(path: Arc<Inner>) {
    loop {
        let sooner = path.sooner.notified();
        match path.send_due() {
            Some(due) => {
                let _ = tokio::time::timeout_at(due.into(), sooner).await;
            }
            None => sooner.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::UdpSocket as Socket;

    use super::super::Network;
    use super::*;

    /// A server and a client that the test speaks for.
    struct Ends {
        _network: Network,
        path: Path,
        server: Socket,
        client: Socket,
    }

    impl Ends {
        fn open() -> Self {
            let network = Network::start(1).unwrap();
            let [server, client] = [(); 2].map(|()| {
                let socket = Socket::bind("127.0.0.1:0").unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                socket
            });
            let path = network.path(server.local_addr().unwrap()).unwrap();
            Self { _network: network, path, server, client }
        }

        fn send(&self, text: &str) {
            self.client.send_to(text.as_bytes(), self.path.address()).unwrap();
        }

        fn heard(&self) -> (String, SocketAddr) {
            hear(&self.server)
        }
    }

    fn hear(socket: &Socket) -> (String, SocketAddr) {
        let mut buffer = [0; 100];
        let (length, sender) = socket.recv_from(&mut buffer).unwrap();
        (String::from_utf8(buffer[..length].to_vec()).unwrap(), sender)
    }

    #[test]
    fn a_path_goes_both_ways_and_is_counted() {
        let ends = Ends::open();
        ends.send("up");
        let (text, seen_as) = ends.heard();
        assert_eq!(text, "up");
        assert_ne!(seen_as, ends.client.local_addr().unwrap());
        ends.server.send_to(b"and down", seen_as).unwrap();
        assert_eq!(hear(&ends.client), ("and down".to_owned(), ends.path.address()));
        assert_eq!(ends.path.traffic(Direction::Up).delivered.payload_bytes, 2);
        assert_eq!(ends.path.traffic(Direction::Down).sent.payload_bytes, 8);
    }

    #[test]
    fn roaming_changes_address_and_port_and_rebinding_the_port() {
        let ends = Ends::open();
        let mut seen = Vec::new();
        for step in [Path::roam, Path::rebind, Path::roam] {
            ends.send("where am I");
            seen.push(ends.heard().1);
            step(&ends.path).unwrap();
        }
        let [first, roamed, rebound] = seen[..] else { unreachable!() };
        assert_ne!(first.ip(), roamed.ip());
        assert_eq!(roamed.ip(), rebound.ip());
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 3);
        // What is sent to where the client was does not reach it.
        ends.server.send_to(b"lost", first).unwrap();
        ends.send("here");
        ends.server.send_to(b"found", ends.heard().1).unwrap();
        assert_eq!(hear(&ends.client).0, "found");
    }

    #[test]
    fn a_black_hole_ends() {
        let ends = Ends::open();
        ends.path.cut(None);
        ends.send("lost");
        while ends.path.traffic(Direction::Up).sent.datagrams == 0 {
            std::thread::yield_now();
        }
        ends.path.restore();
        ends.send("heard");
        assert_eq!(ends.heard().0, "heard");
        ends.path.cut(Some(Duration::ZERO));
        ends.send("a black hole of no time");
        assert_eq!(ends.heard().0, "a black hole of no time");
    }

    #[test]
    fn delayed_datagrams_arrive_in_order_and_late() {
        let ends = Ends::open();
        let delay = Duration::from_millis(30);
        ends.path.set(Conditions { delay, ..Conditions::default() });
        let start = Instant::now();
        for text in ["one", "two", "three"] {
            ends.send(text);
        }
        assert_eq!([(); 3].map(|()| ends.heard().0), ["one", "two", "three"]);
        assert!(start.elapsed() >= delay);
    }

    #[test]
    fn conditions_are_set_by_direction() {
        let ends = Ends::open();
        ends.path.set_one(Direction::Down, Conditions { duplication: 1.0, ..Conditions::default() });
        ends.send("once");
        let (_, client) = ends.heard();
        ends.server.send_to(b"twice", client).unwrap();
        assert_eq!([(); 2].map(|()| hear(&ends.client).0), ["twice", "twice"]);
    }

    #[test]
    fn a_capture_is_sent_again_from_elsewhere() {
        let ends = Ends::open();
        ends.path.capture();
        ends.send("secret");
        let (_, client) = ends.heard();
        let capture = ends.path.captured();
        assert_eq!(capture.len(), 1);
        ends.path.replay(&capture).unwrap();
        let (text, attacker) = ends.heard();
        assert_eq!(text, "secret");
        assert_ne!(attacker.ip(), client.ip());
    }
}
