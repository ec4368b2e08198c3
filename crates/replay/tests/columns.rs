//! Record batches have the rows that text has, in every order, whatever is asked for, and wherever it lies.

#![expect(clippy::unwrap_used, reason = "fixtures of tests fail by panicking, like tests")]

use std::collections::BTreeMap;
use std::ops::ControlFlow::Continue;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, TimestampNanosecondType, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field as ArrowField, TimeUnit};
use fastrand::Rng;
use icecore_log::{
    Appender, Committer, Encoder, HotLog, NewBatch, OnDamage, Options, RealDisk, SealPlan, Source,
};
use icecore_replay::{
    Comparison, Cursor, EventTimes, Ndjson, Order, Query, Replay, ReplayError, Table, TableScan,
    format_instant,
};
use icecore_wire::{
    BatchBuilder, ColumnType, DeviceName, Digest, EncodeOptions, Epoch, Field, Kind, Schema, Value,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

/// A log of a few hundred batches of three devices, two schemas and two versions of one, some of it sealed.
struct Log {
    directory: tempfile::TempDir,
    appender: Appender,
    committer: Committer,
    rng: Rng,
    time: i64,
}

impl Log {
    fn new(seed: u64, batches: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 8192, ..Options::default() };
        let (appender, committer, _) =
            HotLog::open(Arc::new(RealDisk), directory.path(), options, 0, &mut |_| {}).unwrap();
        let mut log = Self { directory, appender, committer, rng: Rng::with_seed(seed), time: 0 };
        let mut next = [[0; 2]; 3];
        for number in 0..batches {
            let (device, epoch) = (log.rng.usize(0..3), log.rng.usize(0..2));
            let schema = match log.rng.u8(0..3) {
                0 => every_type(),
                version => flow(version.into()),
            };
            let rows = log.rng.u64(1..40);
            let first = next[device][epoch];
            next[device][epoch] += rows;
            log.batch(&source(device, epoch), &schema, first, rows);
            if number % 7 == 0 {
                log.commit(number as i64);
            }
            if number == batches / 3 || number == batches * 2 / 3 {
                log.commit(number as i64);
                log.seal();
            }
        }
        log.commit(batches as i64);
        log
    }

    fn batch(&mut self, source: &Arc<Source>, schema: &Arc<Schema>, first_sequence: u64, rows: u64) {
        let mut builder = BatchBuilder::new(Arc::clone(schema));
        for _ in 0..rows {
            self.time += self.rng.i64(-30..60);
            let values: Vec<_> = schema.fields().iter().map(|field| value(&mut self.rng, field)).collect();
            builder.row(self.time, &values).unwrap();
        }
        let payload = builder.finish(first_sequence, EncodeOptions::default()).unwrap();
        let digest = Digest::of(&payload);
        let batch = NewBatch { payload, first_sequence, count: rows as u32, digest, compressed: false };
        self.appender.batch(source, schema, batch);
    }

    fn commit(&mut self, received: i64) {
        self.committer.commit(&mut Encoder::new().encode(self.appender.finish(received), 1)).unwrap();
    }

    fn seal(&self) {
        let by_schema = |schema: &Schema, _: &DeviceName, _: i64| Arc::from(schema.name());
        let mut pace = |_| Continue(());
        let plan = SealPlan { hot_bytes: u64::MAX, classify: &by_schema, pace: &mut pace, now: 1 };
        self.committer.sealer().seal(plan).unwrap();
    }

    fn replay(&self) -> Replay {
        Replay::open(self.directory.path()).unwrap()
    }
}

fn source(device: usize, epoch: usize) -> Arc<Source> {
    let device = ["hall/a", "hall/b", "yard"][device].parse().unwrap();
    Arc::new(Source { device, epoch: Epoch::from_bytes([epoch as u8 + 1; 16]), number: epoch as u32 })
}

fn flow(version: u32) -> Arc<Schema> {
    let mut fields = vec![
        Field::new("rate", ColumnType::F64).with_unit("l/s").nullable(),
        Field::new("turns", ColumnType::U64).with_kind(Kind::Counter),
        Field::new("note", ColumnType::Text).with_kind(Kind::State),
    ];
    if version > 1 {
        fields.insert(1, Field::new("level", ColumnType::F32).nullable());
    }
    Arc::new(Schema::new("flow", version, fields).unwrap())
}

fn every_type() -> Arc<Schema> {
    let types = ["f64", "f32", "i64", "u64", "bool", "text", "bytes", "timestamp", "f32[3]", "i16[2]"];
    let field = |ty: &&str| Field::new(format!("a {ty}"), ty.parse().unwrap()).nullable();
    Arc::new(Schema::new("every", 1, types.iter().map(field).collect()).unwrap())
}

fn value(rng: &mut Rng, field: &Field) -> Value<'static> {
    if field.is_nullable() && rng.u8(0..5) == 0 {
        return Value::Null;
    }
    match field.ty() {
        ColumnType::F64 if rng.u8(0..20) == 0 => Value::F64(f64::NAN),
        ColumnType::F64 => Value::F64((rng.f64() * 100.0).round() / 8.0 - 5.0),
        ColumnType::F32 => Value::F32((rng.f32() * 50.0).round() / 10.0 + 1.0),
        ColumnType::I64 => Value::I64(rng.i64(..)),
        ColumnType::U64 => Value::U64(rng.u64(0..1_000)),
        ColumnType::Bool => Value::Bool(rng.bool()),
        ColumnType::Text => Value::Text(["", "søppel", "a\"b", "idle"][rng.usize(0..4)]),
        ColumnType::Bytes => Value::Bytes(&b"\x00\xff\x07"[..rng.usize(0..4)]),
        ColumnType::Timestamp => Value::Timestamp(rng.i64(0..1_000)),
        ColumnType::F32List(_) => Value::F32List([&[1.5, 2.5, 3.5], &[-1.0, 0.25, 9.0]][rng.usize(0..2)]),
        ColumnType::I16List(_) => Value::I16List([&[1, -2], &[i16::MIN, i16::MAX]][rng.usize(0..2)]),
    }
}

/// A row as its line of NDJSON has it, but for what no column tells.
fn row_of(batch: &RecordBatch, row: usize) -> Json {
    let (mut event, mut fields) = (json!({}), json!({}));
    for (column, field) in batch.columns().iter().zip(batch.schema().fields()) {
        let value = cell(column, row);
        match &**field.name() {
            "epoch" => event["epoch_number"] = value,
            name @ ("device" | "seq" | "position" | "event_time" | "received_time" | "time_uncertain") => {
                event[name] = value;
            }
            name => fields[name] = value,
        }
    }
    event["fields"] = fields;
    event
}

fn cell(column: &dyn Array, row: usize) -> Json {
    if column.is_null(row) {
        return Json::Null;
    }
    match column.data_type() {
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => single(column.as_primitive::<Float32Type>().value(row)),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Binary => {
            let bytes = column.as_binary::<i32>().value(row);
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
        }
        DataType::Timestamp(_, zone) => {
            assert_eq!(zone.as_deref(), Some("UTC"));
            format_instant(column.as_primitive::<TimestampNanosecondType>().value(row)).into()
        }
        DataType::Dictionary(..) => {
            let dictionary = column.as_dictionary::<Int32Type>();
            let key = dictionary.keys().value(row) as usize;
            dictionary.values().as_string::<i32>().value(key).into()
        }
        DataType::FixedSizeList(element, _) => {
            let list = column.as_fixed_size_list().value(row);
            let value = |at| match element.data_type() {
                DataType::Int16 => list.as_primitive::<Int16Type>().value(at).into(),
                _ => single(list.as_primitive::<Float32Type>().value(at)),
            };
            (0..list.len()).map(value).collect()
        }
        ty => panic!("no column is {ty}"),
    }
}

fn float(number: f64) -> Json {
    match number.is_nan() {
        true => "NaN".into(),
        // As short as in the text: 270, not 270.0.
        false => serde_json::from_str(format!("{number}").trim_end_matches(".0")).unwrap(),
    }
}

fn single(number: f32) -> Json {
    serde_json::from_str(format!("{number}").trim_end_matches(".0")).unwrap()
}

fn text_rows(replay: &Replay, query: &Query) -> Vec<Json> {
    let mut out = Vec::new();
    replay.run(query, &mut Ndjson::new(&mut out)).unwrap();
    let line = |line: &[u8]| {
        let mut event: Json = serde_json::from_slice(line).unwrap();
        for left_out in ["epoch", "schema", "version"] {
            event.as_object_mut().unwrap().remove(left_out);
        }
        event
    };
    out.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(line).collect()
}

fn table_rows(replay: &Replay, scan: &TableScan) -> Vec<Json> {
    let mut rows = Vec::new();
    let schema = scan.schema().unwrap();
    let replayed = replay.record_batches(scan, &mut |batch| {
        assert_eq!(batch.schema(), schema);
        rows.extend((0..batch.num_rows()).map(|row| row_of(&batch, row)));
        Ok(())
    });
    let replayed = replayed.unwrap();
    assert_eq!(replayed.coverage.present, rows.len() as u64);
    rows
}

fn positions(rows: &mut [Json]) {
    rows.sort_by_key(|row| row["position"].as_u64());
}

fn scan(replay: &Replay, query: &Query) -> Option<TableScan> {
    match replay.table(query) {
        Ok(table) => Some(TableScan::new(query.clone(), Arc::new(table))),
        Err(ReplayError::NoSchema) => None,
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn rows_are_those_of_the_text(seed: u64, schema in prop::sample::select(vec!["flow", "every"]), as_written: bool) {
        let log = Log::new(seed, 120);
        let replay = log.replay();
        let mut rng = Rng::with_seed(seed);
        for devices in ["*", "hall/*", "yard"] {
            let from = rng.i64(-200..2_000);
            let times = match rng.bool() {
                true => EventTimes { from: Some(from), to: Some(from + rng.i64(0..2_000)) },
                false => EventTimes::default(),
            };
            for order in [Order::Log, Order::Time, Order::Device, Order::Stored] {
                let query = Query {
                    devices: devices.parse().unwrap(),
                    schemas: schema.parse().unwrap(),
                    from_position: if rng.bool() { 0 } else { rng.u64(0..1_500) },
                    times,
                    known_at: rng.bool().then(|| rng.i64(0..140)),
                    order,
                    // Two versions that are read as written have the columns of both.
                    as_written: as_written && schema == "every",
                    ..Query::default()
                };
                let Some(scan) = scan(&replay, &query) else { continue };
                let (mut expected, mut found) = (text_rows(&replay, &query), table_rows(&replay, &scan));
                if order == Order::Stored {
                    positions(&mut expected);
                    positions(&mut found);
                }
                prop_assert_eq!(&found, &expected, "{:?}", query);
                let known = |row: &Json| query.known_at.is_none_or(|at| row["received_time"].as_str() <= Some(&format_instant(at)));
                prop_assert!(found.iter().all(known));
            }
        }
    }

    #[test]
    fn comparisons_and_columns_go_together(seed: u64, number in -5_i32..90, at in 0_usize..6) {
        let log = Log::new(seed, 80);
        let replay = log.replay();
        let sign = ["<", "<=", "=", "!=", ">=", ">"][at];
        let number = f64::from(number) / 8.0;
        for order in [Order::Log, Order::Stored] {
            let query = Query { schemas: "flow".parse().unwrap(), order, ..Query::default() };
            let Some(mut scan) = scan(&replay, &query) else { continue };
            scan.comparisons = vec![format!("RATE{sign}{number}").parse().unwrap()];
            scan.columns = Some(vec!["position".into(), "level".into()]);
            let mut expected = text_rows(&replay, &query);
            expected.retain(|row| {
                let rate = &row["fields"]["rate"];
                // NaN is greater than every number.
                let rate = if rate == "NaN" { Some(f64::INFINITY) } else { rate.as_f64() };
                rate.is_some_and(|rate| match sign {
                    "<" => rate < number,
                    "<=" => rate <= number,
                    "=" => rate == number,
                    "!=" => rate != number,
                    ">=" => rate >= number,
                    _ => rate > number,
                })
            });
            let expected = expected.iter().map(|row| json!({"position": row["position"], "fields": {"level": row["fields"]["level"]}}));
            let mut expected: Vec<Json> = expected.collect();
            let mut found = table_rows(&replay, &scan);
            positions(&mut expected);
            positions(&mut found);
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_cursor_gives_coverage_at_its_end_and_stops_when_it_is_dropped() {
    let log = Log::new(3, 60);
    let replay = Arc::new(log.replay());
    let query = Query { schemas: "flow".parse().unwrap(), order: Order::Stored, ..Query::default() };
    let scan = scan(&replay, &query).unwrap();
    let mut cursor = Cursor::open(Arc::clone(&replay), scan.clone()).unwrap();
    assert_eq!(cursor.coverage(), None);
    let rows: usize = cursor.by_ref().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, text_rows(&replay, &query).len());
    assert_eq!(cursor.coverage().unwrap().present, rows as u64);
    drop(Cursor::open(replay, scan).unwrap());
}

#[test]
fn mistakes_are_named() {
    let log = Log::new(4, 40);
    let replay = log.replay();
    let said = |error: ReplayError| error.to_string();
    let several = said(replay.table(&Query::default()).unwrap_err());
    assert!(several.contains("every, flow"), "{several}");
    let none = Query { schemas: "flaw".parse().unwrap(), ..Query::default() };
    assert!(matches!(replay.table(&none), Err(ReplayError::NoSchema)));
    let query = Query { schemas: "flow".parse().unwrap(), ..Query::default() };
    let mut scan = scan(&replay, &query).unwrap();
    scan.columns = Some(vec!["Ratte".into()]);
    assert_eq!(said(scan.schema().unwrap_err()), "schema flow has no column Ratte; did you mean rate?");
    scan.columns = None;
    scan.comparisons = vec!["note > 3".parse::<Comparison>().unwrap()];
    let error = replay.record_batches(&scan, &mut |_| Ok(())).unwrap_err();
    assert_eq!(said(error), "column note holds no numbers that could be compared");
    let other = Schema::new("flow", 3, vec![Field::new("rate", ColumnType::Text)]).unwrap();
    let error = said(Table::new(&[flow(1), Arc::new(other)]).unwrap_err());
    assert!(error.contains("rate of schema flow is text in version 3 and f64 in version 1"), "{error}");
}

#[test]
fn damage_is_read_around_where_that_is_asked_for() {
    let log = Log::new(5, 120);
    let query = Query { schemas: "flow".parse().unwrap(), order: Order::Stored, ..Query::default() };
    let whole = text_rows(&log.replay(), &query).len();
    let sealed = std::fs::read_dir(log.directory.path().join("sealed")).unwrap();
    let mut files: Vec<_> = sealed.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "ice"));
    files.sort();
    // The second segment of the first seal has what sorts behind `every`; rows begin behind the file's header.
    let mut bytes = std::fs::read(&files[1]).unwrap();
    let at = bytes.len() / 4;
    bytes[at] ^= 0x40;
    std::fs::write(&files[1], bytes).unwrap();
    let replay = log.replay();
    let error =
        replay.record_batches(&scan(&replay, &query).unwrap(), &mut |_| Ok(())).unwrap_err().to_string();
    let name = files[1].file_name().unwrap().to_str().unwrap();
    assert!(error.contains(name) && error.contains("schema flow"), "{error}");
    let around = Query { on_damage: OnDamage::Skip, ..query };
    let scan = scan(&replay, &around).unwrap();
    let replayed = replay.record_batches(&scan, &mut |_| Ok(())).unwrap();
    let lost: u64 = replayed
        .coverage
        .damage
        .iter()
        .map(|damage| {
            let positions = damage.positions.clone().unwrap();
            positions.end - positions.start
        })
        .sum();
    assert!(lost > 0);
    assert_eq!(replayed.coverage.present + lost, whole as u64);
    assert_eq!(replayed.coverage.present, text_rows(&replay, &around).len() as u64, "as read in log order");
}

/// Frozen: what analysts have written is made for it.
#[test]
fn what_a_table_says_of_itself() {
    let table = Table::new(&[flow(1), flow(2)]).unwrap();
    let told: BTreeMap<_, _> =
        table.schema().metadata().iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(told, BTreeMap::from([("icecore.schema", "flow"), ("icecore.version", "2")]));
    let times = || DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let device = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let expected = [
        ("device", device, false, None, None),
        ("epoch", DataType::UInt32, false, None, None),
        ("seq", DataType::UInt64, false, None, None),
        ("event_time", times(), false, None, None),
        ("received_time", times(), false, None, None),
        ("position", DataType::UInt64, false, None, None),
        ("time_uncertain", DataType::Boolean, false, None, None),
        ("rate", DataType::Float64, true, Some("gauge"), Some("l/s")),
        ("level", DataType::Float32, true, Some("gauge"), None),
        ("turns", DataType::UInt64, false, Some("counter"), None),
        ("note", DataType::Utf8, false, Some("state"), None),
    ];
    let said = table.schema().fields().iter().map(|field| {
        let told = |key: &str| field.metadata().get(key).map(String::as_str);
        let kind_and_unit = (told("icecore.kind"), told("icecore.unit"));
        (
            field.name().as_str(),
            field.data_type().clone(),
            field.is_nullable(),
            kind_and_unit.0,
            kind_and_unit.1,
        )
    });
    assert_eq!(said.collect::<Vec<_>>(), expected);

    let every = Table::new(&[every_type()]).unwrap();
    let list = |ty, length| DataType::FixedSizeList(Arc::new(ArrowField::new_list_field(ty, true)), length);
    let expected = [
        DataType::Float64,
        DataType::Float32,
        DataType::Int64,
        DataType::UInt64,
        DataType::Boolean,
        DataType::Utf8,
        DataType::Binary,
        times(),
        list(DataType::Float32, 3),
        list(DataType::Int16, 2),
    ];
    let said = every.schema().fields().iter().skip(7).map(|field| field.data_type().clone());
    assert_eq!(said.collect::<Vec<_>>(), expected);
}
