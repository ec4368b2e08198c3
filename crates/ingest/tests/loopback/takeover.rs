//! Two sessions that want to speak for one device.

use std::time::Duration;

use icecore_ingest::Role;
use icecore_wire::{ClientEvent, Code};

use crate::client::{Client, batch, config, dial, schema};
use crate::relay::Relay;
use crate::server::Server;

/// Expects that the device is lost; returns why, and for how long.
async fn loses(client: &mut Client) -> (u32, Code, Duration) {
    let ClientEvent::Refused(refuse) = client.event().await else { panic!("expected a refusal") };
    (refuse.alias.unwrap(), refuse.code, refuse.retry_after.unwrap())
}

#[tokio::test]
async fn the_newer_session_wins_and_the_older_one_is_heard_no_more() {
    let server = Server::start();
    let pump = server.enrol(Role::Device, "pump", &[]);
    let gateway = server.enrol(Role::Gateway, "gw", &["*"]);
    let mut older = Client::connect(&server, &gateway).await;
    let (lost, kept) = (older.attach("pump", 1).await.alias, older.attach("fan", 1).await.alias);
    older.send(lost, &schema(), &batch(0, 10, 0)).await;
    older.acked(lost, 0..10).await;
    let mut newer = Client::connect(&server, &pump).await;
    let attached = newer.attach("pump", 1).await;
    assert!(attached.stored.covers(&(0..10)));
    assert_eq!(loses(&mut older).await, (lost, Code::TakenOver, Duration::from_secs(1)));
    older.send(lost, &schema(), &batch(10, 10, 1)).await;
    older.send(kept, &schema(), &batch(0, 10, 0)).await;
    older.acked(kept, 0..10).await;
    newer.send(attached.alias, &schema(), &batch(10, 10, 0)).await;
    newer.acked(attached.alias, 10..20).await;
    let expected = [("pump", 0), ("fan", 0), ("pump", 10)].map(|(name, first)| (name.to_owned(), first, 10));
    assert_eq!(server.stored(), expected);
}

#[tokio::test]
async fn taking_over_again_and_again_is_a_conflict() {
    let mut server = Server::start();
    let pump = server.enrol(Role::Device, "pump", &[]);
    let (mut a, mut b) = (Client::connect(&server, &pump).await, Client::connect(&server, &pump).await);
    a.attach("pump", 1).await;
    for (code, seconds) in
        [(Code::TakenOver, 1), (Code::TakenOver, 2), (Code::TakenOver, 4), (Code::IdentityConflict, 60)]
    {
        b.attach("pump", 1).await;
        let (_, found, retry_after) = loses(&mut a).await;
        assert_eq!((found, retry_after), (code, Duration::from_secs(seconds)));
        std::mem::swap(&mut a, &mut b);
    }
    assert_eq!(server.counts.total("icecore_takeovers_total"), 4);
    assert_eq!(server.counts.total("icecore_identity_conflicts_total"), 1);
    server.stop().await.unwrap();
    let found = icecore_ingest::conflicts(&server.data(), "pump").unwrap();
    assert_eq!((found.len(), found[0].code.as_str(), found[0].count), (1, "identity_conflict", 1));
}

#[tokio::test]
async fn a_device_that_comes_back_from_dead_connections_is_in_no_conflict() {
    let server = Server::start();
    let config = config(&server.authority, &server.enrol(Role::Device, "pump", &[]));
    let mut dead = Vec::new();
    for _ in 0..6 {
        let relay = Relay::start(server.address, true).await;
        let (endpoint, connecting) = dial(&config, relay.address);
        let mut client = Client::over(endpoint, connecting.await.unwrap()).await;
        client.attach("pump", 1).await;
        // The path goes with the relay: nothing is heard of the connection again, not even that it has ended.
        dead.push(client);
    }
    assert_eq!(server.counts.total("icecore_takeovers_total"), 5);
    assert_eq!(server.counts.total("icecore_identity_conflicts_total"), 0);
}

#[tokio::test]
async fn a_device_that_was_let_go_of_is_not_taken_over() {
    let server = Server::start();
    let pump = server.enrol(Role::Device, "pump", &[]);
    let mut first = Client::connect(&server, &pump).await;
    let alias = first.attach("pump", 1).await.alias;
    first.detach(alias).await;
    // Whoever hears the answer to this knows that the detach was heard.
    let alias = first.attach("pump", 2).await.alias;
    first.detach(alias).await;
    // In one breath: it is still to be handed to the writer.
    let alias = first.prepare_attach("pump", 3);
    first.detach(alias).await;
    let again = first.ask_attach("stranger", 1).await;
    assert!(matches!(first.event().await, ClientEvent::Refused(refuse) if refuse.alias == Some(again)));
    Client::connect(&server, &pump).await.attach("pump", 1).await;
    assert!(first.hears_nothing().await);
    assert_eq!(server.counts.total("icecore_takeovers_total"), 0);
}
