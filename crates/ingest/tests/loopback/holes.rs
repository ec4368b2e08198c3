//! An epoch with more holes than a message has room for.

use icecore_ingest::Role;
use icecore_wire::limits::MAX_RANGES;
use icecore_wire::{ClientEvent, Level, SequenceRanges};

use super::client::{Client, batch, schema};
use super::server::Server;

#[tokio::test]
async fn what_is_settled_in_more_ranges_than_are_told_is_told_in_part() {
    let server = Server::start();
    let pump = server.enrol(Role::Device, "pump", &[]);
    let mut client = Client::connect(&server, &pump).await;
    let alias = client.attach("pump", 1).await.alias;
    // Dropped in one piece, and then stored in places all the same: what is stored counts.
    let holes = MAX_RANGES as u64 + 1;
    client.report_dropped(alias, 0..2 * holes - 1).await;
    let ClientEvent::Acked(ack) = client.event().await else { panic!("expected an ack") };
    assert_eq!(ack.level, Level::Settled);
    let mut stored = SequenceRanges::new();
    for n in 1..holes {
        client.send(alias, &schema(), &batch(2 * n - 1, 1, 0)).await;
    }
    while stored.count() < holes - 1 {
        let ClientEvent::Acked(ack) = client.event().await else { panic!("expected an ack") };
        stored.insert_all(&ack.ranges);
    }
    let mut again = Client::connect(&server, &pump).await;
    let attached = again.attach("pump", 1).await;
    assert_eq!(attached.stored, stored);
    // The newest: a device has let go of the others long ago.
    assert_eq!((attached.settled.len(), attached.settled.next()), (MAX_RANGES, 2 * holes - 1));
    // What is told again because of that is acked again.
    again.report_dropped(attached.alias, 0..1).await;
    let ClientEvent::Acked(ack) = again.event().await else { panic!("expected an ack") };
    assert_eq!((ack.level, ack.ranges), (Level::Settled, SequenceRanges::from(0..1)));
}
