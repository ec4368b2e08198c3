//! Rollups under a server that is killed again and again: whatever comes late, is deleted or split meanwhile, and whichever policies come
//! and go, the windows are those of a single pass, no row is there twice, and nothing is deleted before it is rolled up.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use icecore_device::{ColumnData, ColumnType, Device, Field, Gateway, Identity, Kind, Schema, Spool};
use icecore_load::pumps;
use icecore_log::{LogReader, RealDisk};
use icecore_tier::catalog::What;
use serde_json::{Value, json};

use crate::accounts::{catalog, wait_for_rest};
use crate::api::json;
use crate::cold::Cold;
use crate::harness::{Site, assert_success, crash_rounds, crash_seed, output, wait_until, workspace};

/// One pump is deleted soon.
const POLICIES: &str = r#"
[[policy]]
name   = "brief"
match  = { device = "pump/0" }
cold   = [{ after = "1s", store = "archive" }]
local  = { drop_after = "2s" }
rollup = [{ every = "5s", delete_after = "never", quantiles = true }]
delete = { after = "3s", undo = "1s" }

[[policy]]
name   = "kept"
cold   = [{ after = "1s", store = "archive" }]
local  = { drop_after = "2s" }
rollup = [{ every = "5s", delete_after = "never", quantiles = true }, MORE]
delete = "never"
"#;
const MORE: &str = r#"{ every = "1m", delete_after = "never" }"#;

/// Events in a batch, how far apart they are, and how far behind the others some come: the clocks of these pumps run fast.
const ROWS: usize = 50;
const STEP: i64 = 20_000_000;
const LATE: i64 = 10_000_000_000;
const VERY_LATE: i64 = 600_000_000_000;
const BATCH_EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn windows_are_those_of_one_pass_however_often_the_server_is_killed() {
    let (mut site, cold) = (Site::new(), Cold::Directory);
    cold.configure(&mut site);
    let mut random = Rng::with_seed(crash_seed());
    let address = site.keep_address();
    for (key, value) in [("SEAL__AFTER", "500ms"), ("TIER__INTERVAL", "200ms"), ("LOG__SEGMENT", "256KiB")] {
        site.set(key, value);
    }
    fs::write(site.path("retention.toml"), POLICIES.replace("MORE", "")).unwrap();
    let identity = Identity::load(site.enroll_gateway("gateway", "pump/*")).unwrap();
    let mut server = site.serve();
    wait_until("rollups to begin", || catalog(&site).rolled_up().unwrap().is_some());
    let pumps = FastPumps::start(address.to_string(), identity, random.fork());
    for round in 0..crash_rounds() {
        // A rollup that is added is made from then on: of every window that is touched, whole.
        if round == crash_rounds() / 2 {
            apply(&site, MORE);
        }
        thread::sleep(Duration::from_millis(random.u64(100..2_000)));
        server.kill();
        server = site.serve();
    }
    let events = pumps.finish();
    // What it holds in its last hot segment, the next one seals.
    assert!(server.stop().success());
    let end = LogReader::open(Arc::new(RealDisk), &site.path("data")).unwrap().positions().end;
    let server = site.serve();
    wait_for_rest(|| {
        let to = catalog(&site).rolled_up().unwrap().map_or(0, |rolled_up| rolled_up.position);
        (to < end).then(|| format!("rolled up to {to} of {end}"))
    });

    let rows = ["5s", "1m"].map(|every| rows(&site, every));
    assert!(rows.iter().all(|rows| rows.lines().count() > 10), "{} windows", rows[0].lines().count());
    no_row_is_there_twice(&rows[0]);
    compare(&site, &events, &rows[0], 5, true);
    compare(&site, &events, &rows[1], 60, false);
    the_api_gives_each_window_once(&site, &server, &rows[0]);
    nothing_was_deleted_before_it_was_rolled_up(&site);
    let listed = json(&server, "/v1/devices/pump%2F1");
    assert_eq!(
        listed["epochs"].as_array().unwrap().len(),
        1,
        "what is derived is no epoch of the device: {listed}"
    );
    assert!(server.stop().success());
}

fn apply(site: &Site, more: &str) {
    let file = site.path("proposed.toml");
    fs::write(&file, POLICIES.replace("MORE", more)).unwrap();
    site.expect(&["retention", "apply", file.to_str().unwrap(), "--yes"]);
}

/// All rows of windows this wide.
fn rows(site: &Site, every: &str) -> String {
    site.expect(&["replay", "--format", "ndjson", "--schema", &format!("pump@{every}")])
}

fn parsed(rows: &str) -> impl Iterator<Item = Value> {
    rows.lines().map(|line| serde_json::from_str(line).unwrap())
}

/// A device's window, and its revision.
fn key(row: &Value) -> (String, String, u64) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&row["device"]), text(&row["event_time"]), row["fields"]["revision"].as_u64().unwrap())
}

fn no_row_is_there_twice(rows: &str) {
    let mut all: Vec<_> = parsed(rows).map(|row| key(&row)).collect();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
    let partial = parsed(rows).filter(|row| row["fields"]["partial"] == true).count();
    println!("{count} rows, {partial} of them partial");
    assert!(partial > 0, "events come late to windows whose others are deleted");
}

/// A single pass in pandas gives the same, where `ICECORE_PANDAS` names a Python with it.
fn compare(site: &Site, events: &str, rows: &str, seconds: i64, whole: bool) {
    let Ok(python) = std::env::var("ICECORE_PANDAS") else {
        eprintln!("skipped: ICECORE_PANDAS does not name a Python with pandas");
        return;
    };
    let (events_file, rows_file) = (site.path("events.ndjson"), site.path("rows.ndjson"));
    fs::write(&events_file, events).unwrap();
    fs::write(&rows_file, rows).unwrap();
    let mut command = Command::new(python);
    command.arg(workspace().join("crates/server/tests/scenarios/rollups.py"));
    command.args([&events_file, &rows_file]).arg((seconds * 1_000_000_000).to_string());
    command.args(whole.then_some("whole"));
    let compared = output(command);
    assert_success(&compared);
    println!("{seconds} s: {}", String::from_utf8_lossy(&compared.stdout).trim());
}

fn the_api_gives_each_window_once(site: &Site, server: &crate::harness::Server, rows: &str) {
    let mut newest: BTreeMap<(String, String), Value> = BTreeMap::new();
    for row in parsed(rows) {
        let (device, start, revision) = key(&row);
        let known = newest.entry((device, start)).or_insert_with(|| row.clone());
        if known["fields"]["revision"].as_u64().unwrap() < revision {
            *known = row;
        }
    }
    let expected: Vec<Value> = newest.into_values().filter(|row| row["device"] == "pump/0").collect();
    let answer = server.get("/v1/devices/pump%2F0/rollups?schema=pump&every=5s");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut windows: Vec<Value> = parsed(body).collect();
    let end = windows.pop().unwrap()["end"].take();
    assert_eq!((&end["windows"], &end["more"]), (&json!(expected.len()), &json!(false)), "{end}");
    assert_eq!(windows, expected);
    let some = server.get("/v1/devices/pump%2F0/rollups?schema=pump&every=5000ms");
    assert!(some.starts_with("HTTP/1.0 400"), "{some}");
    let some = server.get("/v1/devices/pump%2F0/rollups?schema=pump&every=5s&limit=2");
    assert_eq!(some.split_once("\r\n\r\n").unwrap().1.lines().count(), 3, "{some}");
    let checked = site.expect(&["retention", "check", site.path("proposed.toml").to_str().unwrap()]);
    assert!(checked.contains("brief@5s: 1 device, "), "{checked}");
}

fn nothing_was_deleted_before_it_was_rolled_up(site: &Site) {
    let (mut behind, mut rolled_up, mut marks) = (BTreeMap::new(), 0, 0);
    for decision in catalog(site).history(..).unwrap() {
        let decision = decision.unwrap();
        match decision.what {
            What::Registered { segments, .. } => {
                behind.extend(segments.into_iter().map(|segment| (segment.id, segment.positions.end)));
            }
            What::RolledUp(now) => rolled_up = now.position,
            What::Marked { segment, .. } => {
                assert!(behind[&segment] <= rolled_up, "{segment} was marked when {rolled_up} was rolled up");
                marks += 1;
            }
            _ => {}
        }
    }
    assert!(marks > 0, "something was deleted");
}

/// Two pumps on a thread of their own, which stream through whatever happens to the server.
struct FastPumps {
    stopping: Arc<AtomicBool>,
    thread: thread::JoinHandle<String>,
}

impl FastPumps {
    fn start(server: String, identity: Identity, random: Rng) -> Self {
        let stopping = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stopping);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(stream(server, identity, &stopped, random))
        };
        Self { stopping, thread: thread::spawn(run) }
    }

    /// Waits until all is acked; returns all events, a line each.
    fn finish(self) -> String {
        self.stopping.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

async fn stream(server: String, identity: Identity, stopping: &AtomicBool, mut random: Rng) -> String {
    let gateway = Gateway::connect(pumps::config(server, identity)).unwrap();
    let all = Mutex::new(String::new());
    let record = async |name: &str, random: Rng| {
        let device = gateway.device(name.parse().unwrap(), Spool::Memory { max_bytes: 64 << 20 }).unwrap();
        record(&device, name, stopping, random, &all).await;
    };
    tokio::join!(record("pump/0", random.fork()), record("pump/1", random.fork()));
    gateway.close(PATIENCE).await.unwrap();
    all.into_inner().unwrap()
}

async fn record(device: &Device, name: &str, stopping: &AtomicBool, mut random: Rng, all: &Mutex<String>) {
    let fields = vec![
        Field::new("level", ColumnType::F64),
        Field::new("turns", ColumnType::U64).with_kind(Kind::Counter),
        Field::new("mode", ColumnType::Text).with_kind(Kind::State),
        Field::new("heading", ColumnType::F64).with_kind(Kind::Angle).with_unit("deg"),
    ];
    let mut recorder = device.recorder(Arc::new(Schema::new("pump", 1, fields).unwrap()));
    let mut clock = 1_700_000_000_000_000_000;
    let mut turns = 0;
    while !stopping.load(Ordering::Relaxed) {
        let times: [i64; ROWS] = std::array::from_fn(|_| {
            clock += STEP;
            clock
                - match random.u32(..500) {
                    0 => random.i64(LATE..VERY_LATE),
                    1..50 => random.i64(0..LATE),
                    _ => 0,
                }
        });
        let levels: [f64; ROWS] = std::array::from_fn(|_| 100.0 * random.f64());
        let counts: [u64; ROWS] = std::array::from_fn(|_| {
            turns = if random.u32(..100) == 0 { 0 } else { turns + random.u64(..5) };
            turns
        });
        let modes: [&str; ROWS] = std::array::from_fn(|_| ["idle", "run", "fault"][random.usize(..3)]);
        let headings: [f64; ROWS] = std::array::from_fn(|_| (340.0 + 40.0 * random.f64()) % 360.0);
        let columns = [
            ColumnData::F64(&levels).into(),
            ColumnData::U64(&counts).into(),
            ColumnData::Text(&modes).into(),
            ColumnData::F64(&headings).into(),
        ];
        recorder.columns(&times, &columns).await.unwrap();
        for row in 0..ROWS {
            let event = json!({ "device": name, "time": times[row], "level": levels[row], "turns": counts[row],
                "mode": modes[row], "heading": headings[row] });
            writeln!(all.lock().unwrap(), "{event}").unwrap();
        }
        tokio::time::sleep(BATCH_EVERY).await;
    }
}
