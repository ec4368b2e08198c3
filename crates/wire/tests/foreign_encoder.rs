//! A batch stream written by another program, the Python client, which was made from `docs/protocol.md` alone.

use std::path::Path;
use std::process::Command;

use icecore_wire::{Batch, BatchStreamReader, Incoming, SessionLimits, Value};

/// What the client writes; `None` where no Python was named that can run it.
fn foreign_stream() -> Option<Vec<u8>> {
    let python = std::env::var_os("ICECORE_PYTHON")?;
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/python");
    let output = Command::new(&python)
        .env("PYTHONPATH", &client)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(client.join("tests/foreign_stream.py"))
        .output()
        .unwrap_or_else(|error| panic!("ICECORE_PYTHON={} cannot be run: {error}", python.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

#[test]
fn a_batch_from_another_encoder_is_accepted() {
    let Some(stream) = foreign_stream() else {
        eprintln!(
            "skipped: ICECORE_PYTHON names no Python with aioquic (see .ci/run), and it runs the encoder"
        );
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
    assert_eq!((batch.schema().name(), batch.range()), ("station/α", 1000..1037));
    assert!(batch.header().time_uncertain());
    assert_eq!(batch.times()[36], 1_700_000_009_000_000_000);
    // The values are those of the golden files, which the client's own tests compare to the byte.
    assert_eq!(batch.column(5).value(2), Value::Text("🌡 ok"));
    assert_eq!(batch.column(9).value(0), Value::I16List(&[i16::MIN, -1, 0, i16::MAX]));
}
