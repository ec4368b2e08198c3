//! A server that misbehaves on demand, and what a client needs for it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::client::{Client, Sdk};
use crate::fake::FakeServer;

/// A server, and identities that it accepts.
pub(crate) struct Bench {
    pub(crate) server: FakeServer,
    identities: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { server: FakeServer::start(), identities: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn identity(&self, role: &str, name: &str) -> PathBuf {
        let directory = self.identities.path().join(name);
        fs::create_dir(&directory).unwrap();
        let pem = self.server.authority().identity_pem(&format!("icecore:{role}:{name}"));
        for (file, text) in ["ca.pem", "cert.pem", "key.pem"].into_iter().zip(pem) {
            fs::write(directory.join(file), text).unwrap();
        }
        directory
    }

    /// A client that writes for the device `pump`, attached.
    pub(crate) fn pump(&self, sdk: Sdk) -> Client {
        let mut client = Client::connect(sdk, self.server.address, &self.identity("device", "pump"));
        client.attach("pump", None);
        client.wait("attached", |_| true);
        client
    }

    /// Time between the first two arrivals of the batch that starts at `first`.
    pub(crate) fn return_of(&self, first: u64) -> Duration {
        let memory = self.server.memory();
        let kept = memory.epochs.values().next().unwrap();
        let times: Vec<_> = kept.arrivals.iter().filter(|arrival| arrival.1 == first).collect();
        times[1].0 - times[0].0
    }
}
