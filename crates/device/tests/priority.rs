//! What a full spool drops when some of it is more important than the rest, and what arrives after the outage.
#![expect(clippy::unwrap_used, reason = "fixtures of tests fail by panicking, like tests")]

#[allow(dead_code, reason = "each file of tests needs some of it")]
mod fake;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fake::FakeServer;
use icecore_device::{
    Backoff, BatchPolicy, ColumnType, Compression, Config, Device, Field, Level, Priority, Recorder, Schema,
    SequenceRanges, Spool, Value, WhenFull,
};
use icecore_wire::BatchHeader;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(20);
const SPOOL_BYTES: usize = 512 << 10;
/// Bytes of an event.
const EVENT: usize = 1000;
/// Events of a batch.
const BATCH: usize = 4;

fn config(server: &FakeServer) -> Config {
    let batch = BatchPolicy { max_rows: BATCH, max_age: None, ..BatchPolicy::default() };
    let backoff = Backoff { min: Duration::from_millis(20), max: Duration::from_millis(200) };
    Config::new(server.address.to_string(), server.authority().identity("icecore:device:a"))
        .batch(batch)
        .backoff(backoff)
        .compression(Compression::Off)
        .when_full(WhenFull::DropLeastImportant)
}

fn on_disk(dir: &Path) -> Spool {
    Spool::Disk { dir: dir.to_owned(), max_bytes: SPOOL_BYTES as u64 }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn schema(name: &str) -> Schema {
    Schema::new(name, 1, vec![Field::new("b", ColumnType::Bytes)]).unwrap()
}

fn recorder(device: &Device, name: &str, priority: Priority) -> Recorder {
    device.recorder(Arc::new(schema(name))).with_priority(priority)
}

async fn record(recorder: &mut Recorder, batches: usize) {
    for n in 0..batches * BATCH {
        recorder.row(n as i64, &[Value::Bytes(&[7; EVENT])]).await.unwrap();
    }
}

/// How many events of a schema the server has, in all epochs.
fn stored(server: &FakeServer, name: &str) -> usize {
    let memory = server.memory();
    let batches = memory.epochs.values().flat_map(|kept| kept.batches.values());
    let headers = batches.map(|payload| BatchHeader::peek(payload).unwrap());
    headers.filter(|header| header.schema == schema(name).id()).map(|header| header.count as usize).sum()
}

/// Every sequence of the epochs that the server knows, of `events` together, is stored or settled as dropped. Returns how
/// many are dropped.
fn dropped(server: &FakeServer, events: usize) -> usize {
    let memory = server.memory();
    let (mut all, mut dropped) = (0, 0);
    for kept in memory.epochs.values() {
        let mut known = kept.stored.clone();
        known.insert_all(&kept.settled);
        assert_eq!(known, SequenceRanges::from(0..known.next()), "a gap is not settled");
        all += known.count();
        dropped += known.count() - kept.stored.count();
    }
    assert_eq!(all, events as u64);
    usize::try_from(dropped).unwrap()
}

/// Three times as much as the spool takes, most of it noise, some readings and now and then an alarm.
fn after_an_outage_what_is_important_arrives(spool: Spool) {
    let mut server = FakeServer::start();
    server.kill();
    runtime().block_on(async {
        let device = Device::connect(config(&server), spool).unwrap();
        let mut noise = recorder(&device, "noise", Priority::Low);
        let mut readings = device.recorder(Arc::new(schema("reading")));
        let mut alarms = recorder(&device, "alarm", Priority::Highest);
        for _ in 0..20 {
            record(&mut noise, 16).await;
            record(&mut readings, 3).await;
            record(&mut alarms, 1).await;
        }
        server.revive();
        device.flush(Level::Durable, PATIENCE).await.unwrap();
        device.close(PATIENCE).await.unwrap();
    });
    assert_eq!(stored(&server, "alarm"), 20 * BATCH);
    assert_eq!(stored(&server, "reading"), 20 * 3 * BATCH);
    let noise = 20 * 16 * BATCH;
    assert!((noise / 16..noise / 4).contains(&stored(&server, "noise")), "{}", stored(&server, "noise"));
    let dropped = dropped(&server, 20 * 20 * BATCH);
    assert_eq!(dropped + stored(&server, "noise"), noise, "noise alone was dropped");
}

#[test]
fn after_an_outage_what_is_important_arrives_from_memory() {
    after_an_outage_what_is_important_arrives(Spool::Memory { max_bytes: SPOOL_BYTES });
}

#[test]
fn after_an_outage_what_is_important_arrives_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    after_an_outage_what_is_important_arrives(on_disk(dir.path()));
}

#[test]
fn noise_is_no_reason_to_drop_an_alarm_and_is_known_as_dropped_after_a_restart() {
    let mut server = FakeServer::start();
    server.kill();
    let dir = tempfile::tempdir().unwrap();
    let alarms = 2 * SPOOL_BYTES / (EVENT * BATCH);
    let dropped_alarms = runtime().block_on(async {
        let device = Device::connect(config(&server), on_disk(dir.path())).unwrap();
        record(&mut recorder(&device, "alarm", Priority::High), alarms).await;
        let dropped = usize::try_from(device.stats().events_dropped).unwrap();
        device.close(Duration::ZERO).await.unwrap_err();
        dropped
    });
    runtime().block_on(async {
        let device = Device::connect(config(&server), on_disk(dir.path())).unwrap();
        // There is room for some batches where a file was freed.
        record(&mut recorder(&device, "noise", Priority::Low), 50).await;
        let dropped = device.stats().events_dropped;
        assert!((25 * BATCH as u64..=50 * BATCH as u64).contains(&dropped), "{dropped}");
        device.close(Duration::ZERO).await.unwrap_err();
    });
    server.revive();
    runtime().block_on(async {
        let device = Device::connect(config(&server), on_disk(dir.path())).unwrap();
        device.flush(Level::Durable, PATIENCE).await.unwrap();
        assert_eq!(device.stats().events_dropped, 0, "nothing is found to be lost");
        device.close(PATIENCE).await.unwrap();
    });
    assert_eq!(stored(&server, "alarm") + dropped_alarms, alarms * BATCH);
    let noise = 50 * BATCH - stored(&server, "noise");
    assert_eq!(dropped(&server, (alarms + 50) * BATCH), dropped_alarms + noise);
}

#[test]
fn priorities_survive_the_process() {
    let mut server = FakeServer::start();
    server.kill();
    let dir = tempfile::tempdir().unwrap();
    let half = SPOOL_BYTES / (EVENT * BATCH) / 2;
    // One life ends by a close, one by SIGKILL.
    for closes in [true, false] {
        runtime().block_on(async {
            let device = Device::connect(config(&server), on_disk(dir.path())).unwrap();
            record(&mut recorder(&device, "noise", Priority::Lowest), half / 2).await;
            record(&mut recorder(&device, "alarm", Priority::Highest), half / 4).await;
            assert_eq!(device.stats().events_dropped, 0);
            // Everything is fsynced when this returns.
            device.close(Duration::ZERO).await.unwrap_err();
            if !closes {
                std::fs::remove_file(dir.path().join("closed")).unwrap();
            }
        });
    }
    server.revive();
    server.faults().withhold_acks = true;
    runtime().block_on(async {
        let device = Device::connect(config(&server), on_disk(dir.path())).unwrap();
        record(&mut recorder(&device, "reading", Priority::Normal), half).await;
        let dropped = device.stats().events_dropped;
        assert!(dropped > 0);
        server.faults().withhold_acks = false;
        server.hang_up();
        device.flush(Level::Durable, PATIENCE).await.unwrap();
        device.close(PATIENCE).await.unwrap();
    });
    assert_eq!(stored(&server, "alarm"), 2 * (half / 4) * BATCH);
    assert_eq!(stored(&server, "reading"), half * BATCH);
    assert_eq!(server.memory().epochs.len(), 2);
}

#[test]
fn each_priority_s_file_is_written_once_however_batches_alternate() {
    let server = FakeServer::start();
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let config = config(&server).sync_every(Duration::from_secs(3600));
        let device = Device::connect(config, on_disk(dir.path())).unwrap();
        let mut recorders = [Priority::Low, Priority::High].map(|priority| recorder(&device, "s", priority));
        let mut fsyncs = Vec::new();
        for batches in [1, 3] {
            for _ in 0..batches {
                for recorder in &mut recorders {
                    record(recorder, 1).await;
                }
            }
            device.flush(Level::Durable, PATIENCE).await.unwrap();
            fsyncs.push(device.stats().spool_fsyncs);
        }
        assert_eq!(fsyncs[1] - fsyncs[0], 2);
    });
}
