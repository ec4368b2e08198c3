//! Where and when it happens: the server, the ways to it, the identities and the time.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use icecore_device::Identity;
use icecore_load::network::{Network, Path};
use icecore_load::server::TestServer;
use quinn::Endpoint;
use tokio::time::Instant;

use super::Options;
use super::kind::Kind;
use crate::crew::{self, Crew};
use crate::fleet::{self, Pace, events_per_batch};

/// The share of the time that passes until the fleet is up and buffers and caches are as full as they get.
const WARM_UP: f64 = 0.2;
/// Small, so that a run fills several: the server keeps the batch directory of the one that is being written in memory,
/// which of a single one would grow from the first batch to the last.
const SEGMENT: &str = "16MiB";

/// What all devices share.
pub(super) struct Scene {
    pub(super) server: TestServer,
    /// Devices of the common identity, by a whole network.
    pub(super) crew: Crew,
    pub(super) gateway: Identity,
    /// When the first batch is due.
    pub(super) begin: Instant,
    /// When the last one is.
    pub(super) end: Instant,
    pub(super) batch_every: Duration,
    devices: usize,
    identities: HashMap<usize, Identity>,
    sockets: Vec<Endpoint>,
    network: Network,
}

impl Scene {
    /// Starts a server and a network, and enrols the devices that have an identity of their own.
    pub(super) async fn set(options: &Options) -> Result<Self> {
        let server = TestServer::start_with(options.output.dir(), &[("LOG__SEGMENT", SEGMENT)])?;
        let address = server.address().to_string();
        let gateway = Identity::load(server.identity())?;
        let mut identities = HashMap::new();
        for number in (0..options.devices).filter(|&number| Kind::of(number).has_identity()) {
            identities.insert(number, Identity::load(server.enroll_device(&crew::name(number))?)?);
        }
        let rows = events_per_batch(options.rate, options.batch_every)?;
        let sockets = fleet::sockets(&address, options.devices).await?;
        let begin = Instant::now() + fleet::turn(options.devices);
        Ok(Self {
            crew: Crew::new(address, gateway.clone(), rows),
            server,
            gateway,
            begin,
            end: begin + Duration::from_secs(options.seconds),
            batch_every: options.batch_every,
            devices: options.devices,
            identities,
            sockets,
            network: Network::start(1)?,
        })
    }

    /// Ends it: the server is to be proved by what the crew was acked.
    pub(super) fn end(self) -> (TestServer, Crew) {
        (self.server, self.crew)
    }

    /// How many devices have an identity of their own.
    pub(super) fn own(&self) -> usize {
        self.identities.len()
    }

    /// The way of device `number` alone.
    pub(super) fn path(&self) -> Result<Path> {
        self.network.path(self.server.address()).context("cannot open a path through the network")
    }

    /// A crew of one: device `number` with its own identity, by `server`.
    pub(super) fn alone(&self, number: usize, server: impl Into<String>) -> Result<Crew> {
        let identity = self.identities.get(&number);
        let identity = identity.with_context(|| format!("device {number} was not enrolled"))?;
        Ok(self.crew.by(server, identity.clone()))
    }

    /// The socket of device `number`, which others share: to a process sockets cost more than to a fleet.
    pub(super) fn socket(&self, number: usize) -> Endpoint {
        self.sockets[number % self.sockets.len()].clone()
    }

    /// When device `number` cuts its batches.
    pub(super) fn pace(&self, number: usize, every: Duration) -> Pace {
        Pace::of(number, self.devices, self.begin, every, self.end - self.begin)
    }

    /// A moment, by the share of the time that has passed by then.
    pub(super) fn at(&self, share: f64) -> Instant {
        self.begin + (self.end - self.begin).mul_f64(share)
    }

    /// A number from 0 to 1 that spreads devices.
    pub(super) fn place(&self, number: usize) -> f64 {
        number as f64 / self.devices as f64
    }

    /// When figures begin to count.
    pub(super) fn warm(&self) -> Instant {
        self.at(WARM_UP)
    }
}
