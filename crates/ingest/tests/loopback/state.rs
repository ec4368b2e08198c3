//! The live state: it has what was acked, and is the same after a restart, from a snapshot or without one.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use icecore_ingest::Role;
use icecore_log::RealDisk;
use icecore_state::snapshot::Snapshots;

use super::client::{Client, batch, schema};
use super::server::Server;

/// All that is known of all devices, to the bit.
fn state(server: &Server) -> Vec<String> {
    let devices = server.writer().live().devices(0, usize::MAX);
    let mut shown: Vec<_> = devices.iter().map(|(name, state)| format!("{name} {state:?}")).collect();
    shown.sort();
    shown
}

fn snapshots(server: &Server) -> Vec<PathBuf> {
    // What is damaged stays until it is older than two good ones.
    let (snapshots, _) = Snapshots::new(Arc::new(RealDisk), &server.data()).list().unwrap();
    snapshots.iter().map(|snapshot| snapshot.path().to_owned()).collect()
}

async fn send(server: &Server, device: &str, first: u64) {
    let gateway = server.enrol(Role::Gateway, &format!("gw {device} {first}"), &["*"]);
    let mut client = Client::connect(server, &gateway).await;
    let alias = client.attach(device, 1).await.alias;
    client.send(alias, &schema(), &batch(first, 10, 0)).await;
    client.acked(alias, first..first + 10).await;
}

#[tokio::test]
async fn who_has_an_ack_is_in_the_state() {
    let server = Server::start();
    let gateway = server.enrol(Role::Gateway, "gw", &["*"]);
    let mut client = Client::connect(&server, &gateway).await;
    let alias = client.attach("pump", 1).await.alias;
    for first in (0..1_000).step_by(10) {
        client.send(alias, &schema(), &batch(first, 10, 0)).await;
        client.acked(alias, first..first + 10).await;
        let state = server.writer().live().device(&"pump".parse().unwrap()).unwrap();
        assert_eq!((state.view().events, state.ledger().events()), (first + 10, first + 10));
    }
}

#[tokio::test]
async fn a_restart_finds_the_state_that_was_with_and_without_snapshots() {
    let mut server = Server::start();
    let mut last = Vec::new();
    let fulls =
        |server: &Server| snapshots(server).iter().filter(|path| path.extension().unwrap() == "full").count();
    for round in 0..4 {
        send(&server, "pump", 10 * round).await;
        send(&server, &format!("press {round}"), 0).await;
        let before = state(&server);
        server.stop().await.unwrap();
        assert_ne!(snapshots(&server), last, "a clean stop leaves one");
        match round {
            // The newest is damaged, and then there is none at all.
            1 => fs::write(&snapshots(&server)[0], "nothing").unwrap(),
            2 => fs::remove_dir_all(server.data().join("snapshots")).unwrap(),
            _ => {}
        }
        let had = fulls(&server);
        server.run();
        assert_eq!(state(&server), before, "{round}");
        if round == 0 {
            // A snapshot that was taken to be another log's would be followed by a full one.
            send(&server, "pump", 1_000).await;
            server.stop().await.unwrap();
            assert_eq!(fulls(&server), had, "the next one builds on it");
            server.run();
        }
        if round != 1 {
            last = snapshots(&server);
        }
    }
}
