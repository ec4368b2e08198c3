//! Of the rows of windows, those that count.

use std::io::{ErrorKind, Write};

use icecore_wire::{SchemaId, Value};

use super::stored::REVISION;
use crate::export::{EventJson, Output};
use crate::{Event, ReplayError, Sink};

/// Writes, of rows that come in the order of event time, those with the highest revision of each window, as [`Ndjson`](crate::Ndjson)
/// writes events. It holds the rows of one window.
#[derive(Debug)]
pub struct NewestRows<W> {
    output: Output<W>,
    text: EventJson,
    schema: String,
    /// Rows that may still be written.
    left: u64,
    /// How many were.
    rows: u64,
    /// Whether there was one row more.
    more: bool,
    start: i64,
    /// One of each version of the schema.
    window: Vec<Row>,
}

/// The newest row of a window so far.
#[derive(Debug)]
struct Row {
    schema: SchemaId,
    revision: u64,
    line: Vec<u8>,
}

impl<W: Write> NewestRows<W> {
    /// Writes to `out` what is of the schema called `schema`, `limit` rows at most: then it ends the replay, as if the reader of the
    /// output had gone away.
    pub fn new(out: W, schema: String, limit: u64) -> Self {
        let (output, text) = (Output::new(out), EventJson::default());
        Self { output, text, schema, left: limit, rows: 0, more: false, start: 0, window: Vec::new() }
    }

    /// How many rows were written, and whether there are more.
    #[must_use]
    pub fn written(&self) -> (u64, bool) {
        (self.rows, self.more)
    }

    fn write(&mut self) -> Result<(), ReplayError> {
        for row in std::mem::take(&mut self.window) {
            if self.left == 0 {
                self.more = true;
                return Err(ReplayError::Output(ErrorKind::BrokenPipe.into()));
            }
            (self.left, self.rows) = (self.left - 1, self.rows + 1);
            self.output.buffer.extend_from_slice(&row.line);
            self.output.end_line()?;
        }
        Ok(())
    }
}

impl<W: Write> Sink for NewestRows<W> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), ReplayError> {
        if event.schema.name() != self.schema {
            return Ok(());
        }
        if event.event_time != self.start {
            self.write()?;
            self.start = event.event_time;
        }
        let revision = match event.values().nth(REVISION) {
            Some(Value::U64(revision)) => revision,
            _ => 0,
        };
        let schema = event.schema.id();
        let known = self.window.iter().position(|row| row.schema == schema);
        let at = known.unwrap_or_else(|| {
            self.window.push(Row { schema, revision, line: Vec::new() });
            self.window.len() - 1
        });
        let row = &mut self.window[at];
        if revision >= row.revision {
            row.revision = revision;
            row.line.clear();
            self.text.push(&mut row.line, event);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ReplayError> {
        self.output.flush()
    }

    fn finish(&mut self) -> Result<(), ReplayError> {
        // After the limit nothing is held.
        let written = self.write();
        self.output.flush().and(written)
    }
}
