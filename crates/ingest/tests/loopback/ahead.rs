//! Batches that arrive ahead of their `Attach`.

use icecore_ingest::Role;
use icecore_wire::{ClientEvent, Code, SequenceRanges};

use crate::client::{Client, batch, schema};
use crate::server::Server;

#[tokio::test]
async fn a_batch_waits_for_its_attach() {
    let server = Server::start();
    let pump = server.enrol(Role::Device, "pump", &[]);
    let mut client = Client::connect(&server, &pump).await;
    let alias = client.prepare_attach("pump", 1);
    client.send(alias, &schema(), &batch(0, 10, 0)).await;
    assert!(client.hears_nothing().await, "the attach was not sent");
    client.say().await;
    let ClientEvent::Attached(attached) = client.event().await else { panic!("expected Attached") };
    assert_eq!((attached.alias, attached.stored), (alias, SequenceRanges::new()));
    client.acked(alias, 0..10).await;
    assert_eq!(server.stored(), [("pump".to_owned(), 0, 10)]);
}

#[tokio::test]
async fn batches_of_a_refused_alias_are_ignored() {
    let server = Server::start();
    let gateway = server.enrol(Role::Gateway, "gw", &["hall/*"]);
    let mut client = Client::connect(&server, &gateway).await;
    let refused = client.prepare_attach("yard/pump", 1);
    client.send(refused, &schema(), &batch(0, 10, 0)).await;
    client.say().await;
    let ClientEvent::Refused(refuse) = client.event().await else { panic!("expected a refusal") };
    assert_eq!((refuse.alias, refuse.code), (Some(refused), Code::NotGranted));
    let good = client.attach("hall/pump", 1).await.alias;
    client.send(good, &schema(), &batch(0, 10, 0)).await;
    client.acked(good, 0..10).await;
    assert_eq!(server.stored(), [("hall/pump".to_owned(), 0, 10)]);
}
