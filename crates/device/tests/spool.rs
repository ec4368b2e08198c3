//! The spool on disk, across crashes and clean closes of the device, and of the server.
#![expect(clippy::unwrap_used, reason = "fixtures of tests fail by panicking, like tests")]

#[allow(dead_code, reason = "each file of tests needs some of it")]
mod fake;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fake::FakeServer;
use icecore_device::{
    Backoff, BatchPolicy, Code, ColumnType, Compression, Config, ConnectError, Device, Event, Field, Level,
    Schema, SequenceRanges, Spool, SpoolError, Value, WhenFull,
};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(20);
const PLENTY: u64 = 64 << 20;

fn config(server: &FakeServer) -> Config {
    let batch = BatchPolicy { max_rows: 10, max_age: None, ..BatchPolicy::default() };
    let backoff = Backoff { min: Duration::from_millis(20), max: Duration::from_millis(200) };
    let identity = server.authority().identity("icecore:device:a");
    Config::new(server.address.to_string(), identity).batch(batch).backoff(backoff)
}

fn spool(dir: &Path, max_bytes: u64) -> Spool {
    Spool::Disk { dir: dir.to_owned(), max_bytes }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Records `rows` events and waits until they are in the spool's files.
async fn record(device: &Device, rows: std::ops::Range<i64>) {
    let schema = Schema::new("test", 1, vec![Field::new("n", ColumnType::I64)]).unwrap();
    let mut recorder = device.recorder(Arc::new(schema));
    for n in rows {
        recorder.row(n, &[Value::I64(n)]).await.unwrap();
    }
    recorder.cut().await.unwrap();
}

/// A life of the device that ends by SIGKILL, after `rows` events were recorded while the server is away.
fn killed_after(config: Config, dir: &Path, rows: std::ops::Range<i64>) {
    let runtime = runtime();
    runtime.block_on(async {
        let device = Device::connect(config, spool(dir, PLENTY)).unwrap();
        record(&device, rows).await;
        // Until the blocking thread has fsynced; nothing tells so to the outside.
        tokio::time::sleep(Duration::from_millis(300)).await;
    });
    runtime.shutdown_background();
}

fn spool_files(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "spool")).collect();
    files.sort();
    files
}

/// Makes of a spool file what it would be if it had been begun before files said in which boot: its first frame, 16 bytes
/// and a payload of 56, ends 16 bytes earlier.
fn without_a_boot(file: &Path) {
    let bytes = fs::read(file).unwrap();
    let (mut header, payload, rest) = (bytes[..16].to_vec(), &bytes[16..56], &bytes[16 + 64..]);
    assert_eq!(header[4..8], 56_u32.to_le_bytes());
    header[4..8].copy_from_slice(&40_u32.to_le_bytes());
    // Over epoch and number, which the payload ends with, and the frame.
    let summed = [&payload[16..40], &header[..8], payload].concat();
    header[8..12].copy_from_slice(&crc32c::crc32c(&summed).to_le_bytes());
    fs::write(file, [&header[..], payload, &[0; 8], rest].concat()).unwrap();
}

#[test]
fn a_spool_of_before_boot_ids_is_delivered_and_begins_an_epoch() {
    let mut server = FakeServer::start();
    server.kill();
    let dir = tempfile::tempdir().unwrap();
    killed_after(config(&server), dir.path(), 0..30);
    without_a_boot(&spool_files(dir.path())[0]);
    server.revive();
    runtime().block_on(async {
        let device = Device::connect(config(&server), spool(dir.path(), PLENTY)).unwrap();
        record(&device, 0..20).await;
        device.close(PATIENCE).await.unwrap();
    });
    let mut stored = server.stored("a");
    stored.sort_unstable_by_key(SequenceRanges::count);
    assert_eq!(stored, [SequenceRanges::from(0..20), SequenceRanges::from(0..30)]);
}

#[test]
fn a_wiped_spool_begins_an_epoch_and_what_is_new_is_stored() {
    let server = FakeServer::start();
    let dir = tempfile::tempdir().unwrap();
    for (lives, rows) in [(1, 0..30), (2, 0..20)] {
        runtime().block_on(async {
            let device = Device::connect(config(&server), spool(dir.path(), PLENTY)).unwrap();
            record(&device, rows).await;
            device.close(PATIENCE).await.unwrap();
        });
        assert_eq!(server.stored("a").len(), lives);
        for entry in fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
    assert_eq!(server.stored("a"), [SequenceRanges::from(0..30), SequenceRanges::from(0..20)]);
    assert_eq!(server.memory().duplicates, 0);
}

#[test]
fn a_killed_device_delivers_under_the_old_epoch_and_records_under_a_new_one() {
    let mut server = FakeServer::start();
    server.kill();
    let dir = tempfile::tempdir().unwrap();
    killed_after(config(&server), dir.path(), 0..100);
    killed_after(config(&server), dir.path(), 0..50);
    server.revive();
    runtime().block_on(async {
        let device = Device::connect(config(&server), spool(dir.path(), PLENTY)).unwrap();
        record(&device, 0..30).await;
        device.close(PATIENCE).await.unwrap();
    });
    let mut counts: Vec<_> = server.stored("a").iter().map(SequenceRanges::count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [30, 50, 100]);
    assert_eq!(server.memory().duplicates, 0);
    assert_eq!(spool_files(dir.path()).len(), 1, "what was acked is trimmed");
}

#[test]
fn a_clean_close_goes_on_with_the_epoch_and_delivers_what_was_left() {
    let mut server = FakeServer::start();
    server.kill();
    let dir = tempfile::tempdir().unwrap();
    let mut epochs = Vec::new();
    for life in 0..3 {
        runtime().block_on(async {
            let device = Device::connect(config(&server), spool(dir.path(), PLENTY)).unwrap();
            epochs.push(device.epoch());
            record(&device, life * 20..(life + 1) * 20).await;
            device.close(Duration::from_millis(100)).await.unwrap_err();
        });
    }
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    server.revive();
    runtime().block_on(async {
        let device = Device::connect(config(&server), spool(dir.path(), PLENTY)).unwrap();
        device.flush(Level::Durable, PATIENCE).await.unwrap();
    });
    assert_eq!(server.stored("a"), [(0..60).into()]);
}

#[test]
fn a_copied_spool_starts_a_new_epoch() {
    let server = FakeServer::start();
    let dir = tempfile::tempdir().unwrap();
    let (original, copy) = (dir.path().join("original"), dir.path().join("copy"));
    let open = |dir: &Path| {
        runtime().block_on(async {
            let device = Device::connect(config(&server), spool(dir, PLENTY)).unwrap();
            let epoch = device.epoch();
            record(&device, 0..20).await;
            device.close(PATIENCE).await.unwrap();
            epoch
        })
    };
    let first = open(&original);
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(&original).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    assert_ne!(open(&copy), first);
    assert_eq!(open(&original), first);
    // Restored in place: the same inode with older content.
    let newest = spool_files(&original).pop().unwrap();
    let content = fs::read(&newest).unwrap();
    fs::write(&newest, content).unwrap();
    assert_ne!(open(&original), first);
}

#[test]
fn a_spool_is_for_one_process() {
    let server = FakeServer::start();
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let first = Device::connect(config(&server), spool(dir.path(), PLENTY)).unwrap();
        let second = Device::connect(config(&server), spool(dir.path(), PLENTY));
        assert!(matches!(second, Err(ConnectError::Spool(SpoolError::InUse { .. }))));
        first.close(PATIENCE).await.unwrap();
        Device::connect(config(&server), spool(dir.path(), PLENTY)).unwrap();
    });
}

#[test]
fn a_spool_is_let_go_of_after_its_runtime_has_ended() {
    let server = FakeServer::start();
    let dir = tempfile::tempdir().unwrap();
    let ended = runtime();
    let device =
        ended.block_on(async { Device::connect(config(&server), spool(dir.path(), PLENTY)).unwrap() });
    drop(ended);
    let other = runtime();
    other.block_on(record(&device, 0..10));
    drop((device, other));
    runtime().block_on(async {
        Device::connect(config(&server), spool(dir.path(), PLENTY)).unwrap();
    });
}

#[test]
fn a_torn_tail_costs_only_what_was_never_sent() {
    let mut server = FakeServer::start();
    server.kill();
    let dir = tempfile::tempdir().unwrap();
    killed_after(config(&server), dir.path(), 0..100);
    let file = spool_files(dir.path()).pop().unwrap();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 20]).unwrap();
    server.revive();
    runtime().block_on(async {
        let device = Device::connect(config(&server), spool(dir.path(), PLENTY)).unwrap();
        device.flush(Level::Durable, PATIENCE).await.unwrap();
    });
    assert!(server.stored("a").contains(&(0..90).into()), "{:?}", server.stored("a"));
}

#[test]
fn damage_within_the_spool_is_reported_as_dropped() {
    let mut server = FakeServer::start();
    server.kill();
    let dir = tempfile::tempdir().unwrap();
    // Small files: damage in the first must not take the second along.
    runtime().block_on(async {
        let device = Device::connect(config(&server), spool(dir.path(), 1 << 20)).unwrap();
        record(&device, 0..3000).await;
        device.close(Duration::from_millis(100)).await.unwrap_err();
    });
    let files = spool_files(dir.path());
    assert!(files.len() > 1, "{files:?}");
    let mut bytes = fs::read(&files[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&files[0], bytes).unwrap();
    server.revive();
    runtime().block_on(async {
        let device = Device::connect(config(&server), spool(dir.path(), 1 << 20)).unwrap();
        device.flush(Level::Durable, PATIENCE).await.unwrap();
        device.close(PATIENCE).await.unwrap();
    });
    let memory = server.memory();
    let kept = memory.epochs.values().find(|kept| !kept.stored.is_empty()).unwrap();
    assert!(!kept.settled.is_empty());
    let mut all = kept.stored.clone();
    all.insert_all(&kept.settled);
    assert_eq!(all, (0..3000).into(), "every sequence is stored or known to be dropped");
}

#[test]
fn a_full_spool_drops_whole_files_and_remembers_it_across_a_crash() {
    let mut server = FakeServer::start();
    server.kill();
    let dir = tempfile::tempdir().unwrap();
    let config = config(&server).when_full(WhenFull::DropOldest);
    let life = runtime();
    let dropped = life.block_on(async {
        let device = Device::connect(config.clone(), spool(dir.path(), 256 << 10)).unwrap();
        record(&device, 0..10_000).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        device.stats().events_dropped
    });
    life.shutdown_background();
    assert!(dropped > 1000, "{dropped}");
    let bytes: u64 = spool_files(dir.path()).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(bytes < 512 << 10, "{bytes} bytes");
    server.revive();
    runtime().block_on(async {
        let device = Device::connect(config, spool(dir.path(), 256 << 10)).unwrap();
        device.flush(Level::Durable, PATIENCE).await.unwrap();
        device.close(PATIENCE).await.unwrap();
    });
    let memory = server.memory();
    let kept = memory.epochs.values().find(|kept| !kept.stored.is_empty()).unwrap();
    assert_eq!(kept.settled, (0..dropped).into());
    assert_eq!(kept.stored, (dropped..10_000).into());
}

#[test]
fn a_backlog_larger_than_the_cache_is_read_back_and_sent() {
    let mut server = FakeServer::start();
    server.kill();
    let dir = tempfile::tempdir().unwrap();
    let batch = BatchPolicy { max_rows: 10_000, max_bytes: 512 << 10, max_age: None };
    let config = config(&server).batch(batch);
    runtime().block_on(async {
        let device = Device::connect(config.clone(), spool(dir.path(), PLENTY)).unwrap();
        record(&device, 0..1_000_000).await;
        device.close(Duration::from_millis(100)).await.unwrap_err();
    });
    server.revive();
    runtime().block_on(async {
        let device = Device::connect(config, spool(dir.path(), PLENTY)).unwrap();
        record(&device, 0..100_000).await;
        device.close(PATIENCE).await.unwrap();
    });
    assert_eq!(server.stored("a"), [(0..1_100_000).into()]);
}

#[test]
fn live_batches_overtake_a_backlog_on_disk() {
    let mut server = FakeServer::start();
    server.kill();
    let dir = tempfile::tempdir().unwrap();
    let batch = BatchPolicy { max_rows: 10_000, max_bytes: 512 << 10, max_age: None };
    let config = config(&server).batch(batch);
    runtime().block_on(async {
        let device = Device::connect(config, spool(dir.path(), PLENTY)).unwrap();
        record(&device, 0..500_000).await;
        let mut events = device.events(10_000);
        server.faults().stall_backlog = true;
        server.revive();
        while !matches!(events.next().await.unwrap(), Event::Attached { .. }) {}
        record(&device, 500_000..600_000).await;
        let mut acked = 0;
        while acked < 100_000 {
            match tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap() {
                Event::Acked { range, .. } => {
                    assert!(range.start >= 500_000, "{range:?}");
                    acked += range.end - range.start;
                }
                _ => continue,
            }
        }
        server.faults().stall_backlog = false;
        device.close(PATIENCE).await.unwrap();
    });
    assert_eq!(server.stored("a"), [(0..600_000).into()]);
}

#[test]
fn a_batch_refused_for_good_is_kept_for_people() {
    let server = FakeServer::start();
    server.faults().reject.insert(10);
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let device = Device::connect(config(&server), spool(dir.path(), PLENTY)).unwrap();
        record(&device, 0..30).await;
        device.close(PATIENCE).await.unwrap();
        let kept = dir.path().join("rejected").join(format!(
            "{}-10-{}.batch",
            device_epoch(&server),
            Code::MalformedBatch.name()
        ));
        assert!(kept.exists(), "{}", kept.display());
    });
}

fn device_epoch(server: &FakeServer) -> icecore_device::Epoch {
    server.memory().epochs.keys().next().unwrap().1
}

#[test]
fn batches_written_together_reach_the_disk_now_and_then_and_at_a_flush() {
    let server = FakeServer::start();
    let dir = tempfile::tempdir().unwrap();
    let config = config(&server).sync_every(Duration::from_secs(3600));
    let life = runtime();
    life.block_on(async {
        let device = Device::connect(config.clone(), spool(dir.path(), PLENTY)).unwrap();
        record(&device, 0..10).await;
        device.flush(Level::Durable, PATIENCE).await.unwrap();
        let before = device.stats();
        record(&device, 10..510).await;
        device.flush(Level::Durable, PATIENCE).await.unwrap();
        let after = device.stats();
        assert_eq!(after.spool_fsyncs - before.spool_fsyncs, 1, "{before:?} {after:?}");
        let files: u64 = spool_files(dir.path()).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
        assert_eq!(after.spool_bytes_written, files);
        // Within the loss window when the power is cut.
        record(&device, 510..530).await;
    });
    life.shutdown_background();
    runtime().block_on(async {
        let device = Device::connect(config, spool(dir.path(), PLENTY)).unwrap();
        device.flush(Level::Durable, PATIENCE).await.unwrap();
    });
    assert_eq!(server.stored("a")[0], (0..510).into());
}

#[test]
fn what_waits_for_the_disk_is_bounded_however_rarely_it_is_written() {
    let server = FakeServer::start();
    let dir = tempfile::tempdir().unwrap();
    let batch = BatchPolicy { max_rows: 1000, max_age: None, ..BatchPolicy::default() };
    let config = config(&server).sync_every(Duration::from_secs(3600)).batch(batch);
    runtime().block_on(async {
        let config = config.compression(Compression::Off);
        let device = Device::connect(config, spool(dir.path(), 256 << 10)).unwrap();
        // More than the spool takes: recording waits for acks, and these for early fsyncs.
        record(&device, 0..50_000).await;
        device.close(PATIENCE).await.unwrap();
    });
    assert_eq!(server.stored("a"), [(0..50_000).into()]);
}

/// Ends the connection and waits for the next one.
async fn reconnected(device: &Device, server: &FakeServer) {
    let mut events = device.events(1000);
    server.hang_up();
    let attached = async { while !matches!(events.next().await, Some(Event::Attached { .. })) {} };
    tokio::time::timeout(PATIENCE, attached).await.unwrap();
}

fn keeps_until_archived(spools: [Spool; 2]) {
    let server = FakeServer::start();
    let [first, second] = spools;
    let restarts = matches!(first, Spool::Disk { .. });
    let config = config(&server).keep_until(Level::Archived);
    runtime().block_on(async {
        let device = Device::connect(config.clone(), first).unwrap();
        record(&device, 0..30).await;
        device.flush(Level::Durable, PATIENCE).await.unwrap();
        // What is stored is not sent again, ...
        reconnected(&device, &server).await;
        assert_eq!((device.stats().batches_sent, device.stats().events_acked), (3, 30));
        // ... unless the server has lost it.
        server.memory().epochs.values_mut().next().unwrap().stored.remove(10..20);
        reconnected(&device, &server).await;
        device.flush(Level::Durable, PATIENCE).await.unwrap();
        assert_eq!(server.stored("a"), [(0..30).into()]);
        assert_eq!(device.stats().batches_sent, 4);
        device.flush(Level::Archived, Duration::ZERO).await.unwrap_err();
        if restarts {
            device.close(PATIENCE).await.unwrap();
        } else {
            archive(&device, &server).await;
        }
    });
    if restarts {
        runtime().block_on(async {
            let device = Device::connect(config, second).unwrap();
            device.flush(Level::Durable, PATIENCE).await.unwrap();
            assert_eq!(device.stats().batches_sent, 0);
            archive(&device, &server).await;
            device.close(PATIENCE).await.unwrap();
        });
    }
}

/// Lets the server archive everything, and the device hear of it.
async fn archive(device: &Device, server: &FakeServer) {
    for kept in server.memory().epochs.values_mut() {
        kept.archived = kept.stored.clone();
    }
    reconnected(device, server).await;
    device.flush(Level::Archived, PATIENCE).await.unwrap();
}

#[test]
fn durable_batches_are_kept_in_memory_until_archived_and_sent_again_if_the_server_lost_them() {
    let memory = || Spool::Memory { max_bytes: 1 << 20 };
    keeps_until_archived([memory(), memory()]);
}

#[test]
fn durable_batches_are_kept_on_disk_until_archived_and_sent_again_if_the_server_lost_them() {
    let dir = tempfile::tempdir().unwrap();
    keeps_until_archived([spool(dir.path(), PLENTY), spool(dir.path(), PLENTY)]);
}

#[test]
fn what_is_only_kept_makes_way_in_silence() {
    let server = FakeServer::start();
    let dir = tempfile::tempdir().unwrap();
    let batch = BatchPolicy { max_rows: 1000, max_age: None, ..BatchPolicy::default() };
    let config = config(&server).keep_until(Level::Archived).batch(batch).compression(Compression::Off);
    for spool in [spool(dir.path(), 256 << 10), Spool::Memory { max_bytes: 256 << 10 }] {
        runtime().block_on(async {
            let device = Device::connect(config.clone(), spool).unwrap();
            record(&device, 0..50_000).await;
            device.flush(Level::Durable, PATIENCE).await.unwrap();
            assert_eq!(device.stats().events_dropped, 0);
        });
    }
    assert_eq!(server.stored("a"), [(0..50_000).into(), (0..50_000).into()]);
    assert!(server.memory().epochs.values().all(|kept| kept.settled.is_empty()));
    let bytes: u64 = spool_files(dir.path()).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!((128 << 10..512 << 10).contains(&bytes), "{bytes} bytes are kept");
}

#[test]
fn a_spool_smaller_than_a_file_goes_on_when_it_was_full() {
    let server = FakeServer::start();
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let config = config(&server).compression(Compression::Off);
        let device = Device::connect(config, spool(dir.path(), 16 << 10)).unwrap();
        tokio::time::timeout(PATIENCE, record(&device, 0..10_000)).await.unwrap();
        device.close(PATIENCE).await.unwrap();
    });
    assert_eq!(server.stored("a"), [(0..10_000).into()]);
    let bytes: u64 = spool_files(dir.path()).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(bytes < 20 << 10, "{bytes} bytes");
}
