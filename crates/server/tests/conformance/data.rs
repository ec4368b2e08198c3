//! What is recorded is what is stored.

use icecore_device::Value;
use icecore_wire::Batch;
use serde_json::{Value as Json, json};

use crate::client::{Client, Sdk};
use crate::harness::Site;
use crate::stored::{sequences, stored};

fn field(name: &str, ty: &str, nullable: bool) -> Json {
    json!({ "name": name, "type": ty, "kind": "gauge", "unit": "", "nullable": nullable })
}

fn all_types() -> Json {
    let types = ["f64", "f32", "i64", "u64", "bool", "text", "bytes", "timestamp", "f32[2]", "i16[3]"];
    types.into_iter().map(|ty| field(&format!("a {ty}"), ty, true)).collect()
}

const NAN_F64: u64 = 0x7ff8_dead_beef_0123;
const NAN_F32: u32 = 0x7fc1_2345;
const NAN_AND_ZERO: [f32; 2] = [f32::from_bits(NAN_F32), -0.0];

/// Rows as the adapter takes them, beside what must be stored.
fn rows() -> Vec<(Json, [Value<'static>; 10])> {
    let plain = (
        json!([
            "3ff0000000000000",
            "3fc00000",
            -5,
            u64::MAX,
            true,
            "🌡 naïve 𝄞",
            "00ff",
            7,
            ["3f800000", "c0000000"],
            [-32768, 0, 32767]
        ]),
        [
            Value::F64(1.0),
            Value::F32(1.5),
            Value::I64(-5),
            Value::U64(u64::MAX),
            Value::Bool(true),
            Value::Text("🌡 naïve 𝄞"),
            Value::Bytes(b"\x00\xff"),
            Value::Timestamp(7),
            Value::F32List(&[1.0, -2.0]),
            Value::I16List(&[i16::MIN, 0, i16::MAX]),
        ],
    );
    let extreme = (
        json!([
            format!("{NAN_F64:016x}"),
            format!("{NAN_F32:08x}"),
            i64::MIN,
            0,
            false,
            "",
            "",
            i64::MAX,
            [format!("{NAN_F32:08x}"), "80000000"],
            [1, 2, 3]
        ]),
        [
            Value::F64(f64::from_bits(NAN_F64)),
            Value::F32(f32::from_bits(NAN_F32)),
            Value::I64(i64::MIN),
            Value::U64(0),
            Value::Bool(false),
            Value::Text(""),
            Value::Bytes(b""),
            Value::Timestamp(i64::MAX),
            Value::F32List(&NAN_AND_ZERO),
            Value::I16List(&[1, 2, 3]),
        ],
    );
    let null = (Json::Array(vec![Json::Null; 10]), [Value::Null; 10]);
    vec![plain.clone(), null, extreme, plain]
}

/// Floats by their bits: the payload of a NaN counts, and so does the sign of zero.
fn bits(value: Value<'_>) -> String {
    match value {
        Value::F64(x) => format!("f64 {:016x}", x.to_bits()),
        Value::F32(x) => format!("f32 {:08x}", x.to_bits()),
        Value::F32List(list) => format!("{:x?}", list.iter().map(|x| x.to_bits()).collect::<Vec<_>>()),
        other => format!("{other:?}"),
    }
}

pub(crate) fn every_type_comes_back_to_the_bit(sdk: Sdk) {
    let site = Site::new();
    let identity = site.enroll_device("sensor");
    let server = site.serve();
    let mut client = Client::connect(sdk, server.quic, &identity);
    client.attach("sensor", None);
    client.schema("all types", &all_types());
    let rows = rows();
    for (number, (row, _)) in rows.iter().enumerate() {
        let mut row = row.as_array().unwrap().clone();
        row.insert(0, json!(1_700_000_000_123_456_789_u64 + number as u64));
        client.rows("sensor", "all types", &[Json::Array(row)]);
    }
    client.flush();
    client.close();

    let stored = stored(&site, server);
    let [batch] = stored[&("sensor".to_owned(), 0)].as_slice() else { panic!("{stored:?}") };
    let batch = Batch::validate(batch.payload.clone(), batch.schema.clone()).unwrap();
    assert_eq!(batch.range(), 0..4);
    for (row, (_, expected)) in rows.iter().enumerate() {
        assert_eq!(batch.times()[row], 1_700_000_000_123_456_789 + row as i64);
        for (field, expected) in expected.iter().enumerate() {
            assert_eq!(bits(batch.column(field).value(row)), bits(*expected), "row {row}, field {field}");
        }
    }
}

pub(crate) fn the_largest_batches_are_taken(sdk: Sdk) {
    let site = Site::new();
    let identity = site.enroll_device("sensor");
    let server = site.serve();
    let mut client = Client::connect_with(sdk, server.quic, &identity, 65_536);
    client.attach("sensor", None);
    client.schema("flag", &json!([field("on", "bool", false)]));
    let flags: Vec<_> = (0..65_536).map(|n| json!([n, n % 3 == 0])).collect();
    client.rows("sensor", "flag", &flags);
    // One event that fills a payload but for what a client may keep in hand.
    client.schema("blob", &json!([field("bytes", "bytes", false)]));
    client.rows("sensor", "blob", &[json!([0, "5a".repeat((1 << 20) - 512)])]);
    client.flush();
    assert_eq!(client.count("rejected"), 0);
    client.close();

    let stored = stored(&site, server);
    let batches = &stored[&("sensor".to_owned(), 0)];
    assert_eq!(sequences(batches), (0..65_537).into());
    assert_eq!(batches.iter().map(|batch| batch.count).max(), Some(65_536));
}

pub(crate) fn a_forgotten_schema_is_announced_again(sdk: Sdk) {
    const SCHEMAS: usize = 257;
    let site = Site::new();
    let identity = site.enroll_device("sensor");
    let server = site.serve();
    let mut client = Client::connect_with(sdk, server.quic, &identity, 1);
    client.attach("sensor", None);
    client.wait("attached", |_| true);
    let name = |number: usize| format!("schema {number}");
    for number in 0..SCHEMAS {
        client.schema(&name(number), &json!([field("n", "i64", false)]));
        client.rows("sensor", &name(number), &[json!([number, number])]);
    }
    // The first has been forgotten by now, the last has not.
    for number in [0, SCHEMAS - 1] {
        client.rows("sensor", &name(number), &[json!([number, number])]);
    }
    client.flush();
    assert_eq!(client.count("rejected"), 0);
    client.close();
    assert_eq!(sequences(&stored(&site, server)[&("sensor".to_owned(), 0)]), (0..SCHEMAS as u64 + 2).into());
}

pub(crate) fn a_gateway_keeps_its_devices_apart(sdk: Sdk) {
    let site = Site::new();
    let identity = site.enroll_gateway("gateway", "site/*");
    let server = site.serve();
    let mut client = Client::connect(sdk, server.quic, identity.as_ref());
    let names: Vec<_> = (0..5).map(|number| format!("site/öl {number}")).collect();
    for name in &names {
        client.attach(name, None);
    }
    for round in 0..4 {
        for (number, name) in (0..).zip(&names) {
            client.record(name, round * 10 * number..(round + 1) * 10 * number);
        }
    }
    client.flush();
    client.close();
    let stored = stored(&site, server);
    assert_eq!(stored.len(), names.len() - 1, "one has recorded nothing");
    for (number, name) in (0..).zip(&names).skip(1) {
        assert_eq!(sequences(&stored[&(name.clone(), 0)]), (0..40 * number).into());
    }
}
