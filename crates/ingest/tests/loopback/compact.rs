//! Acks in the compact form, for clients that have shown that they know it.

use icecore_ingest::Role;

use super::client::{Client, batch, schema};
use super::server::Server;

#[tokio::test]
async fn who_sends_compact_batches_hears_compact_acks() {
    let server = Server::start();
    let pump = server.enrol(Role::Device, "pump", &[]);
    let mut client = Client::connect(&server, &pump).await;
    let alias = client.attach("pump", 1).await.alias;
    let mut acks = Vec::new();
    // Large, small, large: only small batches travel in the compact form.
    for range in [0..500, 500..510, 510..1_010] {
        let before = client.heard;
        let payload = batch(range.start, range.clone().count(), 0);
        client.send(alias, &schema(), &payload).await;
        client.acked(alias, range).await;
        acks.push(client.heard - before);
    }
    assert_eq!(acks, [48, 20, 21]);
}
