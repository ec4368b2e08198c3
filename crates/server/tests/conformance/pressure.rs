//! More than goes through at once: limits, and a backlog.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::bench::Bench;
use crate::client::{Client, Sdk};
use crate::harness::Site;
use crate::stored::{sequences, stored};

fn blobs(client: &mut Client) {
    let field = json!({"name": "bytes", "type": "bytes", "kind": "gauge", "unit": "", "nullable": false});
    client.schema("blob", &json!([field]));
}

fn blob(time: u64, bytes: usize) -> Json {
    json!([time, "5a".repeat(bytes)])
}

pub(crate) fn who_is_beyond_a_limit_loses_nothing(sdk: Sdk) {
    // Two seconds' worth pass at once, and what is read together with the last of them: for the rest it takes a second.
    const LIMIT: usize = 100_000;
    const EVENTS: u64 = 100;
    let mut site = Site::new();
    site.set("LIMITS__DEVICE_BYTES", LIMIT.to_string());
    let identity = site.enroll_device("pump");
    let server = site.serve();
    let mut client = Client::connect(sdk, server.quic, &identity);
    client.attach("pump", None);
    client.wait("attached", |_| true);
    blobs(&mut client);
    let rows: Vec<_> = (0..EVENTS).map(|time| blob(time, 4 * LIMIT / EVENTS as usize)).collect();
    let began = Instant::now();
    client.rows("pump", "blob", &rows);
    client.flush();
    assert!(began.elapsed() >= Duration::from_secs(1), "it took {:?}", began.elapsed());
    assert_eq!(client.count("rejected") + client.count("disconnected"), 0);
    client.close();
    assert_eq!(sequences(&stored(&site, server)[&("pump".to_owned(), 0)]), (0..EVENTS).into());
}

pub(crate) fn of_a_gateways_devices_only_the_greedy_one_waits(sdk: Sdk) {
    const LIMIT: i64 = 200;
    const EVENTS: i64 = 4 * LIMIT;
    let mut site = Site::new();
    site.set("LIMITS__DEVICE_EVENTS", LIMIT.to_string());
    let identity = site.enroll_gateway("gateway", "*");
    let server = site.serve();
    let mut client = Client::connect(sdk, server.quic, identity.as_ref());
    for device in ["greedy", "modest"] {
        client.attach(device, None);
        client.wait("attached", |event| event["device"] == device);
    }
    client.record("greedy", 0..EVENTS);
    client.record("modest", 0..LIMIT);
    // Batches that are sent back (`rate_limited`) come again until all are through, without holding up the others.
    client.wait_for_acks("modest", 0..LIMIT as u64);
    client.flush();
    assert_eq!(client.count("rejected") + client.count("refused") + client.count("disconnected"), 0);
    client.close();
    let stored = stored(&site, server);
    assert_eq!(sequences(&stored[&("greedy".to_owned(), 0)]), (0..EVENTS as u64).into());
    assert_eq!(sequences(&stored[&("modest".to_owned(), 0)]), (0..LIMIT as u64).into());
}

pub(crate) fn a_backlog_that_is_not_read_holds_nothing_up(sdk: Sdk) {
    // Events of an outage: more bytes than any window here.
    const OLD: u64 = 100;
    let mut bench = Bench::new();
    let mut client = bench.pump(sdk);
    blobs(&mut client);
    bench.server.kill();
    let rows: Vec<_> = (0..OLD).map(|time| blob(time, 70 << 10)).collect();
    client.rows("pump", "blob", &rows);
    bench.server.faults().stall_backlog = true;
    bench.server.revive();
    client.wait("attached", |_| true);
    client.record("pump", 0..50);
    client.wait_for_acks("pump", OLD..OLD + 50);
    let arrived: Vec<u64> =
        bench.server.memory().epochs.values().next().unwrap().arrivals.iter().map(|a| a.1).collect();
    assert!(arrived.iter().all(|first| *first >= OLD), "not sent as backlog: {arrived:?}");
    bench.server.faults().stall_backlog = false;
    client.flush();
    client.close();
    assert_eq!(bench.server.stored("pump"), [(0..OLD + 50).into()]);
}
