//! Devices without a clock: across their own crashes and reboots, and the server's silence.
#![expect(clippy::unwrap_used, reason = "fixtures of tests fail by panicking, like tests")]

#[allow(dead_code, reason = "each file of tests needs some of it")]
mod fake;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake::FakeServer;
use icecore_device::{
    Backoff, BatchPolicy, BootClock, Clock, ColumnType, Config, Device, Disconnect, Event, Field, Level,
    Recorder, Schema, Spool, Value,
};
use icecore_wire::Batch;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(20);
const SECOND: i64 = 1_000_000_000;
/// When the firmware was built.
const BUILT: i64 = 1_700_000_000 * SECOND;
/// What the server's clock says.
const NOW: i64 = 1_774_000_000 * SECOND;

/// A clock that stands still, in a boot of the test's choice.
#[derive(Debug, Default)]
struct Hands(Mutex<(u8, Duration)>);

impl Hands {
    fn set(&self, boot: u8, seconds: u64) {
        *self.0.lock().unwrap() = (boot, Duration::from_secs(seconds));
    }
}

impl BootClock for Hands {
    fn boot(&self) -> [u8; 16] {
        [self.0.lock().unwrap().0; 16]
    }

    fn uptime(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}

struct Bench {
    server: FakeServer,
    hands: Arc<Hands>,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let server = FakeServer::start();
        server.faults().server_time = NOW;
        Self { server, hands: Arc::default(), dir: tempfile::tempdir().unwrap() }
    }

    fn config(&self) -> Config {
        let identity = self.server.authority().identity("icecore:device:a");
        let backoff = Backoff { min: Duration::from_millis(20), max: Duration::from_millis(200) };
        let batch = BatchPolicy { max_rows: 100, max_age: None, ..BatchPolicy::default() };
        Config::new(self.server.address.to_string(), identity)
            .backoff(backoff)
            .batch(batch)
            .clock(Clock::Uptime { not_before: BUILT })
            .boot_clock(Arc::clone(&self.hands) as Arc<dyn BootClock>)
    }

    fn device(&self) -> Device {
        Device::connect(self.config(), spool(self.dir.path())).unwrap()
    }

    /// A life that ends by a crash: records one batch at each of `uptimes`, all of them on disk.
    fn crashes_after(&self, boot: u8, uptimes: &[u64]) {
        let runtime = runtime();
        runtime.block_on(async {
            self.hands.set(boot, 0);
            let device = self.device();
            for seconds in uptimes {
                self.hands.set(boot, *seconds);
                let mut recorder = recorder(&device);
                recorder.record(&[Value::U64(*seconds)]).await.unwrap();
                recorder.cut().await.unwrap();
            }
            // Nothing is sent without a server; this only has the spool write.
            device.flush(Level::Durable, Duration::from_millis(300)).await.unwrap_err();
        });
        runtime.shutdown_background();
    }

    /// What the server has: time and whether it is uncertain, by the value recorded, which is the uptime in seconds.
    fn stored(&self) -> Vec<(u64, i64, bool)> {
        let memory = self.server.memory();
        let mut rows = Vec::new();
        for payload in memory.epochs.values().flat_map(|kept| kept.batches.values()) {
            let batch = Batch::validate(payload.clone(), schema()).unwrap();
            for row in 0..batch.count() as usize {
                let Value::U64(uptime) = batch.column(0).value(row) else { panic!("the schema says U64") };
                rows.push((uptime, batch.times()[row], batch.header().time_uncertain()));
            }
        }
        rows.sort_unstable();
        rows
    }
}

fn spool(dir: &Path) -> Spool {
    Spool::Disk { dir: dir.to_owned(), max_bytes: 1 << 20 }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new("test", 1, vec![Field::new("uptime", ColumnType::U64)]).unwrap())
}

fn recorder(device: &Device) -> Recorder {
    device.recorder(schema())
}

/// `times` to within the round trip that the server's word takes.
#[track_caller]
fn assert_times(found: &[(u64, i64, bool)], expected: &[(u64, i64, bool)]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        let late = found.1 - expected.1;
        assert!((0..SECOND).contains(&late), "{found:?}, expected {expected:?}");
        assert_eq!((found.0, found.2), (expected.0, expected.2));
    }
}

fn what_was_recorded_before_the_clock_was_known_is_set_right(spool: impl Fn(&Path) -> Spool) {
    let mut bench = Bench::new();
    bench.server.kill();
    runtime().block_on(async {
        bench.hands.set(1, 5);
        let device = Device::connect(bench.config(), spool(bench.dir.path())).unwrap();
        let mut recorder = recorder(&device);
        recorder.record(&[Value::U64(5)]).await.unwrap();
        // A time that the caller knows is left alone, in a batch of its own.
        recorder.row(NOW - 1000 * SECOND, &[Value::U64(7)]).await.unwrap();
        bench.hands.set(1, 20);
        recorder.record(&[Value::U64(20)]).await.unwrap();
        recorder.cut().await.unwrap();
        bench.hands.set(1, 60);
        bench.server.revive();
        device.flush(Level::Durable, PATIENCE).await.unwrap();
        bench.hands.set(1, 100);
        recorder.record(&[Value::U64(100)]).await.unwrap();
        device.close(PATIENCE).await.unwrap();
    });
    let expected = [
        (5, NOW - 55 * SECOND, false),
        (7, NOW - 1000 * SECOND, false),
        (20, NOW - 40 * SECOND, false),
        (100, NOW + 40 * SECOND, false),
    ];
    assert_times(&bench.stored(), &expected);
}

#[test]
fn what_was_recorded_before_the_clock_was_known_is_set_right_from_memory() {
    what_was_recorded_before_the_clock_was_known_is_set_right(|_| Spool::Memory { max_bytes: 1 << 20 });
}

#[test]
fn what_was_recorded_before_the_clock_was_known_is_set_right_from_disk() {
    what_was_recorded_before_the_clock_was_known_is_set_right(spool);
}

#[test]
fn a_crash_within_a_boot_costs_no_certainty_and_a_reboot_does() {
    let mut bench = Bench::new();
    bench.server.kill();
    bench.crashes_after(1, &[10, 11]);
    bench.crashes_after(2, &[30]);
    bench.crashes_after(2, &[40]);
    bench.server.revive();
    runtime().block_on(async {
        bench.hands.set(2, 90);
        let device = bench.device();
        recorder(&device).record(&[Value::U64(90)]).await.unwrap();
        device.close(PATIENCE).await.unwrap();
    });
    let expected = [
        (10, BUILT + 10 * SECOND, true),
        (11, BUILT + 11 * SECOND, true),
        (30, NOW - 60 * SECOND, false),
        (40, NOW - 50 * SECOND, false),
        (90, NOW, false),
    ];
    assert_times(&bench.stored(), &expected);
}

#[test]
fn a_resend_after_a_crash_between_rebase_and_ack_is_the_same_to_the_byte() {
    let mut bench = Bench::new();
    bench.server.kill();
    bench.crashes_after(1, &[10]);
    bench.crashes_after(2, &[30]);
    bench.server.revive();
    bench.server.faults().withhold_acks = true;
    for (boot, uptime, server_time) in [(2, 90, NOW), (3, 5, NOW + 100_000 * SECOND)] {
        bench.server.faults().server_time = server_time;
        let life = runtime();
        life.block_on(async {
            bench.hands.set(boot, uptime);
            let device = bench.device();
            let all_arrived = async {
                while bench.server.memory().duplicates < u64::from(boot - 2) * 2 || bench.stored().len() < 2 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(PATIENCE, all_arrived).await.unwrap();
            drop(device);
        });
        life.shutdown_background();
        // The server has the batches, and does not tell so at the next attach: they come again.
        for kept in bench.server.memory().epochs.values_mut() {
            kept.forgetful = true;
        }
    }
    // The fake server compares what comes again.
    assert_times(&bench.stored(), &[(10, BUILT + 10 * SECOND, true), (30, NOW - 60 * SECOND, false)]);
    assert!(bench.server.memory().duplicates >= 2);
}

#[test]
fn the_last_known_time_is_kept_for_the_next_boot() {
    let mut bench = Bench::new();
    runtime().block_on(async {
        bench.hands.set(1, 10);
        let device = bench.device();
        recorder(&device).record(&[Value::U64(10)]).await.unwrap();
        device.close(PATIENCE).await.unwrap();
    });
    bench.server.kill();
    bench.crashes_after(2, &[20]);
    bench.server.revive();
    bench.server.faults().server_time = NOW + 500_000 * SECOND;
    runtime().block_on(async {
        bench.hands.set(3, 1);
        let device = bench.device();
        device.flush(Level::Durable, PATIENCE).await.unwrap();
    });
    let stored = bench.stored();
    assert_eq!(stored[1], (20, stored[1].1, true));
    let late = stored[1].1 - (NOW + 20 * SECOND);
    assert!((0..SECOND).contains(&late), "{stored:?}");
}

#[test]
fn a_server_with_a_clock_that_must_be_wrong_makes_no_time_certain() {
    let bench = Bench::new();
    bench.server.faults().server_time = BUILT - 1_000 * SECOND;
    runtime().block_on(async {
        bench.hands.set(1, 10);
        let device = bench.device();
        let mut events = device.events(100);
        let mut recorder = recorder(&device);
        for uptime in [10, 11] {
            bench.hands.set(1, uptime);
            recorder.record(&[Value::U64(uptime)]).await.unwrap();
            device.flush(Level::Durable, PATIENCE).await.unwrap();
        }
        // Somebody sets the server's clock.
        bench.server.faults().server_time = NOW;
        bench.hands.set(1, 60);
        bench.server.hang_up();
        while !matches!(events.next().await.unwrap(), Event::Disconnected { .. }) {}
        while !matches!(events.next().await.unwrap(), Event::Attached { .. }) {}
        recorder.record(&[Value::U64(60)]).await.unwrap();
        device.close(PATIENCE).await.unwrap();
    });
    let expected = [(10, BUILT, true), (11, BUILT + SECOND, true), (60, NOW, false)];
    assert_times(&bench.stored(), &expected);
}

#[test]
fn certificates_are_judged_by_the_best_clock_there_is() {
    let bench = Bench::new();
    bench.hands.set(1, 1);
    let refused = runtime().block_on(async {
        // The server's certificate is not valid yet in 1970.
        let config = bench.config().clock(Clock::Uptime { not_before: 0 });
        let device = Device::connect(config, Spool::Memory { max_bytes: 1 << 20 }).unwrap();
        let mut events = device.events(100);
        loop {
            if let Event::Disconnected { reason, .. } = events.next().await.unwrap() {
                break reason;
            }
        }
    });
    assert!(matches!(refused, Disconnect::ServerNotTrusted { .. }), "{refused}");
}
