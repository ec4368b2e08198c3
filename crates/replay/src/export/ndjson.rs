//! Newline-delimited JSON.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use icecore_log::Source;
use icecore_wire::{Field, Schema, SchemaId, Value};

use super::Sink;
use super::output::Output;
use super::text::{TimeText, non_finite, push_array, push_finite, push_hex, push_integer, push_json_string};
use crate::{Event, ReplayError};

/// Writes events of any schemas as one JSON object a line, with every attribute of the event:
///
/// ```json
/// {"device":"EWR","epoch":"b1946ac92492d2347c6235b4d2611184","epoch_number":0,"seq":7,"position":52,
///  "event_time":"2013-01-01T05:00:00.000000000Z","received_time":"2026-01-31T12:00:00.123456789Z",
///  "time_uncertain":false,"schema":"weather","version":1,"fields":{"temp":39.02,"wind_gust":null}}
/// ```
///
/// (on one line). `epoch` is the epoch's id, `position` the event's ordinal in the log. `fields` has every field of the
/// event's schema version, in order:
///
/// | type | value |
/// |---|---|
/// | null | `null` |
/// | text | string |
/// | f64, f32 | the shortest number that reads back equal; `"NaN"`, `"inf"`, `"-inf"`, which JSON has no number for |
/// | i64, u64 | number with every digit, also beyond 2^53 |
/// | bool | `true` or `false` |
/// | timestamp | string, RFC 3339 in UTC with nine decimals |
/// | bytes | string, lower-case hexadecimal |
/// | lists | array of numbers |
#[derive(Debug)]
pub struct Ndjson<W> {
    output: Output<W>,
    events: EventJson,
}

/// Writes single events as [`Ndjson`] does.
#[derive(Debug, Default)]
pub struct EventJson {
    /// The escaped `"schema":…,"version":…,"fields":{` and field names of the schemas met so far.
    schemas: HashMap<SchemaId, SchemaText>,
    source: SourceText,
    event_time: TimeText,
    received_time: TimeText,
    field_time: TimeText,
}

/// The parts of a line that are the same for all events of a schema.
#[derive(Debug)]
struct SchemaText {
    head: Vec<u8>,
    /// Per field `,"name":` (the first without the comma).
    fields: Vec<Vec<u8>>,
}

/// The beginning of a line, which is the same for all events of a source; the next event mostly has the same one.
#[derive(Debug, Default)]
struct SourceText {
    source: Option<Arc<Source>>,
    text: Vec<u8>,
}

impl<W: Write> Ndjson<W> {
    /// A sink that writes to `out`, in large pieces.
    pub fn new(out: W) -> Self {
        Self { output: Output::new(out), events: EventJson::default() }
    }
}

impl<W: Write> Sink for Ndjson<W> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), ReplayError> {
        self.events.push(&mut self.output.buffer, event);
        self.output.end_line()
    }

    fn flush(&mut self) -> Result<(), ReplayError> {
        self.output.flush()
    }
}

impl EventJson {
    /// Appends the object of `event` to `text`, without a line feed.
    pub fn push(&mut self, text: &mut Vec<u8>, event: &Event<'_>) {
        text.extend_from_slice(self.source.of(event.source));
        push_integer(text, event.sequence);
        text.extend_from_slice(b",\"position\":");
        push_integer(text, event.position);
        text.extend_from_slice(b",\"event_time\":\"");
        self.event_time.push(text, event.event_time);
        text.extend_from_slice(b"\",\"received_time\":\"");
        self.received_time.push(text, event.received_time);
        text.extend_from_slice(b"\",\"time_uncertain\":");
        push_bool(text, event.time_uncertain);
        let schema = self.schemas.entry(event.schema.id()).or_insert_with(|| SchemaText::new(event.schema));
        text.extend_from_slice(&schema.head);
        for (name, value) in schema.fields.iter().zip(event.values()) {
            text.extend_from_slice(name);
            push_value(text, value, &mut self.field_time);
        }
        text.extend_from_slice(b"}}");
    }
}

impl SchemaText {
    fn new(schema: &Schema) -> Self {
        let mut head = b",\"schema\":".to_vec();
        push_json_string(&mut head, schema.name());
        head.extend_from_slice(b",\"version\":");
        push_integer(&mut head, schema.version());
        head.extend_from_slice(b",\"fields\":{");
        let field_text = |(i, name): (usize, &str)| {
            let mut text = if i == 0 { Vec::new() } else { b",".to_vec() };
            push_json_string(&mut text, name);
            text.push(b':');
            text
        };
        let names = schema.fields().iter().map(Field::name);
        Self { head, fields: names.enumerate().map(field_text).collect() }
    }
}

impl SourceText {
    /// `{"device":…,"epoch":…,"epoch_number":…,"seq":` of `source`.
    fn of(&mut self, source: &Arc<Source>) -> &[u8] {
        if self.source.as_ref().is_none_or(|last| !Arc::ptr_eq(last, source)) {
            self.text.clear();
            self.text.extend_from_slice(b"{\"device\":");
            push_json_string(&mut self.text, source.device.as_str());
            self.text.extend_from_slice(b",\"epoch\":\"");
            push_hex(&mut self.text, source.epoch.as_bytes());
            self.text.extend_from_slice(b"\",\"epoch_number\":");
            push_integer(&mut self.text, source.number);
            self.text.extend_from_slice(b",\"seq\":");
            self.source = Some(Arc::clone(source));
        }
        &self.text
    }
}

#[inline]
fn push_value(text: &mut Vec<u8>, value: Value<'_>, time_text: &mut TimeText) {
    match value {
        Value::Null => text.extend_from_slice(b"null"),
        Value::F64(number) if number.is_finite() => push_finite(text, number),
        Value::F64(number) => push_non_finite(text, number),
        Value::F32(number) => push_f32(text, number),
        Value::I64(number) => push_integer(text, number),
        Value::U64(number) => push_integer(text, number),
        Value::Bool(flag) => push_bool(text, flag),
        Value::Text(string) => push_json_string(text, string),
        Value::Bytes(bytes) => {
            text.push(b'"');
            push_hex(text, bytes);
            text.push(b'"');
        }
        Value::Timestamp(time) => {
            text.push(b'"');
            time_text.push(text, time);
            text.push(b'"');
        }
        Value::F32List(numbers) => push_array(text, numbers, push_f32),
        Value::I16List(numbers) => push_array(text, numbers, push_integer),
    }
}

/// Appends a single as a number, or as a string where JSON has no number.
pub(super) fn push_f32(text: &mut Vec<u8>, number: f32) {
    if number.is_finite() { push_finite(text, number) } else { push_non_finite(text, f64::from(number)) }
}

fn push_non_finite(text: &mut Vec<u8>, number: f64) {
    text.push(b'"');
    text.extend_from_slice(non_finite(number));
    text.push(b'"');
}

fn push_bool(text: &mut Vec<u8>, flag: bool) {
    text.extend_from_slice(if flag { b"true" } else { b"false" });
}

#[cfg(test)]
mod tests {
    use icecore_wire::ColumnType;

    use super::*;
    use crate::sample;

    #[test]
    fn every_attribute_is_told() {
        let schema = sample::every_type();
        let rows = [
            (0, vec![Value::Null; 10]),
            (
                -1,
                vec![
                    Value::F64(f64::NAN),
                    Value::F32(f32::NEG_INFINITY),
                    Value::I64(i64::MIN),
                    Value::U64(u64::MAX),
                    Value::Bool(true),
                    Value::Text("a\"\n"),
                    Value::Bytes(b"\x00\xff"),
                    Value::Timestamp(1),
                    Value::F32List(&[1.0, 0.5, f32::NAN]),
                    Value::I16List(&[-1, 2]),
                ],
            ),
        ];
        let mut out = Vec::new();
        let mut sink = Ndjson::new(&mut out);
        let batch = sample::selection(&sample::source("d\"1", 2), &schema, 9, &rows);
        batch.for_each(|event| sink.event(event)).unwrap();
        let other = sample::schema("heat", 3, &[("a", ColumnType::I64)]);
        let batch = sample::selection(&sample::source("e", 0), &other, 0, &[(0, vec![Value::I64(7)])]);
        batch.for_each(|event| sink.event(event)).unwrap();
        sink.flush().unwrap();
        drop(sink);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"device":"d\"1","epoch":"02020202020202020202020202020202","epoch_number":2,"seq":9,"#,
                r#""position":109,"event_time":"1970-01-01T00:00:00.000000000Z","#,
                r#""received_time":"1970-01-01T00:00:01.000000000Z","time_uncertain":false,"#,
                r#""schema":"every","version":1,"fields":{"f64":null,"f32":null,"i64":null,"u64":null,"#,
                r#""bool":null,"text":null,"bytes":null,"time":null,"f32s":null,"i16s":null}}"#,
                "\n",
                r#"{"device":"d\"1","epoch":"02020202020202020202020202020202","epoch_number":2,"seq":10,"#,
                r#""position":110,"event_time":"1969-12-31T23:59:59.999999999Z","#,
                r#""received_time":"1970-01-01T00:00:01.000000000Z","time_uncertain":false,"#,
                r#""schema":"every","version":1,"fields":{"f64":"NaN","f32":"-inf","#,
                r#""i64":-9223372036854775808,"u64":18446744073709551615,"bool":true,"text":"a\"\n","#,
                r#""bytes":"00ff","time":"1970-01-01T00:00:00.000000001Z","f32s":[1,0.5,"NaN"],"i16s":[-1,2]}}"#,
                "\n",
                r#"{"device":"e","epoch":"00000000000000000000000000000000","epoch_number":0,"seq":0,"#,
                r#""position":100,"event_time":"1970-01-01T00:00:00.000000000Z","#,
                r#""received_time":"1970-01-01T00:00:01.000000000Z","time_uncertain":false,"#,
                r#""schema":"heat","version":3,"fields":{"a":7}}"#,
                "\n",
            )
        );
    }
}
