//! Certificates that are renewed before they expire.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use icecore_device::{
    Backoff, BatchPolicy, ColumnType, Config, Device, Event, Events, Field, Identity, Level, Schema, Spool,
    Value,
};
use rcgen::KeyPair;

use crate::fake::FakeServer;

const PATIENCE: Duration = Duration::from_secs(20);
const URI: &str = "icecore:device:a";

/// A server in the year 2090, when a third of the certificate's life is nearly over.
fn late_server() -> FakeServer {
    let server = FakeServer::start();
    server.faults().server_time = 120 * 365 * 86_400 * 1_000_000_000;
    server
}

fn connect(server: &FakeServer, identity: Identity) -> Device {
    let batch = BatchPolicy { max_rows: 10, max_age: None, ..BatchPolicy::default() };
    let backoff = Backoff { min: Duration::from_millis(20), max: Duration::from_millis(200) };
    let config = Config::new(server.address.to_string(), identity).batch(batch).backoff(backoff);
    Device::connect(config, Spool::Memory { max_bytes: 1 << 20 }).unwrap()
}

async fn send(device: &Device, rows: std::ops::Range<i64>) {
    let schema = Schema::new("test", 1, vec![Field::new("n", ColumnType::I64)]).unwrap();
    let mut recorder = device.recorder(Arc::new(schema));
    for n in rows {
        recorder.row(n, &[Value::I64(n)]).await.unwrap();
    }
    device.flush(Level::Durable, PATIENCE).await.unwrap();
}

/// What became of the renewal: the new certificate and whether it was stored, or why not.
async fn outcome(events: &mut Events) -> Result<(String, bool), String> {
    let found = async {
        loop {
            match events.next().await.unwrap() {
                Event::Renewed { certificate, stored } => return Ok((certificate, stored)),
                Event::NotRenewed { reason } => return Err(reason),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap()
}

#[tokio::test]
async fn an_old_certificate_is_replaced_where_it_lies_and_used_from_the_next_connection_on() {
    let server = late_server();
    let dir = tempfile::tempdir().unwrap();
    let [ca, certificate, key] = server.authority().identity_pem(URI);
    for (name, content) in [("ca.pem", &ca), ("cert.pem", &certificate), ("key.pem", &key)] {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let new = server.authority().certificate(URI, &KeyPair::from_pem(&key).unwrap(), 2200);
    server.faults().renewal = Some(new.der().to_vec());
    let device = connect(&server, Identity::load(dir.path()).unwrap());
    let mut events = device.events(100);
    let (kept, stored) = outcome(&mut events).await.unwrap();
    assert!(stored);
    assert_eq!(kept.replace(['\r', '\n'], ""), new.pem().replace(['\r', '\n'], ""));
    assert_eq!(fs::read_to_string(dir.path().join("cert.pem")).unwrap(), kept);
    server.faults().drop_after = Some(1);
    send(&device, 0..10).await;
    device.close(PATIENCE).await.unwrap();
    let memory = server.memory();
    assert_eq!(memory.certificates.len(), 2);
    assert_eq!(memory.certificates[1], new.der().to_vec());
    // In 2090 a certificate from 2000 to 2200 is young.
    assert_eq!(memory.renewals, 1);
}

#[tokio::test]
async fn a_certificate_that_is_not_renewed_goes_on_and_is_not_asked_for_at_every_connection() {
    let server = late_server();
    let device = connect(&server, server.authority().identity(URI));
    let mut events = device.events(100);
    assert!(outcome(&mut events).await.unwrap_err().contains("revoked"));
    for round in 0..3 {
        server.faults().drop_after = Some(1);
        send(&device, round * 10..round * 10 + 10).await;
    }
    device.close(PATIENCE).await.unwrap();
    assert_eq!(server.memory().renewals, 1);
}

#[tokio::test]
async fn a_certificate_for_another_key_is_not_taken() {
    let server = late_server();
    let other = server.authority().certificate(URI, &KeyPair::generate().unwrap(), 2200);
    server.faults().renewal = Some(other.der().to_vec());
    let device = connect(&server, server.authority().identity(URI));
    assert!(outcome(&mut device.events(100)).await.unwrap_err().contains("another key"));
    send(&device, 0..10).await;
    device.close(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_young_certificate_is_left_alone() {
    let server = FakeServer::start();
    server.faults().server_time = 60 * 365 * 86_400 * 1_000_000_000;
    let device = connect(&server, server.authority().identity(URI));
    send(&device, 0..10).await;
    device.close(PATIENCE).await.unwrap();
    assert_eq!(server.memory().renewals, 0);
}
