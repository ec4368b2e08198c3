//! Sessions that are resumed, with and without data in the first flight.

use std::time::{Duration, SystemTime};

use icecore_ingest::Role;
use icecore_wire::{ClientEvent, Code};
use quinn::ClientConfig;

use crate::client::{Client, batch, config, dial, schema};
use crate::relay::{Relay, replay};
use crate::server::Server;

/// Makes a connection of the ordinary kind; it brings a ticket for the next.
async fn visit(server: &Server, config: &ClientConfig) -> Client {
    let (endpoint, connecting) = dial(config, server.address);
    Client::over(endpoint, connecting.await.unwrap()).await
}

/// Sends a whole first flight, `Hello`, `Attach` of `pump` and a batch, ahead of the handshake.
async fn wake(config: &ClientConfig, address: std::net::SocketAddr, first: u64) -> (Client, u32) {
    let (endpoint, connecting) = dial(config, address);
    let (connection, _) = connecting.into_0rtt().expect("there is a ticket");
    let mut client = Client::silent(endpoint, connection).await;
    let alias = client.prepare_attach("pump", 1);
    client.say().await;
    client.send(alias, &schema(), &batch(first, 10, 0)).await;
    (client, alias)
}

#[tokio::test]
async fn full_resumed_and_early_handshakes_all_lead_to_acks() {
    let server = Server::start();
    let config = config(&server.authority, &server.enrol(Role::Device, "pump", &[]));
    visit(&server, &config).await.attach("pump", 1).await;
    visit(&server, &config).await.attach("pump", 1).await;
    let (mut client, alias) = wake(&config, server.address, 0).await;
    let ClientEvent::Attached(_) = client.event().await else { panic!("expected Attached") };
    client.acked(alias, 0..10).await;
    let kinds = ["full", "resumed", "0rtt"].map(|kind| server.counts.handshakes(kind));
    assert_eq!(kinds, [1, 1, 1]);
    assert_eq!(server.stored(), [("pump".to_owned(), 0, 10)]);
}

#[tokio::test]
async fn a_resumed_session_is_judged_like_any_other() {
    let server = Server::start();
    let until = SystemTime::now() + Duration::from_secs(2);
    let short = server.authority.client_until("icecore:device:pump", until);
    server.enrol_with(&short, Role::Device, "pump", &[]);
    let config = config(&server.authority, &short);
    let mut client = visit(&server, &config).await;
    client.attach("pump", 1).await;
    client.connection.closed().await;
    // A full handshake would fail: TLS looks at the certificate.
    let (endpoint, connecting) = dial(&config, server.address);
    let mut client = Client::silent(endpoint, connecting.await.unwrap()).await;
    client.say().await;
    let ClientEvent::Refused(refuse) = client.event().await else { panic!("expected a refusal") };
    assert_eq!((refuse.alias, refuse.code), (None, Code::Expired));
    assert_eq!(server.stored(), []);
}

#[tokio::test]
async fn a_first_flight_that_comes_again_stores_nothing_and_evicts_nobody() {
    let server = Server::start();
    let config = config(&server.authority, &server.enrol(Role::Device, "pump", &[]));
    visit(&server, &config).await.attach("pump", 1).await;
    let relay = Relay::start(server.address, true).await;
    let (mut client, alias) = wake(&config, relay.address, 0).await;
    let ClientEvent::Attached(_) = client.event().await else { panic!("expected Attached") };
    client.acked(alias, 0..10).await;
    assert_eq!(server.counts.handshakes("0rtt"), 1, "the recording holds early data");
    drop(client);
    let mut client = visit(&server, &config).await;
    let alias = client.attach("pump", 1).await.alias;
    replay(&relay.first_flight(), server.address).await;
    assert!(client.hears_nothing().await, "nobody has taken over");
    client.send(alias, &schema(), &batch(10, 10, 0)).await;
    client.acked(alias, 10..20).await;
    assert_eq!(server.counts.handshakes("0rtt"), 1);
    assert_eq!(server.stored(), [("pump".to_owned(), 0, 10), ("pump".to_owned(), 10, 10)]);
}

#[tokio::test]
async fn early_data_counts_for_nothing_until_the_client_has_proved_itself() {
    let server = Server::start();
    let config = config(&server.authority, &server.enrol(Role::Device, "pump", &[]));
    let mut client = visit(&server, &config).await;
    let alias = client.attach("pump", 1).await.alias;
    // The server gets a flight that is good and never sees its handshake completed, as if it were a recording.
    let relay = Relay::start(server.address, false).await;
    let (_recorded, _) = wake(&config, relay.address, 0).await;
    relay.answered().await;
    assert!(client.hears_nothing().await, "nobody has taken over");
    client.send(alias, &schema(), &batch(10, 10, 0)).await;
    client.acked(alias, 10..20).await;
    assert_eq!(server.stored(), [("pump".to_owned(), 10, 10)]);
}
