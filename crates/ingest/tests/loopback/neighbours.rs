//! One device of a gateway misbehaves in every way; the others on its connection do not notice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use icecore_ingest::Role;
use icecore_wire::{ClientEvent, Code, Payload, SequenceRanges};

use crate::client::{BatchStream, Client, batch, schema};
use crate::server::Server;

/// Devices on the connection, with the one that misbehaves.
const DEVICES: usize = 500;

/// What each of the others sends.
const BATCHES: u64 = 8;
const ROWS: u64 = 100;

#[tokio::test]
async fn one_device_of_five_hundred_misbehaves_and_the_others_go_on() {
    let server = Server::start();
    let gateway = server.enrol(Role::Gateway, "gw", &["*"]);
    let mut client = Client::connect(&server, &gateway).await;
    let aliases: Vec<u32> = (0..DEVICES).map(|n| client.prepare_attach(&format!("pump {n:03}"), 1)).collect();
    client.say().await;
    for _ in 0..DEVICES {
        assert!(matches!(client.event().await, ClientEvent::Attached(_)));
    }
    let (bad, good) = aliases.split_first().unwrap();
    let stopping = Arc::new(AtomicBool::new(false));
    let misbehaving = BatchStream::open(&client.connection).await;
    let misbehaving = tokio::spawn(misbehave(misbehaving, *bad, Arc::clone(&stopping)));
    let behaving = BatchStream::open(&client.connection).await;
    let behaving = tokio::spawn(behave(behaving, good.to_vec()));

    let mut acked: BTreeMap<u32, SequenceRanges> = BTreeMap::new();
    let (mut heard, mut turned_away) = (BTreeSet::new(), false);
    let everything = [Code::MalformedBatch, Code::SequenceConflict].map(Code::number);
    let all = |acked: &BTreeMap<u32, SequenceRanges>| {
        good.iter().all(|alias| acked.get(alias).is_some_and(|acked| acked.covers(&(0..BATCHES * ROWS))))
    };
    while !(turned_away && all(&acked)) {
        match client.event().await {
            ClientEvent::Acked(ack) => acked.entry(ack.alias).or_default().insert_all(&ack.ranges),
            ClientEvent::Nacked(nack) => {
                assert_eq!(nack.alias, *bad, "{nack:?}");
                heard.insert(nack.code.number());
            }
            ClientEvent::Refused(refuse) => {
                assert_eq!((refuse.alias, refuse.code), (Some(*bad), Code::MalformedBatch));
                turned_away = true;
            }
            other => panic!("unexpected {other:?}"),
        }
        if everything.iter().all(|code| heard.contains(code)) && all(&acked) {
            stopping.store(true, Ordering::Relaxed);
        }
    }
    behaving.await.unwrap();
    misbehaving.await.unwrap();
    assert!(client.connection.close_reason().is_none());
    let stored = server.stored().into_iter().filter(|(device, ..)| device != "pump 000").count();
    assert_eq!(stored as u64, BATCHES * good.len() as u64);
}

/// Each device in turn sends a batch.
async fn behave(mut stream: BatchStream, aliases: Vec<u32>) {
    for n in 0..BATCHES {
        for alias in &aliases {
            stream.send(*alias, &schema(), &batch(n * ROWS, ROWS as usize, i64::from(*alias))).await;
        }
    }
}

/// Sends as fast as it can: batches that are good, that conflict with those, and that are malformed; at the end, one that
/// cannot be read at all.
async fn misbehave(mut stream: BatchStream, alias: u32, stopping: Arc<AtomicBool>) {
    let mut first = 0;
    while !stopping.load(Ordering::Relaxed) {
        stream.send(alias, &schema(), &batch(first, 10, 0)).await;
        stream.send(alias, &schema(), &batch(first, 10, 1)).await;
        stream.send(alias, &schema(), &batch(first + 5, 10, 0)).await;
        stream.send(alias, &schema(), &malformed(first + 20)).await;
        first += 30;
    }
    stream.send(alias, &schema(), &Payload::copy_from(&[0xff; 64])).await;
}

/// A batch with a header that can be read, and a column that is not the schema's.
fn malformed(first: u64) -> Payload {
    let mut bytes = batch(first, 10, 0).to_vec();
    let entries = bytes.len() - 40 - 2 * 28;
    bytes[entries + 28] = 1;
    Payload::copy_from(&bytes)
}
