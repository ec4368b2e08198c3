//! What a server that cannot keep up, or has no space, says and does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use icecore_ingest::{Health, Role};
use icecore_wire::{ClientEvent, Code, Nack, SequenceRanges};
use tokio::time::timeout;

use crate::client::{Client, batch, schema};
use crate::server::Server;

/// Events of a large batch, of close to a megabyte.
const LARGE: u64 = 60_000;

async fn nack(client: &mut Client) -> Nack {
    match client.event().await {
        ClientEvent::Nacked(nack) => nack,
        other => panic!("expected a nack, found {other:?}"),
    }
}

#[tokio::test]
async fn a_slow_disk_sends_batches_back_and_loses_nothing() {
    let server = Server::start();
    let pump = server.enrol(Role::Device, "pump", &[]);
    let mut client = Client::connect(&server, &pump).await;
    let alias = client.attach("pump", 1).await.alias;
    server.disk.hold_syncs();
    // More than a lane and the blocks in flight hold.
    let sent = 12;
    for n in 0..sent {
        client.send(alias, &schema(), &batch(n * LARGE, LARGE as usize, 0)).await;
    }
    let mut open = SequenceRanges::from(0..sent * LARGE);
    let first = nack(&mut client).await;
    assert_eq!((first.alias, first.code), (alias, Code::Overloaded));
    let retry_after = first.disposition.retry_after().unwrap();
    assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&retry_after), "{retry_after:?}");
    server.disk.release_syncs();
    let mut again = vec![first.range];
    while !open.is_empty() {
        for range in again.drain(..) {
            client.send(alias, &schema(), &batch(range.start, LARGE as usize, 0)).await;
        }
        match client.event().await {
            ClientEvent::Acked(ack) => open.remove_all(&ack.ranges),
            ClientEvent::Nacked(nack) => again.push(nack.range),
            other => panic!("unexpected {other:?}"),
        }
    }
    let mut stored: Vec<u64> = server.stored().into_iter().map(|(_, first, _)| first).collect();
    stored.sort_unstable();
    assert_eq!(stored, (0..sent).map(|n| n * LARGE).collect::<Vec<_>>());
}

#[tokio::test]
async fn ingestion_waits_for_a_full_disk_and_goes_on_by_itself() {
    let server = Server::start();
    let pump = server.enrol(Role::Device, "pump", &[]);
    let mut client = Client::connect(&server, &pump).await;
    let alias = client.attach("pump", 1).await.alias;
    server.disk.free.store(1_000, Ordering::Relaxed);
    client.send(alias, &schema(), &batch(0, 100, 0)).await;
    let health = server.health(|health| matches!(health, Health::DiskFull { .. })).await;
    assert!(format!("{health:?}").contains("1000 bytes are free"), "{health:?}");
    assert!(client.hears_nothing().await);
    client.send(alias, &schema(), &batch(100, 100, 0)).await;
    let nack = nack(&mut client).await;
    assert_eq!((nack.range, nack.code), (100..200, Code::DiskFull));
    assert_eq!(nack.disposition.retry_after(), Some(Duration::from_secs(1)));
    assert!(nack.message.contains("1000 bytes are free"), "{}", nack.message);
    server.disk.free.store(1 << 40, Ordering::Relaxed);
    client.acked(alias, 0..100).await;
    server.health(|health| *health == Health::Running).await;
    client.send(alias, &schema(), &batch(100, 100, 0)).await;
    client.acked(alias, 100..200).await;
    assert_eq!(server.stored(), [("pump".to_owned(), 0, 100), ("pump".to_owned(), 100, 100)]);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_nacks_is_not_read_either() {
    let server = Server::start();
    let pump = server.enrol(Role::Device, "pump", &[]);
    let mut client = Client::connect(&server, &pump).await;
    let alias = client.attach("pump", 1).await.alias;
    server.disk.free.store(1_000, Ordering::Relaxed);
    client.send(alias, &schema(), &batch(0, 1, 0)).await;
    server.health(|health| matches!(health, Health::DiskFull { .. })).await;
    // Each of them is sent back at once, until too much is unread.
    let mut sent = 1;
    let limit = 200_000;
    while sent < limit {
        let (schema, payload) = (schema(), batch(sent, 1, 0));
        let sending = client.send(alias, &schema, &payload);
        if timeout(Duration::from_secs(1), sending).await.is_err() {
            break;
        }
        sent += 1;
    }
    assert!((1_000..limit).contains(&sent), "stopped after {sent} batches");
}
