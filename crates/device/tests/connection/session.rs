//! Devices and gateways against a server that misbehaves.

use std::sync::Arc;
use std::time::Duration;

use icecore_device::{
    Backoff, BatchPolicy, Code, Column, ColumnData, ColumnType, Config, Device, Disconnect, Event, Events,
    Field, Gateway, Level, RecordError, Recorder, Schema, Spool, Value, WhenFull,
};

use crate::fake::{Authority, FakeServer};

const PATIENCE: Duration = Duration::from_secs(20);

/// How a batch is put off.
const LATER: (Code, Duration) = (Code::Overloaded, Duration::from_millis(100));

fn schema() -> Arc<Schema> {
    let fields = vec![Field::new("reading", ColumnType::F64), Field::new("count", ColumnType::I64)];
    Arc::new(Schema::new("test", 1, fields).unwrap())
}

fn memory() -> Spool {
    Spool::Memory { max_bytes: 1 << 20 }
}

fn config(server: &FakeServer, uri: &str) -> Config {
    let batch = BatchPolicy { max_rows: 10, max_age: None, ..BatchPolicy::default() };
    let backoff = Backoff { min: Duration::from_millis(20), max: Duration::from_millis(200) };
    Config::new(server.address.to_string(), server.authority().identity(uri)).batch(batch).backoff(backoff)
}

fn device(server: &FakeServer, name: &str) -> Device {
    Device::connect(config(server, &format!("icecore:device:{name}")), memory()).unwrap()
}

async fn record(recorder: &mut Recorder, rows: std::ops::Range<i64>) {
    for n in rows {
        recorder.row(n, &[Value::F64(n as f64), Value::I64(n)]).await.unwrap();
    }
}

async fn expect<T>(events: &mut Events, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    let found = async {
        loop {
            let event = events.next().await.expect("events go on");
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the event comes")
}

/// Waits until the server has these events of device `a`, acked or not.
async fn arrived(server: &FakeServer, events: std::ops::Range<u64>) {
    let all = async {
        while server.stored("a") != [events.clone().into()] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("the events arrive");
}

#[tokio::test]
async fn what_is_recorded_arrives_once_and_in_batches_of_the_policy() {
    let server = FakeServer::start();
    let device = device(&server, "a");
    let mut events = device.events(100);
    let mut recorder = device.recorder(schema());
    record(&mut recorder, 0..25).await;
    device.flush(Level::Durable, PATIENCE).await.unwrap();
    assert_eq!(server.stored("a"), [(0..25).into()]);
    let (range, latency) = expect(&mut events, |event| match event {
        Event::Acked { range, latency, .. } => Some((range.clone(), *latency)),
        _ => None,
    })
    .await;
    assert_eq!(range, 0..10);
    assert!(latency.is_some());
    let stats = device.stats();
    assert_eq!((stats.batches_acked, stats.events_acked, stats.batches_resent), (3, 25, 0));
    assert!(stats.wire_bytes_sent > 0);
    device.close(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn columns_and_rows_share_a_sequence() {
    let server = FakeServer::start();
    let device = device(&server, "a");
    let mut recorder = device.recorder(schema());
    let times: Vec<i64> = (0..37).collect();
    let readings: Vec<f64> = times.iter().map(|&n| n as f64).collect();
    let columns = [Column::new(ColumnData::F64(&readings)), Column::new(ColumnData::I64(&times))];
    recorder.columns(&times, &columns).await.unwrap();
    record(&mut recorder, 0..5).await;
    recorder
        .columns(
            &times[..4],
            &[Column::new(ColumnData::F64(&readings[..4])), Column::new(ColumnData::I64(&times[..4]))],
        )
        .await
        .unwrap();
    device.flush(Level::Durable, PATIENCE).await.unwrap();
    assert_eq!(server.stored("a"), [(0..46).into()]);
    let cuts: Vec<u64> = server.memory().epochs.values().next().unwrap().batches.keys().copied().collect();
    assert_eq!(cuts, [0, 10, 20, 30, 40]);
}

#[tokio::test]
async fn columns_of_unequal_length_are_an_error_and_not_a_panic() {
    let server = FakeServer::start();
    let mut recorder = device(&server, "a").recorder(schema());
    let times: Vec<i64> = (0..37).collect();
    let columns = [Column::new(ColumnData::F64(&[1.0])), Column::new(ColumnData::I64(&times))];
    recorder.columns(&times, &columns).await.unwrap_err();
}

#[tokio::test]
async fn an_old_batch_is_cut_without_anybody_asking() {
    let server = FakeServer::start();
    let batch = BatchPolicy { max_age: Some(Duration::from_millis(50)), ..BatchPolicy::default() };
    let device = Device::connect(config(&server, "icecore:device:a").batch(batch), memory()).unwrap();
    let mut events = device.events(100);
    let mut recorder = device.recorder(schema());
    record(&mut recorder, 0..3).await;
    let acked = |event: &Event| matches!(event, Event::Acked { range, .. } if *range == (0..3)).then_some(());
    expect(&mut events, acked).await;
    record(&mut recorder, 3..4).await;
    expect(&mut events, |event| {
        matches!(event, Event::Acked { range, .. } if *range == (3..4)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn batches_are_sent_ahead_of_their_acks() {
    let server = FakeServer::start();
    server.faults().withhold_acks = true;
    let device = device(&server, "a");
    record(&mut device.recorder(schema()), 0..500).await;
    arrived(&server, 0..500).await;
}

#[tokio::test]
async fn a_dropped_connection_loses_and_repeats_nothing() {
    let server = FakeServer::start();
    let device = device(&server, "a");
    let mut recorder = device.recorder(schema());
    for round in 0..5 {
        server.faults().drop_after = Some(3);
        record(&mut recorder, round * 100..(round + 1) * 100).await;
        device.flush(Level::Durable, PATIENCE).await.unwrap();
    }
    assert_eq!(server.stored("a"), [(0..500).into()]);
    assert!(server.memory().connections > 5);
}

#[tokio::test]
async fn a_restarted_server_ends_the_connection_of_before_with_a_reset() {
    let mut server = FakeServer::start();
    let device = device(&server, "a");
    let mut events = device.events(100);
    let mut recorder = device.recorder(schema());
    record(&mut recorder, 0..10).await;
    device.flush(Level::Durable, PATIENCE).await.unwrap();
    // Nothing comes that the device waits for.
    server.faults().withhold_acks = true;
    record(&mut recorder, 10..20).await;
    arrived(&server, 0..20).await;
    server.kill();
    server.faults().withhold_acks = false;
    server.revive();
    let reason = expect(&mut events, |event| match event {
        Event::Disconnected { reason, .. } => Some(reason.clone()),
        _ => None,
    })
    .await;
    assert!(matches!(&reason, Disconnect::Lost { reason } if reason.contains("reset")), "{reason:?}");
    device.flush(Level::Durable, PATIENCE).await.unwrap();
    assert_eq!(server.stored("a"), [(0..20).into()]);
}

#[tokio::test]
async fn a_server_that_withholds_acks_is_not_taken_for_dead() {
    let server = FakeServer::start();
    server.faults().withhold_acks = true;
    let device = device(&server, "a");
    record(&mut device.recorder(schema()), 0..10).await;
    let pending = device.flush(Level::Durable, Duration::from_secs(3)).await.unwrap_err();
    assert_eq!((pending.batches, pending.events), (1, 10));
    assert_eq!(device.stats().connections, 1, "{:?}", pending.last_error);
}

#[tokio::test]
async fn a_full_spool_makes_recording_wait() {
    let server = FakeServer::start();
    server.faults().withhold_acks = true;
    let device =
        Device::connect(config(&server, "icecore:device:a"), Spool::Memory { max_bytes: 2000 }).unwrap();
    let mut recorder = device.recorder(schema());
    let all = tokio::time::timeout(Duration::from_millis(500), record(&mut recorder, 0..1000)).await;
    assert!(all.is_err(), "recording waited");
    assert!(server.stored("a").iter().all(|stored| stored.count() < 100));
}

#[tokio::test]
async fn a_full_spool_drops_the_oldest_and_says_so() {
    let mut server = FakeServer::start();
    server.kill();
    let config = config(&server, "icecore:device:a").when_full(WhenFull::DropOldest);
    let device = Device::connect(config, Spool::Memory { max_bytes: 4000 }).unwrap();
    let mut recorder = device.recorder(schema());
    record(&mut recorder, 0..1000).await;
    let dropped = device.stats().events_dropped;
    assert!(dropped > 500, "{dropped}");
    server.revive();
    device.flush(Level::Durable, PATIENCE).await.unwrap();
    assert_eq!(server.stored("a"), [(dropped..1000).into()]);
    let settled = server.memory().epochs.values().next().unwrap().settled.clone();
    assert_eq!(settled, (0..dropped).into());
}

#[tokio::test]
async fn a_batch_refused_for_good_is_not_sent_again_and_harms_no_other() {
    let server = FakeServer::start();
    server.faults().reject.insert(10);
    let device = device(&server, "a");
    let mut events = device.events(100);
    record(&mut device.recorder(schema()), 0..30).await;
    device.flush(Level::Durable, PATIENCE).await.unwrap();
    assert_eq!(server.stored("a"), [[0..10, 20..30].into_iter().collect()]);
    let code = expect(&mut events, |event| match event {
        Event::Rejected { range, code, .. } if *range == (10..20) => Some(*code),
        _ => None,
    })
    .await;
    assert_eq!(code, Code::MalformedBatch);
}

#[tokio::test]
async fn a_batch_the_server_wants_later_comes_later() {
    let server = FakeServer::start();
    server.faults().defer.extend([0, 20].map(|first| (first, LATER)));
    let device = device(&server, "a");
    record(&mut device.recorder(schema()), 0..30).await;
    device.flush(Level::Durable, PATIENCE).await.unwrap();
    assert_eq!(server.stored("a"), [(0..30).into()]);
    assert_eq!(device.stats().connections, 1);
}

#[tokio::test]
async fn a_backlog_that_nobody_reads_does_not_hold_live_batches_up() {
    let mut server = FakeServer::start();
    server.kill();
    let device = device(&server, "a");
    let mut events = device.events(10_000);
    let mut recorder = device.recorder(schema());
    record(&mut recorder, 0..20_000).await;
    server.faults().stall_backlog = true;
    server.revive();
    expect(&mut events, |event| matches!(event, Event::Attached { .. }).then_some(())).await;
    record(&mut recorder, 20_000..20_010).await;
    let first = expect(&mut events, |event| match event {
        Event::Acked { range, .. } => Some(range.clone()),
        _ => None,
    })
    .await;
    assert_eq!(first, 20_000..20_010);
    assert_eq!(server.stored("a"), [(20_000..20_010).into()]);
    server.faults().stall_backlog = false;
    device.flush(Level::Durable, PATIENCE).await.unwrap();
    assert_eq!(server.stored("a"), [(0..20_010).into()]);
    assert_eq!(device.stats().batches_resent, 0);
}

#[tokio::test]
async fn a_backlog_batch_the_server_wants_later_comes_later() {
    let mut server = FakeServer::start();
    server.kill();
    server.faults().defer.extend([0, 500, 990].map(|first| (first, LATER)));
    let device = device(&server, "a");
    record(&mut device.recorder(schema()), 0..1000).await;
    server.revive();
    device.flush(Level::Durable, PATIENCE).await.unwrap();
    assert_eq!(server.stored("a"), [(0..1000).into()]);
    assert_eq!(device.stats().connections, 1);
}

#[tokio::test]
async fn a_gateway_carries_many_devices_and_one_refusal_concerns_one_device() {
    let server = FakeServer::start();
    server.faults().refuse_device.insert("d7".parse().unwrap(), Code::NotGranted);
    let gateway = Gateway::connect(config(&server, "icecore:gateway:g")).unwrap();
    let mut events = gateway.events(1000);
    for n in 0..50 {
        let device = gateway.device(format!("d{n}").parse().unwrap(), memory()).unwrap();
        record(&mut device.recorder(schema()), 0..20).await;
    }
    let refused = |event: &Event| match event {
        Event::Refused { device: Some(device), code, .. } => Some((device.to_string(), *code)),
        _ => None,
    };
    assert_eq!(expect(&mut events, refused).await, ("d7".into(), Code::NotGranted));
    let pending = gateway.flush(Level::Durable, Duration::from_millis(500)).await.unwrap_err();
    assert_eq!((pending.batches, pending.events), (2, 20));
    assert!(pending.last_error.unwrap().contains("not_granted"));
    server.faults().refuse_device.clear();
    gateway.close(PATIENCE).await.unwrap();
    for n in 0..50 {
        assert_eq!(server.stored(&format!("d{n}")), [(0..20).into()]);
    }
}

#[tokio::test]
async fn more_devices_than_aliases_take_turns() {
    let server = FakeServer::start();
    let gateway = Gateway::connect(config(&server, "icecore:gateway:g")).unwrap();
    let devices = icecore_wire::limits::MAX_ALIASES + 200;
    for n in 0..devices {
        let device = gateway.device(format!("d{n}").parse().unwrap(), memory()).unwrap();
        record(&mut device.recorder(schema()), 0..10).await;
    }
    gateway.flush(Level::Durable, PATIENCE).await.unwrap();
    assert_eq!(server.memory().epochs.len(), devices);
    // All are idle now, and whoever has something to say takes an alias from one of them.
    let late = gateway.device("late".parse().unwrap(), memory()).unwrap();
    record(&mut late.recorder(schema()), 0..10).await;
    gateway.close(PATIENCE).await.unwrap();
    assert_eq!(server.stored("late"), [(0..10).into()]);
}

#[tokio::test]
async fn a_given_epoch_resumes_where_the_server_is() {
    let server = FakeServer::start();
    let epoch = icecore_device::Epoch::from_bytes([5; 16]);
    for (already, sent) in [(0, 30), (30, 20)] {
        let gateway = Gateway::connect(config(&server, "icecore:gateway:g")).unwrap();
        let mut events = gateway.events(10);
        let device = gateway.device_with_epoch("a".parse().unwrap(), epoch, 1 << 20).unwrap();
        expect(&mut events, |event| matches!(event, Event::Attached { .. }).then_some(())).await;
        record(&mut device.recorder(schema()), 0..already + sent).await;
        gateway.flush(Level::Durable, PATIENCE).await.unwrap();
        let stats = gateway.stats();
        assert_eq!((stats.events_already_stored, stats.events_acked), (already as u64, sent as u64));
        gateway.close(PATIENCE).await.unwrap();
    }
    assert_eq!(server.stored("a"), [(0..50).into()]);
    assert_eq!(server.memory().duplicates, 0);
}

#[tokio::test]
async fn batches_that_were_cut_before_keep_their_sequences() {
    let server = FakeServer::start();
    let epoch = icecore_device::Epoch::from_bytes([6; 16]);
    let batch = |range: std::ops::Range<u64>| {
        let mut builder = icecore_wire::BatchBuilder::new(schema());
        range.clone().for_each(|n| builder.row(n as i64, &[Value::F64(0.5), Value::I64(n as i64)]).unwrap());
        builder.finish(range.start, icecore_wire::EncodeOptions::PLAIN).unwrap()
    };
    for (already, sent) in [(0, 15), (15, 0)] {
        let gateway = Gateway::connect(config(&server, "icecore:gateway:g")).unwrap();
        let device = gateway.device_with_epoch("a".parse().unwrap(), epoch, 1 << 20).unwrap();
        device.hand_in(&schema(), &batch(3..8)).await.unwrap();
        device.hand_in(&schema(), &batch(20..30)).await.unwrap();
        let behind = device.hand_in(&schema(), &batch(8..10)).await;
        assert!(matches!(behind, Err(RecordError::OutOfOrder { first: 8, next: 30 })), "{behind:?}");
        gateway.flush(Level::Durable, PATIENCE).await.unwrap();
        let stats = gateway.stats();
        assert_eq!(
            (stats.events_already_stored, stats.events_acked, stats.events_dropped),
            (already, sent, 0)
        );
        gateway.close(PATIENCE).await.unwrap();
    }
    let stored: icecore_device::SequenceRanges = [3..8, 20..30].into_iter().collect();
    assert_eq!(server.stored("a"), [stored]);
}

#[tokio::test]
async fn every_way_to_be_turned_away_has_its_own_words() {
    let server = FakeServer::start();
    let why = async |config: Config| {
        let gateway = Gateway::connect(config).unwrap();
        let mut events = gateway.events(100);
        expect(&mut events, |event| match event {
            Event::Disconnected { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await
    };
    let uri = "icecore:gateway:g";
    let stranger = Authority::new().identity(uri);
    let reason = why(Config::new(server.address.to_string(), stranger)).await;
    assert!(matches!(reason, Disconnect::ServerNotTrusted { .. }), "{reason:?}");

    let reason = why(Config::new("no-such-host.invalid:1", server.authority().identity(uri))).await;
    assert!(matches!(reason, Disconnect::Unresolved { .. }), "{reason:?}");

    let reason = why(Config::new("127.0.0.1:9", server.authority().identity(uri))).await;
    assert!(matches!(reason, Disconnect::Unreachable { .. }), "{reason:?}");

    server.faults().refuse_connection = Some((Code::NotEnrolled, None));
    let reason = why(config(&server, uri)).await;
    assert!(matches!(reason, Disconnect::Refused { code: Code::NotEnrolled, .. }), "{reason:?}");
}

#[test]
fn identities_are_for_what_they_name() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let authority = Authority::new();
    let gateway = Config::new("127.0.0.1:1", authority.identity("icecore:gateway:g"));
    assert!(Device::connect(gateway, memory()).is_err());
    let device = Config::new("127.0.0.1:1", authority.identity("icecore:device:d"));
    assert!(Gateway::connect(device).is_err());
}

/// On a runtime of one thread, as these tests have.
#[tokio::test]
async fn who_records_without_end_leaves_its_neighbours_their_turn() {
    let server = FakeServer::start();
    let gateway = Gateway::connect(config(&server, "icecore:gateway:gw")).unwrap();
    let greedy = gateway.device("greedy".parse().unwrap(), Spool::Memory { max_bytes: 1 << 30 }).unwrap();
    let modest = gateway.device("modest".parse().unwrap(), memory()).unwrap();
    let mut events = modest.events(100);
    expect(&mut events, |event| matches!(event, Event::Attached { .. }).then_some(())).await;
    let flood = tokio::spawn(async move {
        record(&mut greedy.recorder(schema()), 0..500_000).await;
    });
    record(&mut modest.recorder(schema()), 0..10).await;
    modest.flush(Level::Durable, PATIENCE).await.unwrap();
    assert!(!flood.is_finished(), "its ack did not wait for the other's last batch");
    flood.abort();
}
