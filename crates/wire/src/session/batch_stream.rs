//! Batch streams: schemas, each before its first batch, and batches.

use std::sync::Arc;

use super::SessionError;
use crate::{BatchError, BatchHeader, Payload, Schema, SessionLimits};

/// What to write to a batch stream for one batch, in order: `schema` (if any), `header`, the payload itself, and
/// `padding` zeros of [`crate::PADDING`].
#[derive(Debug)]
pub struct BatchFrames {
    /// A complete frame that announces the schema, when this stream has not yet.
    pub schema: Option<Vec<u8>>,
    /// The header of the batch frame.
    pub header: [u8; 16],
    /// How many zeros follow the payload.
    pub padding: usize,
}

/// The client's end of one batch stream: knows which schemas the stream has announced.
#[derive(Debug, Default)]
pub struct BatchStreamWriter {
    _private: (),
}

impl BatchStreamWriter {
    /// A writer for a new stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// The frames around one batch of `schema`.
    pub fn frames(&mut self, alias: u32, schema: &Arc<Schema>, payload: &Payload) -> BatchFrames {
        let _ = (alias, schema, payload);
        unimplemented!()
    }
}

/// What came on a batch stream.
#[derive(Debug)]
pub enum Incoming {
    /// A batch whose header is readable and whose schema was announced. Its columns are not checked yet:
    /// [`crate::Batch::validate`].
    Batch {
        /// Which attached device it is of.
        alias: u32,
        /// Its header.
        header: BatchHeader,
        /// Its schema.
        schema: Arc<Schema>,
        /// Its bytes.
        payload: Payload,
    },
    /// A frame that arrived intact and holds no batch that can be read. The stream goes on after it.
    Unreadable {
        /// Which attached device it is of.
        alias: u32,
        /// Its header, when that much can be read (its schema was not announced).
        header: Option<BatchHeader>,
        /// Its bytes.
        payload: Payload,
        /// What is wrong.
        error: BatchError,
    },
}

/// The server's end of one batch stream.
#[derive(Debug)]
pub struct BatchStreamReader {
    _private: (),
}

impl BatchStreamReader {
    /// A reader for a new stream.
    pub fn new(limits: &SessionLimits) -> Self {
        let _ = limits;
        Self { _private: () }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        let _ = chunk;
        unimplemented!()
    }

    /// The next batch, if a whole one is here. An error ends the stream and the connection.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is fallible and resumes after more bytes, unlike an iterator"
    )]
    pub fn next(&mut self) -> Result<Option<Incoming>, SessionError> {
        unimplemented!()
    }
}
