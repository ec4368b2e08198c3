//! The whole way in, over a loopback: certificates, sessions, queue, log, acks.
#![expect(clippy::unwrap_used, reason = "fixtures of tests fail by panicking, like tests")]

mod ahead;
mod backlog;
mod client;
mod compact;
mod counts;
mod holes;
mod neighbours;
mod pressure;
mod rates;
mod relay;
mod renewal;
mod resumption;
mod revocation;
mod server;
mod state;
mod takeover;

use std::sync::atomic::Ordering;
use std::time::Duration;

use client::{Client, batch, connect, schema};
use icecore_ingest::{Health, Role};
use icecore_wire::{ClientEvent, Code, Disposition, Level, Payload, SequenceRanges};
use server::{Authority, Server};
use tokio::time::timeout;

#[tokio::test]
async fn what_is_acked_is_in_the_log_and_known_after_a_reconnect() {
    let server = Server::start();
    let pump = server.enrol(Role::Device, "pump", &[]);
    let mut client = Client::connect(&server, &pump).await;
    let attached = client.attach("pump", 1).await;
    assert_eq!((attached.epoch_number, attached.stored.len()), (0, 0));
    for first in (0..1_000).step_by(100) {
        client.send(attached.alias, &schema(), &batch(first, 100, 0)).await;
    }
    client.acked(attached.alias, 0..1_000).await;
    let expected: Vec<_> = (0..10).map(|n| ("pump".to_owned(), n * 100, 100)).collect();
    assert_eq!(server.stored(), expected);
    let mut client = Client::connect(&server, &pump).await;
    assert_eq!(client.attach("pump", 1).await.stored, SequenceRanges::from(0..1_000));
}

#[tokio::test]
async fn a_resend_is_acked_again_and_stored_once_even_after_a_restart() {
    let mut server = Server::start();
    let pump = server.enrol(Role::Device, "pump", &[]);
    for round in 0..3 {
        let mut client = Client::connect(&server, &pump).await;
        let alias = client.attach("pump", 1).await.alias;
        client.send(alias, &schema(), &batch(0, 100, 0)).await;
        client.acked(alias, 0..100).await;
        if round == 1 {
            drop(client);
            assert_eq!(server.stop().await.unwrap(), 100);
            server.run();
        }
    }
    assert_eq!(server.stored(), [("pump".to_owned(), 0, 100)]);
}

#[tokio::test]
async fn a_conflict_is_refused_and_kept_and_harms_nobody() {
    let server = Server::start();
    let gateway = server.enrol(Role::Gateway, "gw", &["hall/*"]);
    let mut client = Client::connect(&server, &gateway).await;
    let (bad, good) = (client.attach("hall/bad", 1).await.alias, client.attach("hall/good", 1).await.alias);
    client.send(bad, &schema(), &batch(0, 10, 0)).await;
    client.acked(bad, 0..10).await;
    client.send(bad, &schema(), &batch(0, 10, 1)).await;
    let ClientEvent::Nacked(nack) = client.event().await else { panic!("expected a nack") };
    assert_eq!((nack.alias, nack.range, nack.code), (bad, 0..10, Code::SequenceConflict));
    assert_eq!(nack.disposition, Disposition::Permanent);
    client.send(good, &schema(), &batch(0, 10, 2)).await;
    client.acked(good, 0..10).await;
    assert_eq!(server.stored(), [("hall/bad".to_owned(), 0, 10), ("hall/good".to_owned(), 0, 10)]);
    timeout(Duration::from_secs(5), async {
        while server.quarantined() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the batch and its reason are kept");
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_turns_its_device_away_and_no_other() {
    let server = Server::start();
    let gateway = server.enrol(Role::Gateway, "gw", &["*"]);
    let mut client = Client::connect(&server, &gateway).await;
    let (bad, good) = (client.attach("bad", 1).await.alias, client.attach("good", 1).await.alias);
    client.send(bad, &schema(), &Payload::copy_from(&[0xff; 64])).await;
    let ClientEvent::Refused(refuse) = client.event().await else { panic!("expected a refusal") };
    assert_eq!((refuse.alias, refuse.code), (Some(bad), Code::MalformedBatch));
    client.send(bad, &schema(), &batch(0, 10, 0)).await;
    client.send(good, &schema(), &batch(0, 10, 0)).await;
    client.acked(good, 0..10).await;
    assert_eq!(server.stored(), [("good".to_owned(), 0, 10)]);
}

#[tokio::test]
async fn dropped_sequences_are_acked_as_settled() {
    let server = Server::start();
    let pump = server.enrol(Role::Device, "pump", &[]);
    let mut client = Client::connect(&server, &pump).await;
    let alias = client.attach("pump", 1).await.alias;
    client.report_dropped(alias, 3..9).await;
    let ClientEvent::Acked(ack) = client.event().await else { panic!("expected an ack") };
    assert_eq!((ack.level, ack.ranges), (Level::Settled, SequenceRanges::from(3..9)));
    let mut client = Client::connect(&server, &pump).await;
    assert_eq!(client.attach("pump", 1).await.settled, SequenceRanges::from(3..9));
}

#[tokio::test]
async fn strangers_are_told_why_they_are_turned_away() {
    let server = Server::start();
    let stranger = server.authority.client("icecore:device:stranger");
    let nameless = server.authority.client("https://example.org/pump");
    let replaced = server.enrol(Role::Device, "replaced", &[]);
    server.enrol(Role::Device, "replaced", &[]);
    let revoked = server.enrol(Role::Device, "revoked", &[]);
    server.registry.revoke("revoked", 1).unwrap();
    for (identity, code, reason) in [
        (&stranger, Code::NotEnrolled, "device `stranger` is not enrolled"),
        (&nameless, Code::NotEnrolled, "does not name exactly one device or gateway"),
        (&replaced, Code::NotEnrolled, "was enrolled again"),
        (&revoked, Code::Revoked, "was revoked"),
    ] {
        let mut client = Client::connect(&server, identity).await;
        let ClientEvent::Refused(refuse) = client.event().await else { panic!("expected a refusal") };
        assert_eq!((refuse.alias, refuse.code), (None, code));
        assert!(refuse.message.contains(reason), "{}", refuse.message);
        client.connection.closed().await;
    }
    let foreign = Authority::new().client("icecore:device:pump");
    let (_endpoint, connection) = connect(&server.authority, server.address, &foreign).await.unwrap();
    let closed = timeout(Duration::from_secs(5), connection.closed()).await.unwrap();
    assert!(
        closed.to_string().contains("UnknownIssuer") || closed.to_string().contains("certificate"),
        "{closed}"
    );
}

#[tokio::test]
async fn grants_are_checked_for_every_attach() {
    let server = Server::start();
    let gateway = server.enrol(Role::Gateway, "gw", &["hall/*"]);
    let mut client = Client::connect(&server, &gateway).await;
    let refused = client.ask_attach("yard/pump", 1).await;
    let ClientEvent::Refused(refuse) = client.event().await else { panic!("expected a refusal") };
    assert_eq!((refuse.alias, refuse.code), (Some(refused), Code::NotGranted));
    assert!(refuse.message.contains("may write for hall/*, not for `yard/pump`"), "{}", refuse.message);
    client.attach("hall/pump", 1).await;
    server.registry.revoke("gw", 1).unwrap();
    client.ask_attach("hall/fan", 1).await;
    let ClientEvent::Refused(refuse) = client.event().await else { panic!("expected a refusal") };
    assert_eq!(refuse.code, Code::Revoked);
}

#[tokio::test]
async fn after_a_failed_fsync_nothing_is_acked_and_the_health_says_so() {
    let mut server = Server::start();
    let pump = server.enrol(Role::Device, "pump", &[]);
    let mut client = Client::connect(&server, &pump).await;
    let alias = client.attach("pump", 1).await.alias;
    server.disk.fail_sync.store(true, Ordering::Relaxed);
    client.send(alias, &schema(), &batch(0, 100, 0)).await;
    let health = server.health(|health| matches!(health, Health::Failed { .. })).await;
    assert!(format!("{health:?}").contains("input/output error"), "{health:?}");
    server.disk.fail_sync.store(false, Ordering::Relaxed);
    assert!(client.hears_nothing().await, "an fsync is never tried again");
    assert!(server.stop().await.is_err());
}

#[tokio::test]
async fn a_graceful_stop_says_goodbye_and_acks_what_had_arrived() {
    let mut server = Server::start();
    let pump = server.enrol(Role::Device, "pump", &[]);
    let mut client = Client::connect(&server, &pump).await;
    let alias = client.attach("pump", 1).await.alias;
    client.send(alias, &schema(), &batch(0, 100, 0)).await;
    let listening = tokio::spawn(async move {
        let mut heard = Vec::new();
        while heard.len() < 2 {
            heard.push(client.event().await);
        }
        client.connection.closed().await;
        heard
    });
    assert_eq!(server.stop().await.unwrap(), 100);
    let heard = listening.await.unwrap();
    assert!(heard.iter().any(|event| matches!(event, ClientEvent::GoAway(_))), "{heard:?}");
    assert!(heard.iter().any(|event| matches!(event, ClientEvent::Acked(_))), "{heard:?}");
    assert_eq!(server.stored(), [("pump".to_owned(), 0, 100)]);
}
