//! One event as the sort keeps it: 64-bit words, so that lists of numbers lie aligned and are read in place.
//!
//! | words | |
//! |---|---|
//! | 0 | event time |
//! | 1 | sequence |
//! | 2 | position |
//! | 3 | received time |
//! | 4 | number of the source (low half) and of the schema (high half) |
//! | 5… | bytes: count of values (u16), whether the time is uncertain, one tag per value; zeros up to a whole word |
//! | … | the values: none for null; one word for a number, flag or time; for text, bytes and lists their length in bytes, then their bytes, zeros up to a whole word |
//!
//! All in the machine's byte order: rows do not outlive the process.

use std::sync::Arc;

use bytemuck::{cast_slice, cast_slice_mut};
use icecore_log::Source;
use icecore_wire::{Schema, Value};

use crate::Event;
use crate::event::Cells;

/// Words in front of count, flag and tags.
const FIXED_WORDS: usize = 5;
/// Bytes in front of the tags, behind the fixed words.
const TAGS_AT: usize = 3;

const NULL: u8 = 0;
const F64: u8 = 1;
const F32: u8 = 2;
const I64: u8 = 3;
const U64: u8 = 4;
const BOOL: u8 = 5;
const TEXT: u8 = 6;
const BYTES: u8 = 7;
const TIMESTAMP: u8 = 8;
const F32_LIST: u8 = 9;
const I16_LIST: u8 = 10;

/// A row, read where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a>(&'a [u64]);

impl<'a> Row<'a> {
    /// The row in exactly these words.
    #[inline]
    pub(super) fn new(words: &'a [u64]) -> Self {
        Self(words)
    }

    /// Appends the row of `event`, whose source and schema have these numbers.
    pub(super) fn append(words: &mut Vec<u64>, event: &Event<'_>, source: u32, schema: u32) {
        words.extend_from_slice(&[
            event.event_time as u64,
            event.sequence,
            event.position,
            event.received_time as u64,
            u64::from(source) | u64::from(schema) << 32,
        ]);
        let tags_word = words.len();
        let count = event.schema.fields().len();
        words.resize(tags_word + (TAGS_AT + count).div_ceil(8), 0);
        let head: &mut [u8] = cast_slice_mut(&mut words[tags_word..]);
        head[..2].copy_from_slice(&(count as u16).to_ne_bytes());
        head[2] = u8::from(event.time_uncertain);
        for (i, value) in event.values().enumerate() {
            let tag = append_value(words, value);
            let head: &mut [u8] = cast_slice_mut(&mut words[tags_word..]);
            head[TAGS_AT + i] = tag;
        }
    }

    /// Its words.
    pub(super) fn words(self) -> &'a [u64] {
        self.0
    }

    pub(super) fn event_time(self) -> i64 {
        self.0[0] as i64
    }

    pub(super) fn sequence(self) -> u64 {
        self.0[1]
    }

    /// The number of its source.
    pub(super) fn source(self) -> u32 {
        self.0[4] as u32
    }

    /// The number of its schema.
    pub(super) fn schema(self) -> u32 {
        (self.0[4] >> 32) as u32
    }

    /// The event, given what its numbers stand for.
    pub(super) fn event(self, source: &'a Arc<Source>, schema: &'a Arc<Schema>) -> Event<'a> {
        let head: &[u8] = cast_slice(&self.0[FIXED_WORDS..]);
        let tags_end = TAGS_AT + usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let values = SpilledValues {
            tags: &head[TAGS_AT..tags_end],
            words: &self.0[FIXED_WORDS + tags_end.div_ceil(8)..],
        };
        Event {
            source,
            schema,
            sequence: self.sequence(),
            position: self.0[2],
            event_time: self.event_time(),
            received_time: self.0[3] as i64,
            time_uncertain: head[2] != 0,
            cells: Cells::Spilled(values),
        }
    }
}

/// Appends a value's words and says its tag.
#[inline]
fn append_value(words: &mut Vec<u64>, value: Value<'_>) -> u8 {
    let (tag, word) = match value {
        Value::Null => return NULL,
        Value::F64(number) => (F64, number.to_bits()),
        Value::F32(number) => (F32, number.to_bits().into()),
        Value::I64(number) => (I64, number as u64),
        Value::U64(number) => (U64, number),
        Value::Bool(flag) => (BOOL, flag.into()),
        Value::Timestamp(time) => (TIMESTAMP, time as u64),
        Value::Text(text) => return append_bytes(words, TEXT, text.as_bytes()),
        Value::Bytes(bytes) => return append_bytes(words, BYTES, bytes),
        Value::F32List(numbers) => return append_bytes(words, F32_LIST, cast_slice(numbers)),
        Value::I16List(numbers) => return append_bytes(words, I16_LIST, cast_slice(numbers)),
    };
    words.push(word);
    tag
}

fn append_bytes(words: &mut Vec<u64>, tag: u8, bytes: &[u8]) -> u8 {
    words.push(bytes.len() as u64);
    let start = words.len();
    words.resize(start + bytes.len().div_ceil(8), 0);
    cast_slice_mut(&mut words[start..])[..bytes.len()].copy_from_slice(bytes);
    tag
}

/// Values of one event that were not read yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpilledValues<'a> {
    tags: &'a [u8],
    words: &'a [u64],
}

impl<'a> SpilledValues<'a> {
    #[inline]
    fn word(&mut self) -> u64 {
        let (&word, rest) = self.words.split_first().expect("a row has the words its tags ask for");
        self.words = rest;
        word
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.word() as usize;
        let (words, rest) = self.words.split_at(length.div_ceil(8));
        self.words = rest;
        &cast_slice(words)[..length]
    }
}

impl<'a> Iterator for SpilledValues<'a> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        let (&tag, rest) = self.tags.split_first()?;
        self.tags = rest;
        Some(match tag {
            NULL => Value::Null,
            F64 => Value::F64(f64::from_bits(self.word())),
            F32 => Value::F32(f32::from_bits(self.word() as u32)),
            I64 => Value::I64(self.word() as i64),
            U64 => Value::U64(self.word()),
            BOOL => Value::Bool(self.word() != 0),
            TEXT => Value::Text(std::str::from_utf8(self.bytes()).expect("the row was made from a text")),
            BYTES => Value::Bytes(self.bytes()),
            TIMESTAMP => Value::Timestamp(self.word() as i64),
            F32_LIST => Value::F32List(cast_slice(self.bytes())),
            I16_LIST => Value::I16List(cast_slice(self.bytes())),
            _ => unreachable!("a row has no other tags"),
        })
    }
}
