//! Payloads, checked and read where they lie.

use std::ops::Range;
use std::sync::Arc;

use super::{BatchError, ColumnView};
use crate::{Digest, Payload, Schema, SchemaId};

/// What stands in front of a batch's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The schema of the events.
    pub schema: SchemaId,
    /// The sequence of the first event.
    pub first_sequence: u64,
    /// How many events.
    pub count: u32,
    /// See `docs/protocol.md`; bit 0 = the event times are uncertain.
    pub flags: u32,
}

impl BatchHeader {
    /// Reads the header after checking that the archive is well formed and the sequences do not overflow. The columns'
    /// content is left to [`Batch::validate`].
    pub fn peek(payload: &Payload) -> Result<Self, BatchError> {
        let _ = payload;
        unimplemented!()
    }

    /// The sequences of the batch.
    pub fn range(&self) -> Range<u64> {
        self.first_sequence..self.first_sequence + u64::from(self.count)
    }

    /// Whether the device had no trustworthy clock.
    pub fn time_uncertain(&self) -> bool {
        self.flags & 1 != 0
    }
}

/// A validated batch. Plain columns are read where they lie in the payload; pco columns were decoded once.
#[derive(Debug)]
pub struct Batch {
    payload: Payload,
    schema: Arc<Schema>,
    header: BatchHeader,
}

impl Batch {
    /// Checks everything about `payload` as a batch of `schema`; hostile bytes are refused, never a panic, and never
    /// make it allocate more than [`crate::limits::MAX_DECODED_BATCH_BYTES`] and a fixed working set.
    pub fn validate(payload: Payload, schema: Arc<Schema>) -> Result<Self, BatchError> {
        let _ = (payload, schema);
        unimplemented!()
    }

    /// The header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The schema.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The sequence of the first event.
    pub fn first_sequence(&self) -> u64 {
        self.header.first_sequence
    }

    /// How many events (at least one).
    pub fn count(&self) -> u32 {
        self.header.count
    }

    /// The sequences of the batch.
    pub fn range(&self) -> Range<u64> {
        self.header.range()
    }

    /// The digest of the payload, computed on each call.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// The bytes.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The bytes, letting go of decoded columns.
    pub fn into_payload(self) -> Payload {
        self.payload
    }

    /// Event times, nanoseconds since the Unix epoch, one a row.
    pub fn times(&self) -> &[i64] {
        unimplemented!()
    }

    /// The column of field `field`. Panics when the schema has no such field.
    pub fn column(&self, field: usize) -> ColumnView<'_> {
        let _ = field;
        unimplemented!()
    }
}
