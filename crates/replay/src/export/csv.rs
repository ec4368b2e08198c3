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
/// | f64, f32 | the shortest text that reads back equal (`270`, `0.1`, `1e300`, `-0`); `NaN`, `inf`, `-inf` |
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
        let mut names: Vec<String> = schemas.iter().map(|schema| schema.name().to_owned()).collect();
        names.sort();
        names.dedup();
        if names.len() > 1 {
            return Err(ReplayError::SeveralSchemas { names });
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

    fn finish(&mut self) -> Result<(), ReplayError> {
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
