//! Version 1 of the formats, frozen: what these files hold is read for ever, and written to the byte.
//!
//! `GOLDEN_WRITE=1` writes the files that are missing. An existing file is never rewritten; a format that has to change
//! gets a new version and new files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use icecore_wire::{
    Ack, Attach, Attached, Batch, BatchBuilder, BatchStreamReader, BatchStreamWriter, Code, ColumnType,
    DeviceName, Disposition, Dropped, EncodeOptions, Epoch, Field, FrameReader, GoAway, Hello, Incoming,
    Kind, Level, Message, Nack, NotRenewed, Pace, Payload, Refuse, Renewed, Schema, SequenceRanges,
    SessionLimits, Value, Welcome,
};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The golden bytes; written from `now` when missing and asked for.
fn golden(name: &str, now: &[u8]) -> Vec<u8> {
    let path = path(name);
    if !path.exists() && std::env::var_os("GOLDEN_WRITE").is_some() {
        std::fs::write(&path, now).expect("the golden directory is writable");
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn schema() -> Arc<Schema> {
    let fields = vec![
        Field::new("temperature", ColumnType::F64).with_unit("Cel"),
        Field::new("humidity", ColumnType::F32).with_unit("%").nullable(),
        Field::new("energy", ColumnType::U64).with_kind(Kind::Counter).with_unit("W.s"),
        Field::new("offset", ColumnType::I64),
        Field::new("open", ColumnType::Bool).with_kind(Kind::State).nullable(),
        Field::new("status", ColumnType::Text).with_kind(Kind::State).nullable(),
        Field::new("raw", ColumnType::Bytes),
        Field::new("measured", ColumnType::Timestamp).nullable(),
        Field::new("heading", ColumnType::F32List(2)).with_kind(Kind::Angle).with_unit("deg"),
        Field::new("wave", ColumnType::I16List(4)),
    ];
    Arc::new(Schema::new("station/α", 7, fields).expect("the schema is valid"))
}

/// Row `i` of the golden batches.
fn row(i: usize) -> (i64, [Value<'static>; 10]) {
    const STATUS: [&str; 3] = ["", "naïve", "🌡 ok"];
    const RAW: [&[u8]; 3] = [b"", b"\x00\xff", b"abc"];
    const WAVES: [[i16; 4]; 2] = [[i16::MIN, -1, 0, i16::MAX], [1, 2, 3, 4]];
    let or_null = |null: bool, value| if null { Value::Null } else { value };
    let temperature = match i {
        0 => -0.0,
        1 => f64::from_bits(0x7ff8_0000_0000_0123),
        2 => f64::NEG_INFINITY,
        _ => 20.0 + i as f64 / 10.0,
    };
    let time = 1_700_000_000_000_000_000 + i as i64 * 250_000_000;
    let values = [
        Value::F64(temperature),
        or_null(i % 3 == 1, Value::F32(40.5 + i as f32)),
        Value::U64(if i == 0 { u64::MAX } else { 1000 * i as u64 }),
        Value::I64(if i == 0 { i64::MIN } else { 5 - i as i64 }),
        or_null(i % 4 == 2, Value::Bool(i.is_multiple_of(2))),
        or_null(i % 5 == 4, Value::Text(STATUS[i % 3])),
        Value::Bytes(RAW[i % 3]),
        or_null(i == 0, Value::Timestamp(time - 1)),
        Value::F32List(&[0.5, 359.5]),
        Value::I16List(&WAVES[i % 2]),
    ];
    (time, values)
}

const ROWS: usize = 37;

fn batch(options: EncodeOptions) -> Payload {
    let mut builder = BatchBuilder::new(schema());
    for i in 0..ROWS {
        let (time, values) = row(i);
        builder.row(time, &values).expect("the row fits the schema");
    }
    builder.finish(1000, options).expect("there are rows")
}

fn assert_reads(bytes: &[u8], time_uncertain: bool) {
    let batch = Batch::validate(Payload::copy_from(bytes), schema()).expect("it is accepted for ever");
    assert_eq!(batch.range(), 1000..1000 + ROWS as u64);
    assert_eq!(batch.header().time_uncertain(), time_uncertain);
    for i in 0..ROWS {
        let (time, values) = row(i);
        assert_eq!(batch.times()[i], time);
        for (field, expected) in values.into_iter().enumerate() {
            match (batch.column(field).value(i), expected) {
                (Value::F64(found), Value::F64(expected)) => assert_eq!(found.to_bits(), expected.to_bits()),
                (found, expected) => assert_eq!(found, expected, "row {i}, field {field}"),
            }
        }
    }
}

#[test]
fn schema_version_1() {
    let schema = schema();
    let golden = golden("schema.bin", schema.canonical());
    assert_eq!(golden, schema.canonical());
    assert_eq!(Schema::from_canonical(&golden).as_ref(), Ok(&*schema));
    assert_eq!(schema.id().to_string(), "c9a0d337a3feb2989ed1eeff618c1762");
}

#[test]
fn plain_batch_version_1() {
    let now = batch(EncodeOptions::default());
    let golden = golden("batch_plain.bin", &now);
    assert!(golden == *now, "plain batches are written otherwise than before");
    assert_reads(&golden, false);
    assert_eq!(now.len() % 8, 0);
}

/// A schema's announcement and a small batch behind it, as they travel.
#[test]
fn compact_batch_version_1() {
    let mut builder = BatchBuilder::new(schema());
    for (time, values) in (0..7).map(row) {
        builder.row(time, &values).expect("the row fits the schema");
    }
    let payload = builder.finish(1000, EncodeOptions::PLAIN).expect("there are rows");
    let mut now = Vec::new();
    BatchStreamWriter::new().append(1, &schema(), &payload, &mut now);
    let golden = golden("compact_batch.bin", &now);
    assert!(golden == now, "compact batches are written otherwise than before");
    let mut reader = BatchStreamReader::new(&SessionLimits::default());
    reader.push(&golden);
    let Ok(Some(Incoming::Batch { alias: 1, payload: read, .. })) = reader.next() else {
        panic!("it is accepted for ever")
    };
    assert!(reader.is_compact());
    assert_eq!(read, payload);
}

/// Compressed columns need not be written as before (pco may get better), but are read for ever.
#[test]
fn pco_batch_version_1() {
    let options = EncodeOptions { pco: Some(8), time_uncertain: true, ..EncodeOptions::PLAIN };
    assert_reads(&golden("batch_pco.bin", &batch(options)), true);
}

fn messages() -> Vec<Message> {
    let attach = Attach {
        alias: 1,
        device: DeviceName::try_from("plant 7/pump-é").expect("the name is valid"),
        epoch: Epoch::from_bytes(*b"0123456789abcdef"),
    };
    let ranges: SequenceRanges = [0..100, 200..0x0102_0304_0506_0708].into_iter().collect();
    let retry_after = Duration::from_millis(1500);
    let hello = |attach| Hello { protocol: 1, sdk: "icecore-device 0.1.0".into(), device_time: -1, attach };
    let nack = |disposition| Nack {
        alias: 1,
        range: 300..400,
        code: Code::SequenceConflict,
        disposition,
        message: "other content under the same sequences".into(),
    };
    let refuse = |alias, retry_after| Refuse {
        alias,
        code: Code::NotGranted,
        message: "ask the operator".into(),
        retry_after,
    };
    vec![
        Message::Hello(hello(None)),
        Message::Hello(hello(Some(attach.clone()))),
        Message::Attach(attach),
        Message::Detach { alias: 2 },
        Message::Dropped(Dropped { alias: 1, ranges: ranges.clone() }),
        Message::Bye,
        Message::Welcome(Welcome {
            protocol: 1,
            server: "icecore 0.1.0".into(),
            server_time: 1_700_000_000_000_000_000,
            limits: SessionLimits { max_batch_bytes: 1 << 20, max_rows: 65_536, max_aliases: 1024 },
        }),
        Message::Attached(Attached {
            alias: 1,
            epoch_number: 3,
            stored: ranges.clone(),
            settled: SequenceRanges::from(100..200),
            archived: SequenceRanges::new(),
        }),
        Message::Ack(Ack { alias: 1, level: Level::Durable, ranges: ranges.clone() }),
        Message::Ack(Ack { alias: 1, level: Level::Archived, ranges: ranges.clone() }),
        Message::Ack(Ack { alias: 1, level: Level::Settled, ranges }),
        Message::Nack(nack(Disposition::Permanent)),
        Message::Nack(nack(Disposition::RetryAfter(retry_after))),
        Message::Refuse(refuse(None, Some(retry_after))),
        Message::Refuse(refuse(Some(1), None)),
        Message::Pace(Pace { bytes_per_s: 1_000_000, retry_after }),
        Message::GoAway(GoAway { retry_after, message: "going down for an update".into() }),
    ]
}

fn renewal_messages() -> Vec<Message> {
    vec![
        Message::Renew,
        Message::Renewed(Renewed { certificate: vec![0x30, 0x03, 0x02, 0x01, 0x2a] }),
        Message::NotRenewed(NotRenewed {
            code: Code::Internal,
            message: "the CA's key is kept elsewhere".into(),
            retry_after: None,
        }),
    ]
}

#[test]
fn messages_version_1() {
    assert_frozen("messages.txt", &messages());
    assert_frozen("renewal.txt", &renewal_messages());
}

#[test]
fn compact_acks_version_1() {
    let acks = messages().into_iter().filter_map(|message| match message {
        Message::Ack(ack) => Some(ack),
        _ => None,
    });
    let mut now = Vec::new();
    acks.clone().for_each(|ack| ack.write_compact_frame(&mut now));
    let golden = golden("compact_acks.bin", &now);
    assert_eq!(golden, now);
    let mut reader = FrameReader::control();
    reader.push(&golden);
    for ack in acks {
        let frame = reader.next().expect("intact frames").expect("as many as were written");
        assert_eq!(Message::read(&frame), Ok(Message::Ack(ack)));
    }
    assert!(reader.is_at_boundary());
}

/// One line a message: its name, and its frame in hexadecimal digits.
fn assert_frozen(file: &str, messages: &[Message]) {
    let lines = messages.iter().map(|message| {
        let mut frame = Vec::new();
        message.write_frame(&mut frame);
        let name = format!("{message:?}");
        let name: String = name.chars().take_while(|c| c.is_alphanumeric()).collect();
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name} {hex}\n")
    });
    let now: String = lines.collect();
    let golden = String::from_utf8(golden(file, now.as_bytes())).expect("it is ASCII");
    assert_eq!(golden, now);

    let digits =
        golden.lines().filter_map(|line| line.split_once(' ')).flat_map(|(_, hex)| hex.as_bytes().chunks(2));
    let bytes: Vec<u8> = digits
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect::<Option<_>>()
        .expect("hexadecimal digits");
    let mut reader = FrameReader::control();
    reader.push(&bytes);
    let read: Vec<Message> = std::iter::from_fn(|| reader.next().expect("intact frames"))
        .map(|frame| Message::read(&frame).expect("known messages"))
        .collect();
    assert_eq!(read, messages);
}
