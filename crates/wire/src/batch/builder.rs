//! Rows and columns gathered into the next batch.

use std::sync::Arc;

use super::{BatchError, Column, EncodeOptions, Value};
use crate::{Payload, Schema};

/// Gathers events of one schema and cuts them into batches. Its buffers are kept from batch to batch.
#[derive(Debug)]
pub struct BatchBuilder {
    schema: Arc<Schema>,
}

impl BatchBuilder {
    /// An empty builder.
    pub fn new(schema: Arc<Schema>) -> Self {
        Self { schema }
    }

    /// The schema of the events.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Adds one event: its time (nanoseconds since the Unix epoch) and one value per field. On an error nothing is
    /// added.
    pub fn row(&mut self, time: i64, values: &[Value<'_>]) -> Result<(), BatchError> {
        let _ = (time, values);
        unimplemented!()
    }

    /// Adds many events: their times and one column per field. On an error nothing is added.
    pub fn columns(&mut self, times: &[i64], columns: &[Column<'_>]) -> Result<(), BatchError> {
        let _ = (times, columns);
        unimplemented!()
    }

    /// How many events are waiting.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether none is waiting.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes the payload will take when it is encoded plain.
    pub fn bytes(&self) -> usize {
        unimplemented!()
    }

    /// Encodes the waiting events as one batch and starts over; on an error they stay.
    pub fn finish(&mut self, first_sequence: u64, options: EncodeOptions) -> Result<Payload, BatchError> {
        let _ = (first_sequence, options);
        unimplemented!()
    }
}
