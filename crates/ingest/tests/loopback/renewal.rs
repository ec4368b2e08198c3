//! New certificates over the session.

use icecore_ingest::Role;
use icecore_wire::{ClientEvent, Code, NotRenewed};

use crate::client::{Client, config, dial};
use crate::server::{Identity, Server};

/// What the server gives to an identity that asks.
async fn renewed(server: &Server, identity: &Identity) -> Identity {
    match Client::connect(server, identity).await.renew().await {
        ClientEvent::Renewed(renewed) => {
            Identity { certificate: renewed.certificate, key: identity.key.clone() }
        }
        other => panic!("expected Renewed, found {other:?}"),
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_good_and_so_is_the_old_one() {
    let server = Server::start();
    let old = server.enrol(Role::Device, "hall/pump", &[]);
    let new = renewed(&server, &old).await;
    assert_ne!(new.certificate, old.certificate);
    for identity in [&old, &new] {
        Client::connect(&server, identity).await.attach("hall/pump", 1).await;
    }
}

#[tokio::test]
async fn a_certificate_is_renewed_once_a_minute_and_only_for_those_who_may_be_here() {
    let server = Server::start();
    let gateway = server.enrol(Role::Gateway, "gw", &["*"]);
    let mut client = Client::connect(&server, &gateway).await;
    assert!(matches!(client.renew().await, ClientEvent::Renewed(_)));
    let ClientEvent::NotRenewed(NotRenewed { code, retry_after, .. }) = client.renew().await else {
        panic!("expected NotRenewed")
    };
    assert_eq!(code, Code::RateLimited);
    assert!(retry_after.is_some());
    client.attach("pump", 1).await;
}

#[tokio::test]
async fn a_session_of_before_the_renewal_is_not_resumed_after_it() {
    let server = Server::start();
    let identity = server.enrol(Role::Device, "pump", &[]);
    let config = config(&server.authority, &identity);
    let (endpoint, connecting) = dial(&config, server.address);
    let mut client = Client::over(endpoint, connecting.await.unwrap()).await;
    assert!(matches!(client.renew().await, ClientEvent::Renewed(_)));
    let (endpoint, connecting) = dial(&config, server.address);
    Client::over(endpoint, connecting.await.unwrap()).await.attach("pump", 1).await;
    assert_eq!(server.counts.handshakes("full"), 2);
}
