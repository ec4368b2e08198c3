//! A network with a trouble, and a crash in the middle of it, again and again.

use std::env;
use std::time::Duration;

use icecore_device::{Identity, Spool};
use icecore_load::network::{Conditions, Network, Path};
use icecore_load::promises::Acked;
use icecore_load::pumps::{self, Pumps};
use icecore_load::server::TestServer;

/// Acks that are awaited where something is to be under way.
pub(crate) const SOME: usize = 20;
/// Pumps behind the gateway.
const PUMPS: usize = 4;
/// Bytes of a pump's spool: an outage's worth.
const SPOOL_BYTES: usize = 16 << 20;
/// Every client is a little away.
pub(crate) const NEAR: Conditions = Conditions {
    loss: 0.0,
    duplication: 0.0,
    corruption: 0.0,
    reordering: 0.0,
    held: Duration::ZERO,
    delay: Duration::from_millis(2),
    jitter: Duration::from_millis(1),
    bottleneck: None,
};

/// Who crashes in the middle of the trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    Nobody,
    Server,
    Device,
}

/// A trouble: how it begins, and what happens on until it ends. The network is well again after it.
pub(crate) struct Trouble {
    pub(crate) begin: fn(&Path),
    pub(crate) endure: fn(&Path, &Pumps),
}

/// How often the trouble comes: `ICECORE_NETWORK_ROUNDS`, or once.
fn rounds() -> u64 {
    env::var("ICECORE_NETWORK_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap())
}

pub(crate) fn run(crash: Crash, trouble: &Trouble) {
    let mut server = TestServer::start(None).unwrap();
    let identity = Identity::load(server.enroll_gateway("station", "pump/*").unwrap()).unwrap();
    let network = Network::start(rounds()).unwrap();
    let path = network.path(server.address()).unwrap();
    let config = pumps::config(path.address().to_string(), identity);
    let spools = (0..PUMPS).map(|number| spool(crash, &server, number)).collect::<Vec<_>>();
    let acked = Acked::default();
    let start = || Pumps::start(config.clone(), spools.clone(), &acked).unwrap();

    let mut recorded = 0;
    let mut running = start();
    for _ in 0..rounds() {
        path.set(NEAR);
        running.wait_for_acks(SOME).unwrap();
        (trouble.begin)(&path);
        match crash {
            Crash::Nobody => {}
            Crash::Server => {
                server.kill().unwrap();
                server.restart().unwrap();
            }
            Crash::Device => {
                recorded += running.crash().unwrap();
                running = start();
            }
        }
        (trouble.endure)(&path, &running);
        path.restore();
    }
    path.set(NEAR);
    running.wait_for_acks(SOME).unwrap();
    recorded += running.finish().unwrap();
    if crash == Crash::Device {
        // It would wait for the last words of a session whose device is gone.
        server.kill().unwrap();
    } else {
        server.stop().unwrap();
    }
    let stored = acked.check(&server.path("data")).unwrap();
    println!("{recorded} events were recorded, {} acked, {} are stored", acked.events(), stored.events);
    if crash == Crash::Device {
        // A crash may come ahead of the spool's fsync, and between an ack and its note. What the spool had was sent:
        // the last pumps have finished, and no epoch has a hole.
        assert!(stored.events >= acked.events());
    } else {
        assert_eq!((recorded, recorded), (stored.events, acked.events()));
    }
}

/// A device that does not crash keeps its batches in memory.
fn spool(crash: Crash, server: &TestServer, number: usize) -> Spool {
    match crash {
        Crash::Device => {
            let dir = server.path(&format!("spool-{number}"));
            Spool::Disk { dir, max_bytes: SPOOL_BYTES as u64 }
        }
        Crash::Nobody | Crash::Server => Spool::Memory { max_bytes: SPOOL_BYTES },
    }
}
