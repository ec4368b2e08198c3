//! A path between one client and the server that keeps what the client sent, and may swallow the answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Larger than any datagram of either side.
const DATAGRAM: usize = 2048;

/// A running relay; it ends when it is dropped.
pub(crate) struct Relay {
    /// Where the client sends to.
    pub(crate) address: SocketAddr,
    flight: Arc<Mutex<Vec<Vec<u8>>>>,
    answered: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts to relay to `server`; without `answers`, nothing comes back from there.
    pub(crate) async fn start(server: SocketAddr, answers: bool) -> Self {
        let (inner, outer) = (socket().await, socket().await);
        outer.connect(server).await.unwrap();
        let (flight, answered) = (Arc::<Mutex<Vec<Vec<u8>>>>::default(), Arc::<Notify>::default());
        let address = inner.local_addr().unwrap();
        let (kept, noted) = (Arc::clone(&flight), Arc::clone(&answered));
        let task = tokio::spawn(async move {
            let (mut there, mut back) = ([0; DATAGRAM], [0; DATAGRAM]);
            let (mut client, mut first) = (None, true);
            loop {
                tokio::select! {
                    received = inner.recv_from(&mut there) => {
                        let (length, from) = received.unwrap();
                        client = Some(from);
                        if first {
                            kept.lock().unwrap().push(there[..length].to_vec());
                        }
                        outer.send(&there[..length]).await.unwrap();
                    }
                    received = outer.recv(&mut back) => {
                        let length = received.unwrap();
                        first = false;
                        noted.notify_one();
                        if let (true, Some(client)) = (answers, client) {
                            inner.send_to(&back[..length], client).await.unwrap();
                        }
                    }
                }
            }
        });
        Self { address, flight, answered, task }
    }

    /// Waits until the server has answered something.
    pub(crate) async fn answered(&self) {
        self.answered.notified().await;
    }

    /// The datagrams that the client sent before the first answer.
    pub(crate) fn first_flight(&self) -> Vec<Vec<u8>> {
        self.flight.lock().unwrap().clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends a recorded flight to `server` from a new address, until it answers: as long as it remembers the recorded
/// connection, it takes the packets for late ones of that.
pub(crate) async fn replay(flight: &[Vec<u8>], server: SocketAddr) {
    let (socket, mut answer) = (socket().await, [0; DATAGRAM]);
    for _ in 0..200 {
        for datagram in flight {
            socket.send_to(datagram, server).await.unwrap();
        }
        if timeout(Duration::from_millis(50), socket.recv(&mut answer)).await.is_ok() {
            return;
        }
    }
    panic!("the server does not answer a recorded flight");
}

async fn socket() -> UdpSocket {
    UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap()
}
