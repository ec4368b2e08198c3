//! Replays of real logs on a real disk.

#![expect(clippy::unwrap_used, reason = "fixtures of tests fail by panicking, like tests")]

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_log::{Appender, Committer, Encoder, HotLog, NewBatch, OnDamage, Options, RealDisk, Source};
use icecore_replay::{Csv, EventTimes, Followed, Ndjson, Order, Query, Replay, ReplayError};
use icecore_wire::{BatchBuilder, ColumnType, Digest, EncodeOptions, Epoch, Field, Schema, Value};

const RECEIVED: i64 = 1_700_000_000_000_000_000;

/// A log being written.
struct Log {
    directory: tempfile::TempDir,
    appender: Appender,
    committer: Committer,
}

impl Log {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk);
        let (appender, committer, _) =
            HotLog::open(disk, directory.path(), Options::default(), RECEIVED, &mut |_| {}).unwrap();
        Self { directory, appender, committer }
    }

    fn data(&self) -> &Path {
        self.directory.path()
    }

    fn replay(&self) -> Replay {
        Replay::open(self.data()).unwrap()
    }

    /// Adds one batch to the block being built.
    fn batch(
        &mut self,
        source: &Arc<Source>,
        schema: &Arc<Schema>,
        first_sequence: u64,
        rows: &[(i64, Vec<Value<'_>>)],
    ) {
        let mut builder = BatchBuilder::new(Arc::clone(schema));
        rows.iter().for_each(|(time, values)| builder.row(*time, values).unwrap());
        let payload = builder.finish(first_sequence, EncodeOptions::default()).unwrap();
        let (digest, count) = (Digest::of(&payload), rows.len() as u32);
        let batch = NewBatch { payload, first_sequence, count, digest, compressed: false };
        self.appender.batch(source, schema, batch);
    }

    fn commit(&mut self) {
        let mut block = Encoder::new().encode(self.appender.finish(RECEIVED), 1);
        self.committer.commit(&mut block).unwrap();
    }

    fn csv(&self, query: &Query) -> String {
        let (replay, mut out) = (self.replay(), Vec::new());
        let mut sink = Csv::new(&mut out, &replay.schemas(query).unwrap()).unwrap();
        replay.run(query, &mut sink).unwrap();
        drop(sink);
        String::from_utf8(out).unwrap()
    }

    fn ndjson(&self, query: &Query) -> Vec<serde_json::Value> {
        let mut out = Vec::new();
        self.replay().run(query, &mut Ndjson::new(&mut out)).unwrap();
        out.split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    fn newest_segment(&self) -> PathBuf {
        let entries = std::fs::read_dir(self.data().join("hot")).unwrap();
        let segments = entries.map(|entry| entry.unwrap().path());
        segments.filter(|path| path.extension().is_some_and(|end| end == "hot")).max().unwrap()
    }
}

fn source(device: &str, number: u32) -> Arc<Source> {
    let epoch = Epoch::from_bytes([number as u8; 16]);
    Arc::new(Source { device: device.parse().unwrap(), epoch, number })
}

fn schema(name: &str) -> Arc<Schema> {
    Arc::new(Schema::new(name, 1, vec![Field::new("value", ColumnType::I64).nullable()]).unwrap())
}

fn rows(times: &[i64]) -> Vec<(i64, Vec<Value<'static>>)> {
    times.iter().map(|&time| (time, vec![Value::I64(time)])).collect()
}

fn query(devices: &str, schemas: &str) -> Query {
    Query { devices: devices.parse().unwrap(), schemas: schemas.parse().unwrap(), ..Query::default() }
}

/// Two devices, two schemas, batches in turn.
fn two_devices() -> Log {
    let mut log = Log::new();
    let (a, b) = (source("hall/a", 0), source("hall/b", 0));
    log.batch(&a, &schema("flow"), 0, &rows(&[5, 3]));
    log.batch(&b, &schema("flow"), 0, &rows(&[4, 4, 1]));
    log.commit();
    log.batch(&a, &schema("heat"), 2, &rows(&[4, 9]));
    log.commit();
    log
}

/// (device, schema, sequence, event time) of every event.
fn outline(events: &[serde_json::Value]) -> Vec<(String, String, u64, i64)> {
    let text = |event: &serde_json::Value, key: &str| event[key].as_str().unwrap().to_owned();
    events
        .iter()
        .map(|event| {
            let value = event["fields"]["value"].as_i64().unwrap();
            (text(event, "device"), text(event, "schema"), event["seq"].as_u64().unwrap(), value)
        })
        .collect()
}

fn expected(events: &[(&str, &str, u64, i64)]) -> Vec<(String, String, u64, i64)> {
    events.iter().map(|&(device, schema, seq, time)| (device.into(), schema.into(), seq, time)).collect()
}

#[test]
fn log_order_is_position_order() {
    let events = two_devices().ndjson(&Query::default());
    let positions: Vec<u64> = events.iter().map(|event| event["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(
        outline(&events)[..4],
        expected(&[
            ("hall/a", "flow", 0, 5),
            ("hall/a", "flow", 1, 3),
            ("hall/b", "flow", 0, 4),
            ("hall/b", "flow", 1, 4)
        ])
    );
    assert_eq!(events[0]["received_time"], "2023-11-14T22:13:20.000000000Z");
}

#[test]
fn time_order_mixes_devices_and_schemas() {
    let events = two_devices().ndjson(&Query { order: Order::Time, ..Query::default() });
    assert_eq!(
        outline(&events),
        expected(&[
            ("hall/b", "flow", 2, 1),
            ("hall/a", "flow", 1, 3),
            ("hall/a", "heat", 2, 4),
            ("hall/b", "flow", 0, 4),
            ("hall/b", "flow", 1, 4),
            ("hall/a", "flow", 0, 5),
            ("hall/a", "heat", 3, 9)
        ])
    );
}

#[test]
fn devices_schemas_and_times_narrow_the_query() {
    let log = two_devices();
    let times = EventTimes { from: Some(3), to: Some(5) };
    let narrow = Query { times, ..query("hall/?", "fl*") };
    let expected = expected(&[("hall/a", "flow", 1, 3), ("hall/b", "flow", 0, 4), ("hall/b", "flow", 1, 4)]);
    assert_eq!(outline(&log.ndjson(&narrow)), expected);
    let count = log.replay().count(&narrow).unwrap();
    assert_eq!((count.coverage.present, count.batches, count.devices), (3, 2, 2));
    assert!(count.bytes > 0);
    let none = log.replay().count(&query("*/c", "*")).unwrap();
    assert_eq!((none.batches, &*none.coverage.to_string()), (0, "0 events present, nothing missing"));
}

#[test]
fn csv_takes_one_schema_and_names_the_others() {
    let log = two_devices();
    let replay = log.replay();
    let both = replay.schemas(&query("*", "*")).unwrap();
    let message = Csv::new(io::sink(), &both).unwrap_err().to_string();
    assert!(message.contains("flow, heat"), "{message}");
    assert_eq!(
        log.csv(&query("*", "heat")),
        "device,epoch,seq,timestamp,value\n\
         hall/a,0,2,1970-01-01T00:00:00.000000004Z,4\n\
         hall/a,0,3,1970-01-01T00:00:00.000000009Z,9\n"
    );
    assert_eq!(log.csv(&query("*/b", "heat")), "device,epoch,seq,timestamp\n", "b never sent it");
}

#[test]
fn epochs_are_told_apart() {
    let mut log = Log::new();
    log.batch(&source("d", 0), &schema("flow"), 0, &rows(&[7]));
    log.batch(&source("d", 1), &schema("flow"), 0, &rows(&[7]));
    log.commit();
    let lines = log.csv(&Query { order: Order::Time, ..Query::default() });
    let starts: Vec<&str> = lines.lines().skip(1).map(|line| &line[..5]).collect();
    assert_eq!(starts, ["d,0,0", "d,1,0"]);
}

#[test]
fn a_replay_sees_the_log_as_it_was_when_opened() {
    let mut log = Log::new();
    let device = source("d", 0);
    log.batch(&device, &schema("flow"), 0, &rows(&[1]));
    log.commit();
    let replay = log.replay();
    log.batch(&device, &schema("flow"), 1, &rows(&[2]));
    log.commit();
    assert_eq!(replay.count(&Query::default()).unwrap().coverage.present, 1);
    assert_eq!(log.replay().count(&Query::default()).unwrap().coverage.present, 2);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let replayed = two_devices().replay().run(&Query::default(), &mut Ndjson::new(Closed)).unwrap();
    assert!(replayed.cut_short);
}

#[test]
fn damage_is_named_and_what_came_before_it_is_written() {
    let mut log = Log::new();
    let device = source("d", 0);
    for sequence in 0..3 {
        log.batch(&device, &schema("flow"), sequence, &rows(&[sequence as i64]));
        log.commit();
    }
    let segment = log.newest_segment();
    let mut bytes = std::fs::read(&segment).unwrap();
    let blocks: Vec<usize> =
        (0..bytes.len()).step_by(512).filter(|&at| bytes[at..].starts_with(b"ICEBLOCK")).collect();
    let [.., second, _third] = blocks[..] else { panic!("three blocks were written: {blocks:?}") };
    bytes[second + 40] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    let mut out = Vec::new();
    let error = log.replay().run(&Query::default(), &mut Ndjson::new(&mut out)).unwrap_err();
    assert!(matches!(error, ReplayError::Log(_)));
    assert!(error.to_string().contains(&*segment.file_name().unwrap().to_string_lossy()), "{error}");
    assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);

    let around = Query { on_damage: OnDamage::Skip, ..Query::default() };
    let mut out = Vec::new();
    let replayed = log.replay().run(&around, &mut Ndjson::new(&mut out)).unwrap();
    assert_eq!((replayed.coverage.present, replayed.coverage.damage.len()), (2, 1));
    let count = log.replay().count(&around).unwrap();
    assert_eq!(count.coverage, replayed.coverage);
}

#[test]
fn a_million_events_of_many_devices_are_the_same_in_both_orders() {
    let mut log = Log::new();
    let sources: Vec<_> = (0..20).map(|i| source(&format!("device-{i}"), 0)).collect();
    let mut expected: BTreeMap<(i64, usize), u64> = BTreeMap::new();
    for round in 0..50i64 {
        for (i, source) in sources.iter().enumerate() {
            // Repeating and stepping back, as real clocks do.
            let times: Vec<i64> = (0..1000).map(|row| (round * 1000 + row) * 7 % 1009 - 500).collect();
            times.iter().for_each(|&time| *expected.entry((time, i)).or_default() += 1);
            log.batch(source, &schema("flow"), round as u64 * 1000, &rows(&times));
        }
        log.commit();
    }
    let csv = log.csv(&Query { order: Order::Time, ..Query::default() });
    let mut found: BTreeMap<(i64, usize), u64> = BTreeMap::new();
    let mut last = i64::MIN;
    for record in csv::Reader::from_reader(csv.as_bytes()).records() {
        let record = record.unwrap();
        let (time, device) = (record[4].parse().unwrap(), record[0]["device-".len()..].parse().unwrap());
        assert!(last <= time);
        last = time;
        *found.entry((time, device)).or_default() += 1;
    }
    assert_eq!(found, expected);
}

#[test]
fn what_is_added_follows_what_was_there() {
    let mut log = Log::new();
    let schema = Arc::new(Schema::new("heat", 1, vec![Field::new("a", ColumnType::I64)]).unwrap());
    let sources = ["wanted", "other"].map(|device| {
        let device = device.parse().unwrap();
        Arc::new(Source { device, epoch: Epoch::from_bytes([1; 16]), number: 0 })
    });
    let rows: Vec<_> = (0..4).map(|time| (time, vec![Value::I64(time)])).collect();
    let add = |log: &mut Log, first_sequence| {
        sources.iter().for_each(|source| log.batch(source, &schema, first_sequence, &rows));
        log.commit();
    };
    add(&mut log, 0);
    add(&mut log, 4);
    let replay = Replay::open(log.data()).unwrap();
    // From within the second batch of the device on.
    let query = Query { devices: "wan*".parse().unwrap(), from_position: 10, ..Query::default() };
    let mut positions = Vec::new();
    let mut take = |selection: &icecore_replay::Selection| {
        let took: Result<(), ()> = selection.for_each(|event| {
            positions.push(event.position);
            Ok(())
        });
        took.unwrap();
    };
    let mut batches = replay.batches(&query);
    batches.by_ref().for_each(|selection| take(&selection.unwrap()));
    let mut follow = batches.follow();
    assert!(matches!(follow.next().unwrap(), Followed::Idle));
    assert_eq!(follow.position(), 16);
    add(&mut log, 8);
    loop {
        match follow.next().unwrap() {
            Followed::Batch(selection) => take(&selection),
            Followed::Other => {}
            Followed::Idle => break,
            Followed::Behind => panic!("the segment is there"),
        }
    }
    assert_eq!(positions, [10, 11, 16, 17, 18, 19]);
}
