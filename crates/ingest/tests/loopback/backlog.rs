//! A backlog that nobody reads, beside live data and control on the same connection.

use std::pin::pin;
use std::time::Duration;

use icecore_ingest::Role;
use icecore_wire::{ClientEvent, SequenceRanges};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::client::{BatchStream, Client, batch, schema};
use crate::server::Server;

/// Events of a backlog's batch, which then takes some 60 KB.
const ROWS: usize = 3_800;

/// More than QUIC's windows, the client's send buffer, the backlogs' room and the blocks in flight hold.
const BATCHES: usize = 500;

/// Batches that can be on their way to the disk when live data comes: three blocks of a quarter of a MiB, or, where the
/// disk is behind, of half of one. In the queue wait a third more.
const IN_FLIGHT: usize = 3 * ((512 << 10) / 60_000 + 1);

#[tokio::test]
async fn an_unread_backlog_holds_up_neither_live_data_nor_control() {
    let server = Server::start();
    let gateway = server.enrol(Role::Gateway, "gw", &["*"]);
    let mut client = Client::connect(&server, &gateway).await;
    let pump = client.attach("pump", 1).await.alias;
    server.disk.hold_syncs();
    let mut stream = BatchStream::open_backlog(&client.connection).await;
    let (stuck, is_stuck) = oneshot::channel();
    let backlog = tokio::spawn(async move {
        let mut stuck = Some(stuck);
        for n in 0..BATCHES {
            let (schema, payload) = (schema(), batch((n * ROWS) as u64, ROWS, 0));
            let mut sending = pin!(stream.send(pump, &schema, &payload));
            // A client that cannot go on for this long waits for the server.
            if timeout(Duration::from_millis(500), &mut sending).await.is_err() {
                stuck.take().into_iter().for_each(|stuck| stuck.send(()).unwrap());
                sending.await;
            }
        }
    });
    is_stuck.await.expect("the server stops reading the backlog");
    let live = (BATCHES * ROWS) as u64;
    let fan = client.ask_attach("fan", 1).await;
    client.send(pump, &schema(), &batch(live, 10, 0)).await;
    client.finish().await;
    assert!(client.hears_nothing().await, "nothing is durable");
    server.disk.release_syncs();

    let (mut acked, mut attached_after) = (SequenceRanges::new(), None);
    while !acked.covers(&(0..live + 10)) || attached_after.is_none() {
        match client.event().await {
            ClientEvent::Acked(ack) => acked.insert_all(&ack.ranges),
            ClientEvent::Attached(attached) if attached.alias == fan => {
                attached_after = Some(acked.iter().map(|range| range.end - range.start).sum::<u64>());
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    backlog.await.unwrap();
    let order: Vec<u64> = server.stored().into_iter().map(|(_, first, _)| first).collect();
    let before = order.iter().position(|first| *first == live).unwrap();
    assert!(before <= IN_FLIGHT, "{before} batches of the backlog went ahead of live data");
    let attached_after = attached_after.unwrap() as usize / ROWS;
    assert!(attached_after < BATCHES / 2, "attached after {attached_after} of {BATCHES} batches of backlog");
}
