//! A device is killed again and again while it streams from a spool on disk: what was acked is stored, once, and what
//! its spool had arrives.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use icecore_device::{Device, Event, Events, Identity, Level, Spool};
use icecore_load::promises::Acked;
use icecore_load::pumps::{config, record};

use crate::harness::{Site, crash_rounds};

/// More than a device takes to connect, and to send what its spool holds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells the device process where its server is.
const SERVER: &str = "ICECORE_TEST_SERVER";

/// Tells it where its identity, its spool and its notes of what was acked are.
const HOME: &str = "ICECORE_TEST_HOME";

/// Tells it to send what its spool holds and then to end.
const LAST: &str = "ICECORE_TEST_LAST";

/// Noted instead of a digest that the device does not know.
const UNKNOWN: &str = "unknown";

#[test]
fn nothing_acked_is_lost_when_the_device_is_killed() {
    let site = Site::new();
    let home = site.enroll_device("pump");
    let server = site.serve();
    for _ in 0..crash_rounds() {
        let notes = length(&home.join("acked"));
        let mut device = start_device(server.quic, &home, false);
        await_notes(&home, notes, &mut device);
        thread::sleep(Duration::from_millis(fastrand::u64(..300)));
        device.kill().unwrap();
        device.wait().unwrap();
    }
    assert!(start_device(server.quic, &home, true).wait().unwrap().success());
    assert!(server.stop().success());

    let acked = read_notes(&home);
    let stored = acked.check(&site.path("data")).unwrap();
    println!(
        "{} batches of {} epochs were noted as acked, {} are stored",
        acked.count(),
        acked.epochs(),
        stored.batches
    );
    assert!(acked.epochs() > 1, "a killed device starts a new epoch");
}

/// Runs this test binary again, as a device.
fn start_device(server: SocketAddr, home: &Path, last: bool) -> Child {
    let mut device = Command::new(env::current_exe().unwrap());
    device.args(["--ignored", "--exact", "--nocapture", "crash_device::device_process"]);
    device.env(SERVER, server.to_string()).env(HOME, home).stdout(Stdio::null());
    if last {
        device.env(LAST, "1");
    }
    device.spawn().unwrap()
}

/// Waits until the device has noted an ack.
fn await_notes(home: &Path, before: u64, device: &mut Child) {
    let start = Instant::now();
    while length(&home.join("acked")) == before {
        assert!(start.elapsed() < PATIENCE, "no ack within {PATIENCE:?}");
        assert!(device.try_wait().unwrap().is_none(), "the device ended by itself");
        thread::sleep(Duration::from_millis(5));
    }
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

/// Notes are lines of device, epoch, first sequence, end and digest. The last one before a kill may be cut short.
fn read_notes(home: &Path) -> Acked {
    let acked = Acked::default();
    for line in fs::read_to_string(home.join("acked")).unwrap().lines() {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (device, epoch) = (word().parse(), word().parse());
        let (first, end, digest) = (word().parse(), word().parse(), word());
        let known = digest.parse().ok();
        if let (Ok(device), Ok(epoch), Ok(first), Ok(end)) = (device, epoch, first, end)
            && (known.is_some() || digest == UNKNOWN)
        {
            acked.insert(device, epoch, first..end, known);
        }
    }
    acked
}

#[test]
#[ignore = "this is the process that the other test kills"]
fn device_process() {
    let Ok(server) = env::var(SERVER) else { return };
    let home = PathBuf::from(env::var(HOME).unwrap());
    let last = env::var(LAST).is_ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let identity = Identity::load(&home).unwrap();
        let spool = Spool::Disk { dir: home.join("spool"), max_bytes: 64 << 20 };
        let device = Device::connect(config(server, identity), spool).unwrap();
        let noting = tokio::spawn(note(device.events(1 << 20), home.join("acked")));
        // Only the last device process ends by itself.
        record(device.clone(), &AtomicBool::new(last), &AtomicU64::new(0)).await.unwrap();
        device.close(PATIENCE).await.unwrap();
        noting.await.unwrap();
    });
}

/// Appends every ack to `notes`, synced.
async fn note(mut events: Events, notes: PathBuf) {
    let mut notes = File::options().create(true).append(true).open(notes).unwrap();
    // What a kill has cut short ends here.
    notes.write_all(b"\n").unwrap();
    while let Some(event) = events.next().await {
        if let Event::Acked { device, epoch, range, level, digest, .. } = event
            && level >= Level::Durable
        {
            let digest = digest.map_or(UNKNOWN.to_owned(), |digest| digest.to_string());
            let line = format!("{device} {epoch} {} {} {digest}\n", range.start, range.end);
            notes.write_all(line.as_bytes()).unwrap();
            notes.sync_data().unwrap();
        }
    }
}
