//! Exports that are added to, and that are killed.

#![expect(clippy::unwrap_used, reason = "fixtures of tests fail by panicking, like tests")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampNanosecondType, UInt64Type};
use icecore_log::{Appender, Committer, Encoder, HotLog, NewBatch, Options, RealDisk, Source};
use icecore_replay::{Exported, HiveExport, Query, Replay, ReplayError};
use icecore_wire::{BatchBuilder, ColumnType, Digest, EncodeOptions, Epoch, Field, Schema, Value};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const HOUR: i64 = 3_600_000_000_000;

struct Log {
    directory: tempfile::TempDir,
    appender: Appender,
    committer: Committer,
    next: u64,
}

impl Log {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        let (appender, committer, _) =
            HotLog::open(Arc::new(RealDisk), &data, Options::default(), 0, &mut |_| {}).unwrap();
        Self { directory, appender, committer, next: 0 }
    }

    /// Adds a day of hourly events of each device and schema.
    fn add_day(&mut self) {
        for device in ["hall/a", "hall/b"] {
            for name in ["heat", "flow"] {
                let device = device.parse().unwrap();
                let epoch = Epoch::from_bytes([name.len() as u8 + name.as_bytes()[0]; 16]);
                let source = Arc::new(Source { device, epoch, number: u32::from(name == "flow") });
                let schema = Arc::new(
                    Schema::new(name, 1, vec![Field::new("value", ColumnType::I64).with_unit("Cel")])
                        .unwrap(),
                );
                let mut builder = BatchBuilder::new(Arc::clone(&schema));
                for hour in self.next..self.next + 24 {
                    builder.row(hour as i64 * HOUR, &[Value::I64(hour as i64)]).unwrap();
                }
                let payload = builder.finish(self.next, EncodeOptions::PLAIN).unwrap();
                let digest = Digest::of(&payload);
                let batch =
                    NewBatch { payload, first_sequence: self.next, count: 24, digest, compressed: false };
                self.appender.batch(&source, &schema, batch);
            }
        }
        self.committer.commit(&mut Encoder::new().encode(self.appender.finish(self.next as i64), 1)).unwrap();
        self.next += 24;
    }

    fn export(&self, by_device: bool) -> Result<Exported, ReplayError> {
        let query = Query::default();
        self.export_of(&HiveExport { query, by_device, directory: self.out() })
    }

    fn export_of(&self, export: &HiveExport) -> Result<Exported, ReplayError> {
        Replay::open(&self.directory.path().join("data")).unwrap().export(export)
    }

    fn out(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    /// By schema, the positions of all rows; checks that each lies where its time says.
    fn positions(&self) -> BTreeMap<String, Vec<u64>> {
        let mut positions: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for file in files(&self.out()) {
            let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&file).unwrap()).unwrap();
            let name = file.strip_prefix(self.out()).unwrap().to_str().unwrap().to_owned();
            let schema = name.split('/').next().unwrap().strip_prefix("schema=").unwrap().to_owned();
            let date = name
                .split('/')
                .nth(1)
                .unwrap()
                .strip_prefix("date=1970-01-")
                .unwrap()
                .parse::<i64>()
                .unwrap();
            assert_eq!(reader.schema().metadata()["icecore.schema"], schema);
            assert_eq!(reader.schema().field_with_name("value").unwrap().metadata()["icecore.unit"], "Cel");
            for batch in reader.build().unwrap() {
                let batch = batch.unwrap();
                let times =
                    batch.column_by_name("event_time").unwrap().as_primitive::<TimestampNanosecondType>();
                assert!(times.values().iter().all(|time| time / (24 * HOUR) == date - 1), "{name}");
                let found = batch.column_by_name("position").unwrap().as_primitive::<UInt64Type>();
                positions.entry(schema.clone()).or_default().extend(found.values());
            }
        }
        positions.values_mut().for_each(|positions| positions.sort_unstable());
        positions
    }

    /// All rows are there, once.
    fn check(&self) {
        let found = self.positions();
        let mut all: Vec<u64> = found.values().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..self.next * 4).collect::<Vec<_>>());
        assert_eq!(found.keys().collect::<Vec<_>>(), ["flow", "heat"]);
    }
}

/// The files that others see.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            _ if path.is_dir() => found.extend(files(&path)),
            Some(end) if end == "parquet" => found.push(path),
            _ => {}
        }
    }
    found.sort();
    found
}

#[test]
fn a_later_run_adds_what_is_new_and_nothing_else() {
    let mut log = Log::new();
    log.add_day();
    let exported = log.export(false).unwrap();
    assert_eq!((exported.files, exported.from, exported.to, exported.coverage.present), (2, 0, 96, 96));
    log.check();
    let before = files(&log.out());
    let again = log.export(false).unwrap();
    assert_eq!((again.files, again.from, again.to), (0, 96, 96));
    assert_eq!(files(&log.out()), before);
    log.add_day();
    log.add_day();
    let more = log.export(false).unwrap();
    assert_eq!((more.files, more.from, more.to, more.coverage.present), (4, 96, 288, 192));
    log.check();
    assert!(before.iter().all(|file| file.exists()));
}

#[test]
fn a_partition_for_each_device_has_its_name_in_the_path() {
    let mut log = Log::new();
    log.add_day();
    assert_eq!(log.export(true).unwrap().files, 4);
    log.check();
    let first = &files(&log.out())[0];
    let name = "schema=flow/date=1970-01-01/device=hall%2Fa/events-0-96-0.parquet";
    assert_eq!(first.strip_prefix(log.out()).unwrap(), Path::new(name));
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(first).unwrap()).unwrap();
    assert!(reader.schema().field_with_name("device").is_err());
}

/// Wherever a run is killed, the next one makes the directory whole.
#[test]
fn a_run_that_was_killed_is_finished_or_cleared_away() {
    let mut log = Log::new();
    log.add_day();
    log.export(false).unwrap();
    let before = fs::read(log.out().join("_icecore.json")).unwrap();
    log.add_day();
    log.export(false).unwrap();
    log.check();
    let all = files(&log.out());
    let new: Vec<&PathBuf> =
        all.iter().filter(|file| file.to_str().unwrap().contains("events-96-192")).collect();
    assert_eq!(new.len(), 2);
    let whole = fs::read_to_string(log.out().join("_icecore.json")).unwrap();
    let unfinished = |file: &Path| PathBuf::from(format!("{}.unfinished", file.display()));

    // Killed while it wrote: nothing of it counts.
    fs::write(log.out().join("_icecore.json"), &before).unwrap();
    new.iter().for_each(|file| fs::rename(file, unfinished(file)).unwrap());
    fs::write(unfinished(new[0]), b"half").unwrap();
    assert_eq!(log.export(false).unwrap().files, 2);
    log.check();

    // Killed after it had written which files there are, and named none, or one of them.
    for named in 0..=1 {
        let relative: Vec<&str> =
            new.iter().map(|file| file.strip_prefix(log.out()).unwrap().to_str().unwrap()).collect();
        let publish = format!("\"publish\": {}", serde_json::to_string(&relative).unwrap());
        fs::write(log.out().join("_icecore.json"), whole.replace("\"publish\": []", &publish)).unwrap();
        new[named..].iter().for_each(|file| fs::rename(file, unfinished(file)).unwrap());
        assert_eq!(log.export(false).unwrap().files, 0);
        log.check();
        assert_eq!(fs::read_to_string(log.out().join("_icecore.json")).unwrap(), whole);
    }
}

#[test]
fn other_questions_go_elsewhere() {
    let mut log = Log::new();
    log.add_day();
    log.export(false).unwrap();
    let error = log.export(true).unwrap_err().to_string();
    assert!(error.contains("it was made for") && error.contains("\"device\""), "{error}");
    let other = Log::new();
    let error =
        other.export_of(&HiveExport { query: Query::default(), by_device: false, directory: log.out() });
    assert!(error.unwrap_err().to_string().contains("another log"));
    fs::write(log.out().join("_icecore.json"), "{").unwrap();
    assert!(log.export(false).unwrap_err().to_string().contains("cannot be read"));
}
