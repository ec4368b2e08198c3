//! A batch stream written by another program (`encode_batch.py`), made from `docs/protocol.md` alone.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use icecore_wire::{Batch, BatchStreamReader, Incoming, SessionLimits, Value};

/// What the script writes; `None` where there is no Python.
fn foreign_stream() -> Option<Vec<u8>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encode_batch.py");
    let output = match Command::new("python3").arg(script).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        output => output.expect("python3 can be run"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

#[test]
fn a_batch_from_another_encoder_is_accepted() {
    let Some(stream) = foreign_stream() else {
        eprintln!("skipped: python3 is not installed, and it runs the foreign encoder");
        return;
    };
    let mut reader = BatchStreamReader::new(&SessionLimits::default());
    reader.push(&stream);
    let Some(Incoming::Batch { alias: 1, schema, payload, .. }) = reader.next().expect("intact frames")
    else {
        panic!("no batch");
    };
    assert!(reader.is_at_boundary());
    let batch = Batch::validate(payload, schema).expect("a valid batch");
    assert_eq!((batch.schema().name(), batch.range()), ("foreign", 5000..5010));
    for row in 0..10usize {
        let n = row as i64;
        let status = "°".repeat(row);
        assert_eq!(batch.times()[row], 1_700_000_000_000_000_000 + n);
        let null_or = |value| if row % 3 == 1 { Value::Null } else { value };
        let expected = [
            Value::F64(n as f64 / 4.0),
            null_or(Value::F32(n as f32 / 2.0)),
            Value::U64(u64::MAX - row as u64),
            Value::I64(-n),
            Value::Bool(row % 2 == 1),
            null_or(Value::Text(&status)),
            Value::Bytes(&[row as u8, 255]),
            Value::Timestamp(batch.times()[row]),
            Value::F32List(&[n as f32, -(n as f32)]),
            Value::I16List(&[-n as i16, 0, n as i16]),
        ];
        for (field, expected) in expected.into_iter().enumerate() {
            assert_eq!(batch.column(field).value(row), expected, "row {row}, field {field}");
        }
    }
}
