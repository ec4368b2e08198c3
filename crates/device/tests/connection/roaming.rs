//! Devices whose address changes, by themselves or by a NAT on the way.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use icecore_device::{BatchPolicy, ColumnType, Config, Device, Field, Level, Recorder, Schema, Spool, Value};
use tokio::net::UdpSocket;

use crate::fake::FakeServer;

const PATIENCE: Duration = Duration::from_secs(20);

/// A NAT for one device.
struct Nat {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// To be another port from here on.
    rebind: bool,
    /// Ports of the device that nothing comes through from any more.
    dead: HashSet<u16>,
    device: Option<SocketAddr>,
}

impl Nat {
    async fn before(server: SocketAddr) -> Self {
        let inside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, state) = (inside.local_addr().unwrap(), Arc::<Mutex<State>>::default());
        tokio::spawn(forward(inside, server, Arc::clone(&state)));
        Self { address, state }
    }

    /// Forgets the device, and remembers it under another port.
    fn rebind(&self) {
        self.state.lock().unwrap().rebind = true;
    }

    /// Lets nothing through any more from where the device is now.
    fn cut_off(&self) {
        let mut state = self.state.lock().unwrap();
        let port = state.device.unwrap().port();
        state.dead.insert(port);
    }
}

async fn forward(inside: UdpSocket, server: SocketAddr, state: Arc<Mutex<State>>) {
    let mut outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            received = inside.recv_from(&mut up) => {
                let (length, from) = received.unwrap();
                let rebind = {
                    let mut state = state.lock().unwrap();
                    if state.dead.contains(&from.port()) {
                        continue;
                    }
                    state.device = Some(from);
                    std::mem::take(&mut state.rebind)
                };
                if rebind {
                    outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                }
                outside.send_to(&up[..length], server).await.unwrap();
            }
            received = outside.recv_from(&mut down) => {
                let Ok((length, _)) = received else { continue };
                let device = state.lock().unwrap().device.unwrap();
                if !state.lock().unwrap().dead.contains(&device.port()) {
                    inside.send_to(&down[..length], device).await.unwrap();
                }
            }
        }
    }
}

async fn behind(nat: &Nat, server: &FakeServer) -> (Device, Recorder) {
    let batch = BatchPolicy { max_rows: 10, max_age: None, ..BatchPolicy::default() };
    let identity = server.authority().identity("icecore:device:a");
    let config = Config::new(nat.address.to_string(), identity).batch(batch);
    let device = Device::connect(config, Spool::Memory { max_bytes: 1 << 20 }).unwrap();
    let schema = Schema::new("test", 1, vec![Field::new("n", ColumnType::I64)]).unwrap();
    let mut recorder = device.recorder(Arc::new(schema));
    send(&device, &mut recorder, 0..100).await;
    (device, recorder)
}

async fn send(device: &Device, recorder: &mut Recorder, rows: std::ops::Range<i64>) {
    for n in rows {
        recorder.row(n, &[Value::I64(n)]).await.unwrap();
    }
    device.flush(Level::Durable, PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_nat_that_takes_another_port_is_not_noticed() {
    let server = FakeServer::start();
    let nat = Nat::before(server.address).await;
    let (device, mut recorder) = behind(&nat, &server).await;
    for n in 1..5 {
        nat.rebind();
        send(&device, &mut recorder, n * 100..n * 100 + 100).await;
    }
    let stats = device.stats();
    assert_eq!((stats.connections, stats.batches_resent), (1, 0));
    assert_eq!(server.stored("a"), [(0..500).into()]);
}

#[tokio::test]
async fn a_connection_that_is_cut_off_goes_on_from_another_port() {
    let server = FakeServer::start();
    let nat = Nat::before(server.address).await;
    let (device, mut recorder) = behind(&nat, &server).await;
    nat.cut_off();
    send(&device, &mut recorder, 100..200).await;
    let stats = device.stats();
    assert_eq!((stats.connections, stats.batches_resent), (1, 0));
    assert!(stats.moves > 0);
    assert_eq!(server.stored("a"), [(0..200).into()]);
}
