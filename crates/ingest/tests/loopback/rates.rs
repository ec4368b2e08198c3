//! Limits on what devices and gateways send.

use std::time::{Duration, Instant};

use icecore_ingest::{Rate, RateLimits, Role};
use icecore_wire::{ClientEvent, Code, SequenceRanges};

use crate::client::{Client, batch, schema};
use crate::server::Server;

/// Events of a batch.
const ROWS: u64 = 400;

/// Two seconds' worth of it pass at once.
const LIMIT: Rate = Rate { events_per_s: 4_000, bytes_per_s: 0 };

/// Batches that pass at once: the burst, and the one that goes beyond it.
const AT_ONCE: u64 = 2 * LIMIT.events_per_s / ROWS + 1;

#[tokio::test]
async fn a_device_that_is_too_fast_is_told_its_pace_and_loses_nothing() {
    let server = Server::with_limits(RateLimits { device: LIMIT, ..RateLimits::default() });
    let pump = server.enrol(Role::Device, "pump", &[]);
    let mut client = Client::connect(&server, &pump).await;
    let alias = client.attach("pump", 1).await.alias;
    let start = Instant::now();
    let batches = AT_ONCE + 20;
    let payload_bytes = batch(0, ROWS as usize, 0).len() as u64;
    for n in 0..batches {
        client.send(alias, &schema(), &batch(n * ROWS, ROWS as usize, 0)).await;
    }
    let (mut acked, mut paces) = (SequenceRanges::new(), Vec::new());
    while !acked.covers(&(0..batches * ROWS)) {
        match client.event().await {
            ClientEvent::Acked(ack) => acked.insert_all(&ack.ranges),
            ClientEvent::Pace(pace) => paces.push(pace),
            other => panic!("unexpected {other:?}"),
        }
    }
    // Two seconds in all, less what was read together last: what fits some packets.
    assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!(paces.len(), 1, "{paces:?}");
    assert_eq!(paces[0].bytes_per_s, LIMIT.events_per_s * payload_bytes / ROWS);
}

#[tokio::test]
async fn of_a_gateways_devices_only_the_one_that_is_too_fast_is_sent_back() {
    let server = Server::with_limits(RateLimits { device: LIMIT, ..RateLimits::default() });
    let gateway = server.enrol(Role::Gateway, "gw", &["*"]);
    let mut client = Client::connect(&server, &gateway).await;
    let (greedy, modest) = (client.attach("greedy", 1).await.alias, client.attach("modest", 1).await.alias);
    let greedy_batches = 10 * AT_ONCE;
    for n in 0..greedy_batches {
        client.send(greedy, &schema(), &batch(n * ROWS, ROWS as usize, 0)).await;
    }
    for n in 0..10 {
        client.send(modest, &schema(), &batch(n * ROWS, ROWS as usize, 0)).await;
    }
    let (mut stored, mut sent_back) = (SequenceRanges::new(), SequenceRanges::new());
    let mut of_modest = SequenceRanges::new();
    while stored.iter().chain(sent_back.iter()).map(|range| (range.end - range.start) / ROWS).sum::<u64>()
        < greedy_batches
        || !of_modest.covers(&(0..10 * ROWS))
    {
        match client.event().await {
            ClientEvent::Acked(ack) if ack.alias == modest => of_modest.insert_all(&ack.ranges),
            ClientEvent::Acked(ack) => stored.insert_all(&ack.ranges),
            ClientEvent::Nacked(nack) => {
                assert_eq!((nack.alias, nack.code), (greedy, Code::RateLimited));
                let retry_after = nack.disposition.retry_after().unwrap();
                assert!(retry_after <= Duration::from_millis(100), "{retry_after:?}");
                sent_back.insert(nack.range);
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(stored.covers(&(0..AT_ONCE * ROWS)), "{stored:?}");
    // Sent within a few milliseconds; a busy machine may take longer.
    assert!(!sent_back.is_empty());
}
