//! Sessions that lose their right while they are open.

use std::time::{Duration, SystemTime};

use icecore_ingest::{Enrolment, Role};
use icecore_wire::{ClientEvent, Code};

use crate::client::{Client, batch, schema};
use crate::server::Server;

/// Expects that the whole session is refused and closed.
async fn is_turned_out(mut client: Client) -> (Code, String) {
    let ClientEvent::Refused(refuse) = client.event().await else { panic!("expected a refusal") };
    assert_eq!(refuse.alias, None);
    client.connection.closed().await;
    (refuse.code, refuse.message)
}

#[tokio::test]
async fn who_is_revoked_or_enrolled_anew_is_turned_out() {
    let server = Server::start();
    let (pump, fan) = (server.enrol(Role::Device, "pump", &[]), server.enrol(Role::Device, "fan", &[]));
    let other = server.enrol(Role::Device, "other", &[]);
    let mut clients = Vec::new();
    for (identity, name) in [(&pump, "pump"), (&fan, "fan"), (&other, "other")] {
        let mut client = Client::connect(&server, identity).await;
        client.attach(name, 1).await;
        clients.push(client);
    }
    let [pump, fan, mut other] = clients.try_into().ok().unwrap();
    server.registry.revoke("pump", 1).unwrap();
    assert_eq!(is_turned_out(pump).await.0, Code::Revoked);
    server.enrol(Role::Device, "fan", &[]);
    let (code, message) = is_turned_out(fan).await;
    assert_eq!(code, Code::NotEnrolled);
    assert!(message.contains("was enrolled again"), "{message}");
    other.attach("other", 2).await;
}

#[tokio::test]
async fn a_device_whose_grant_is_gone_is_refused() {
    let server = Server::start();
    let gateway = server.enrol(Role::Gateway, "gw", &["*"]);
    let mut client = Client::connect(&server, &gateway).await;
    let (lost, kept) = (client.attach("yard/pump", 1).await.alias, client.attach("hall/pump", 1).await.alias);
    let grants = vec!["hall/*".to_owned()];
    let enrolment = server.registry.lookup("gw").unwrap();
    server.registry.enrol(Enrolment { grants, ..enrolment }).unwrap();
    let ClientEvent::Refused(refuse) = client.event().await else { panic!("expected a refusal") };
    assert_eq!((refuse.alias, refuse.code), (Some(lost), Code::NotGranted));
    client.send(kept, &schema(), &batch(0, 10, 0)).await;
    client.acked(kept, 0..10).await;
}

#[tokio::test]
async fn a_session_ends_with_its_certificate() {
    let server = Server::start();
    let until = SystemTime::now() + Duration::from_secs(2);
    let short = server.authority.client_until("icecore:device:pump", until);
    server.enrol_with(&short, Role::Device, "pump", &[]);
    let mut client = Client::connect(&server, &short).await;
    client.attach("pump", 1).await;
    assert_eq!(is_turned_out(client).await.0, Code::Expired);
}
