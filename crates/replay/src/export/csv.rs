//! Comma-separated values.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use icecore_wire::{Field, Schema, SchemaId, Value};

use super::output::Output;
use super::text::{TimeText, non_finite, push_array, push_finite, push_hex, push_integer};
use super::{Sink, ndjson};
use crate::{Event, ReplayError};

/// Writes events of one schema as CSV (RFC 4180, lines end with a line feed, UTF-8).
///
/// The header is `device,epoch,seq,timestamp,<fields>…`. `epoch` is the epoch's number, `seq` the sequence,
/// `timestamp` the event time in RFC 3339, UTC, with nine decimals. Of a schema with several versions the columns are
/// the newest version's fields in their order, then fields that only older versions have; a field that an event's
/// version lacks is an empty cell.
///
/// | type | cell |
/// |---|---|
/// | null | empty |
/// | text | as it is; in quotes where it holds a comma, a quote or a line break, and where it is empty |
/// | f64, f32 | the shortest text that reads back equal (`270`, `0.1`, `1e+300`, `-0`); `NaN`, `inf`, `-inf` |
/// | i64, u64 | decimal |
/// | bool | `1` or `0`, so that a column of flags is a column of numbers |
/// | timestamp | like the event time |
/// | bytes | lower-case hexadecimal; empty bytes are `""` |
/// | lists | a JSON array in quotes, non-finite numbers as in [`Ndjson`](super::Ndjson) |
#[derive(Debug)]
pub struct Csv<W> {
    output: Output<W>,
    layouts: Vec<Layout>,
    /// Which layout the last event had; the next has mostly the same.
    current: usize,
    event_time: TimeText,
    field_time: TimeText,
    scratch: Vec<u8>,
}

/// Where the fields of one version of the schema go.
#[derive(Debug)]
struct Layout {
    schema: SchemaId,
    /// Per column the field it shows; `None` where the version has no such field.
    fields: Vec<Option<usize>>,
    /// Whether column and field numbers are the same.
    straight: bool,
}

impl<W: Write> Csv<W> {
    /// Prepares the header for events of `schemas`, which must be versions of one schema
    /// ([`Replay::schemas`](crate::Replay::schemas) lists those a query can meet; of none the header has no fields).
    pub fn new(out: W, schemas: &[Arc<Schema>]) -> Result<Self, ReplayError> {
        if schemas.windows(2).any(|pair| pair[0].name() != pair[1].name()) {
            return Err(ReplayError::several_schemas("CSV", schemas));
        }
        let columns = columns_of(schemas);
        let layouts = schemas.iter().map(|schema| Layout::new(schema, &columns)).collect();
        let mut output = Output::new(out);
        output.buffer.extend_from_slice(b"device,epoch,seq,timestamp");
        for column in columns {
            output.buffer.push(b',');
            push_text(&mut output.buffer, column);
        }
        output.end_line()?;
        Ok(Self {
            output,
            layouts,
            current: 0,
            event_time: TimeText::default(),
            field_time: TimeText::default(),
            scratch: Vec::new(),
        })
    }

    /// Makes `current` the layout of the schema.
    #[inline]
    fn select_layout(&mut self, schema: &Schema) -> Result<(), ReplayError> {
        if self.layouts.get(self.current).is_some_and(|layout| layout.schema == schema.id()) {
            return Ok(());
        }
        let found = self.layouts.iter().position(|layout| layout.schema == schema.id());
        self.current = found.ok_or_else(|| ReplayError::NotInHeader {
            name: schema.name().to_owned(),
            version: schema.version(),
        })?;
        Ok(())
    }

    #[inline]
    fn push_cell(&mut self, value: Value<'_>) {
        self.output.buffer.push(b',');
        let text = &mut self.output.buffer;
        match value {
            Value::Null => {}
            Value::F64(number) if number.is_finite() => push_finite(text, number),
            Value::F64(number) => text.extend_from_slice(non_finite(number)),
            Value::F32(number) if number.is_finite() => push_finite(text, number),
            Value::F32(number) => text.extend_from_slice(non_finite(number.into())),
            Value::I64(number) => push_integer(text, number),
            Value::U64(number) => push_integer(text, number),
            Value::Bool(flag) => text.push(b'0' + u8::from(flag)),
            Value::Text(string) => push_text(text, string),
            Value::Bytes([]) => text.extend_from_slice(b"\"\""),
            Value::Bytes(bytes) => push_hex(text, bytes),
            Value::Timestamp(time) => self.field_time.push(text, time),
            Value::F32List(numbers) => {
                self.scratch.clear();
                push_array(&mut self.scratch, numbers, ndjson::push_f32);
                push_quoted(text, &self.scratch);
            }
            Value::I16List(numbers) => {
                self.scratch.clear();
                push_array(&mut self.scratch, numbers, push_integer);
                push_quoted(text, &self.scratch);
            }
        }
    }
}

impl<W: Write> Sink for Csv<W> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), ReplayError> {
        self.select_layout(event.schema)?;
        let text = &mut self.output.buffer;
        push_text(text, event.source.device.as_str());
        text.push(b',');
        push_integer(text, event.source.number);
        text.push(b',');
        push_integer(text, event.sequence);
        text.push(b',');
        self.event_time.push(text, event.event_time);
        if self.layouts[self.current].straight {
            for value in event.values() {
                self.push_cell(value);
            }
        } else {
            let values: Vec<Value<'_>> = event.values().collect();
            for column in 0..self.layouts[self.current].fields.len() {
                let field = self.layouts[self.current].fields[column];
                self.push_cell(field.map_or(Value::Null, |field| values[field]));
            }
        }
        self.output.end_line()
    }

    fn flush(&mut self) -> Result<(), ReplayError> {
        self.output.flush()
    }
}

impl Layout {
    fn new(schema: &Schema, columns: &[&str]) -> Self {
        let numbers: HashMap<String, usize> =
            schema.fields().iter().enumerate().map(|(i, field)| (field.name().to_lowercase(), i)).collect();
        let fields: Vec<_> = columns.iter().map(|name| numbers.get(&name.to_lowercase()).copied()).collect();
        let straight = fields.iter().copied().eq((0..schema.fields().len()).map(Some));
        Self { schema: schema.id(), fields, straight }
    }
}

/// The field names of the newest version, then those that only older ones have. Names that differ in case only are one.
fn columns_of(versions: &[Arc<Schema>]) -> Vec<&str> {
    let mut newest_first: Vec<&Schema> = versions.iter().map(|schema| &**schema).collect();
    newest_first.sort_by_key(|schema| Reverse(schema.version()));
    let mut seen = HashSet::new();
    let fields = newest_first.into_iter().flat_map(Schema::fields);
    fields.map(Field::name).filter(|name| seen.insert(name.to_lowercase())).collect()
}

/// Appends a text, in quotes where it needs them; empty text does, since null is the empty cell.
#[inline]
fn push_text(text: &mut Vec<u8>, string: &str) {
    let plain = !string.is_empty() && !string.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r'));
    if plain { text.extend_from_slice(string.as_bytes()) } else { push_quoted(text, string.as_bytes()) }
}

fn push_quoted(text: &mut Vec<u8>, bytes: &[u8]) {
    text.push(b'"');
    for &byte in bytes {
        if byte == b'"' {
            text.push(b'"');
        }
        text.push(byte);
    }
    text.push(b'"');
}

#[cfg(test)]
mod tests {
    use icecore_wire::ColumnType;
    use proptest::prelude::*;

    use super::*;
    use crate::sample;

    fn csv_of(schemas: &[Arc<Schema>], batches: &[crate::Selection]) -> String {
        let mut out = Vec::new();
        let mut sink = Csv::new(&mut out, schemas).unwrap();
        for batch in batches {
            batch.for_each(|event| sink.event(event)).unwrap();
        }
        sink.flush().unwrap();
        drop(sink);
        String::from_utf8(out).unwrap()
    }

    fn flow(name: &str, version: u32) -> Arc<Schema> {
        sample::schema(name, version, &[("rate", ColumnType::F64)])
    }

    #[test]
    fn every_type_has_its_text() {
        let schema = sample::every_type();
        let rows = [
            (0, vec![Value::Null; 10]),
            (
                -1,
                vec![
                    Value::F64(f64::NAN),
                    Value::F32(0.1),
                    Value::I64(i64::MIN),
                    Value::U64(u64::MAX),
                    Value::Bool(false),
                    Value::Text(""),
                    Value::Bytes(&[]),
                    Value::Timestamp(1),
                    Value::F32List(&[1.0, f32::NEG_INFINITY, f32::NAN]),
                    Value::I16List(&[-1, 2]),
                ],
            ),
            (
                1,
                vec![
                    Value::F64(f64::NEG_INFINITY),
                    Value::F32(f32::INFINITY),
                    Value::I64(0),
                    Value::U64(0),
                    Value::Bool(true),
                    Value::Text("a \"b\",\nc"),
                    Value::Bytes(b"\x00\xff"),
                    Value::Timestamp(0),
                    Value::F32List(&[0.5, -0.0, 1e30]),
                    Value::I16List(&[0, 0]),
                ],
            ),
        ];
        let batch = sample::selection(&sample::source("a,b", 2), &schema, 9, &rows);
        assert_eq!(
            csv_of(&[schema], &[batch]),
            "device,epoch,seq,timestamp,f64,f32,i64,u64,bool,text,bytes,time,f32s,i16s\n\
             \"a,b\",2,9,1970-01-01T00:00:00.000000000Z,,,,,,,,,,\n\
             \"a,b\",2,10,1969-12-31T23:59:59.999999999Z,NaN,0.1,-9223372036854775808,18446744073709551615,0,\
             \"\",\"\",1970-01-01T00:00:00.000000001Z,\"[1,\"\"-inf\"\",\"\"NaN\"\"]\",\"[-1,2]\"\n\
             \"a,b\",2,11,1970-01-01T00:00:00.000000001Z,-inf,inf,0,0,1,\
             \"a \"\"b\"\",\nc\",00ff,1970-01-01T00:00:00.000000000Z,\"[0.5,-0,1e+30]\",\"[0,0]\"\n"
        );
    }

    #[test]
    fn versions_of_one_schema_share_a_header() {
        let old = sample::schema("flow", 1, &[("gone", ColumnType::I64), ("rate", ColumnType::F32)]);
        let new = sample::schema("flow", 2, &[("rate", ColumnType::F64), ("fresh", ColumnType::I64)]);
        let source = sample::source("d", 0);
        let batches = [
            sample::selection(&source, &old, 0, &[(0, vec![Value::I64(1), Value::F32(0.5)])]),
            sample::selection(&source, &new, 1, &[(0, vec![Value::F64(2.5), Value::I64(3)])]),
        ];
        let text = csv_of(&[old, new], &batches);
        let cells: Vec<&str> = text
            .lines()
            .map(|line| line.rsplitn(4, ',').last().map_or("", |rest| &line[rest.len()..]))
            .collect();
        assert_eq!(cells, [",rate,fresh,gone", ",0.5,,1", ",2.5,3,"]);
    }

    #[test]
    fn several_schemas_are_named() {
        let schemas = [flow("b", 1), flow("a", 1), flow("a", 2)];
        let message = Csv::new(Vec::new(), &schemas).unwrap_err().to_string();
        assert!(message.contains("matches 2: a, b"), "{message}");
    }

    #[test]
    fn an_event_of_another_schema_is_refused() {
        let (expected, other) = (flow("flow", 1), flow("heat", 3));
        let mut sink = Csv::new(Vec::new(), &[expected]).unwrap();
        let batch = sample::selection(&sample::source("d", 0), &other, 0, &[(0, vec![Value::Null])]);
        let message = batch.for_each(|event| sink.event(event)).unwrap_err().to_string();
        assert!(message.contains("heat version 3"), "{message}");
    }

    proptest! {
        #[test]
        fn any_text_reads_back(texts in prop::collection::vec(prop::option::of("[a-c,\"\r\n 🦀]{0,6}"), 1..20)) {
            let schema = sample::schema("note", 1, &[("first", ColumnType::Text), ("last", ColumnType::Text)]);
            fn value(text: &Option<String>) -> Value<'_> {
                text.as_deref().map_or(Value::Null, Value::Text)
            }
            let rows: Vec<_> = texts.iter().map(|text| (0, vec![value(text), value(text)])).collect();
            let text = csv_of(std::slice::from_ref(&schema), &[sample::selection(&sample::source("d", 0), &schema, 0, &rows)]);
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let records: Vec<_> = reader.records().map(Result::unwrap).collect();
            prop_assert_eq!(records.len(), texts.len());
            for (record, text) in records.iter().zip(&texts) {
                let expected = text.as_deref().unwrap_or_default();
                prop_assert_eq!((&record[4], &record[5]), (expected, expected));
            }
        }
    }
}
