//! Devices that connect only when there is something to send.

use std::sync::Arc;
use std::time::Duration;

use icecore_device::{
    BatchPolicy, Code, ColumnType, Config, Device, Disconnect, Event, Events, Field, Gateway, Level,
    Recorder, Schema, Spool, Value,
};

use crate::fake::FakeServer;

const PATIENCE: Duration = Duration::from_secs(20);

fn config(server: &FakeServer, uri: &str, linger: Duration) -> Config {
    let batch = BatchPolicy { max_rows: 10, max_age: None, ..BatchPolicy::default() };
    let identity = server.authority().identity(uri);
    Config::new(server.address.to_string(), identity).batch(batch).on_demand(linger)
}

fn memory() -> Spool {
    Spool::Memory { max_bytes: 1 << 20 }
}

fn recorder(device: &Device) -> Recorder {
    let schema = Schema::new("test", 1, vec![Field::new("n", ColumnType::I64)]).unwrap();
    device.recorder(Arc::new(schema))
}

async fn record(recorder: &mut Recorder, rows: std::ops::Range<i64>) {
    for n in rows {
        recorder.row(n, &[Value::I64(n)]).await.unwrap();
    }
}

/// Waits until the connection ends for the best of reasons, and returns how many were made until then.
async fn asleep(events: &mut Events) -> usize {
    let mut connected = 0;
    loop {
        match tokio::time::timeout(PATIENCE, events.next()).await.expect("the device sleeps").unwrap() {
            Event::Disconnected { reason: Disconnect::Idle, .. } => return connected,
            Event::Disconnected { reason, .. } => panic!("{reason}"),
            Event::Connected { .. } => connected += 1,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_device_wakes_says_it_all_in_its_first_flight_and_sleeps() {
    let mut server = FakeServer::start();
    let device = Device::connect(config(&server, "icecore:device:a", Duration::ZERO), memory()).unwrap();
    let (mut events, mut recorder) = (device.events(100), recorder(&device));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(device.stats().datagrams_sent, 0, "nothing was to be said");
    for wake in 0..3 {
        record(&mut recorder, wake * 10..wake * 10 + 10).await;
        device.flush(Level::Durable, PATIENCE).await.unwrap();
        assert_eq!(asleep(&mut events).await, 1);
    }
    let stats = device.stats();
    assert_eq!((stats.connections, stats.zero_rtt_offered, stats.zero_rtt_accepted), (3, 2, 2));
    // A server that forgot the session: what was said too early is said again, and nobody else hears of it.
    server.kill();
    server.revive();
    record(&mut recorder, 30..40).await;
    device.flush(Level::Durable, PATIENCE).await.unwrap();
    assert_eq!(asleep(&mut events).await, 1);
    let stats = device.stats();
    assert_eq!((stats.connections, stats.zero_rtt_offered, stats.zero_rtt_accepted), (4, 3, 2));
    assert_eq!((stats.events_acked, stats.batches_resent, stats.events_already_stored), (40, 0, 0));
    assert_eq!(server.stored("a"), [(0..40).into()]);
    assert_eq!(server.memory().duplicates, 0);
    device.close(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_connection_lingers_for_what_comes_soon() {
    let server = FakeServer::start();
    let linger = Duration::from_millis(500);
    let device = Device::connect(config(&server, "icecore:device:a", linger), memory()).unwrap();
    let (mut events, mut recorder) = (device.events(100), recorder(&device));
    for burst in 0..3 {
        record(&mut recorder, burst * 10..burst * 10 + 10).await;
        device.flush(Level::Durable, PATIENCE).await.unwrap();
    }
    assert_eq!(asleep(&mut events).await, 1);
    assert_eq!(device.stats().connections, 1);
}

#[tokio::test]
async fn a_dead_server_is_told_from_one_that_forgot_the_session() {
    let mut server = FakeServer::start();
    let device = Device::connect(config(&server, "icecore:device:a", Duration::ZERO), memory()).unwrap();
    let (mut events, mut recorder) = (device.events(100), recorder(&device));
    record(&mut recorder, 0..10).await;
    assert_eq!(asleep(&mut events).await, 1);
    server.kill();
    record(&mut recorder, 10..20).await;
    let unreachable = async {
        while !matches!(
            events.next().await.unwrap(),
            Event::Disconnected { reason: Disconnect::Unreachable { .. }, .. }
        ) {}
    };
    tokio::time::timeout(PATIENCE, unreachable).await.unwrap();
    server.revive();
    device.flush(Level::Durable, PATIENCE).await.unwrap();
    assert_eq!(server.stored("a"), [(0..20).into()]);
}

#[tokio::test]
async fn a_gateway_on_demand_speaks_only_for_those_who_have_something_to_say() {
    let server = FakeServer::start();
    server.faults().refuse_device.insert("d7".parse().unwrap(), Code::TakenOver);
    let gateway = Gateway::connect(config(&server, "icecore:gateway:g", Duration::ZERO)).unwrap();
    let mut events = gateway.events(1000);
    let devices: Vec<_> =
        (0..20).map(|n| gateway.device(format!("d{n}").parse().unwrap(), memory()).unwrap()).collect();
    record(&mut recorder(&devices[3]), 0..10).await;
    assert_eq!(asleep(&mut events).await, 1);
    assert_eq!(server.memory().epochs.len(), 1);
    // One that is turned away for a time sleeps until then, and keeps what it has.
    record(&mut recorder(&devices[7]), 0..10).await;
    assert_eq!(asleep(&mut events).await, 1);
    server.faults().refuse_device.clear();
    gateway.flush(Level::Durable, PATIENCE).await.unwrap();
    assert_eq!(server.stored("d7"), [(0..10).into()]);
}

#[tokio::test]
async fn what_is_archived_is_asked_for_on_a_connection() {
    let server = FakeServer::start();
    let device = Device::connect(config(&server, "icecore:device:a", Duration::ZERO), memory()).unwrap();
    let mut events = device.events(100);
    record(&mut recorder(&device), 0..10).await;
    assert_eq!(asleep(&mut events).await, 1);
    for kept in server.memory().epochs.values_mut() {
        kept.archived = kept.stored.clone();
    }
    device.flush(Level::Archived, PATIENCE).await.unwrap();
    assert_eq!(asleep(&mut events).await, 1);
}
