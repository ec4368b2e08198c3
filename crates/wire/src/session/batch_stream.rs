//! Batch streams: schemas, each before its first batch, and batches.
//!
//! Both ends remember the newest [`MAX_STREAM_SCHEMAS`] announcements of a stream; whatever fell out is announced anew.

use std::collections::VecDeque;
use std::sync::Arc;

use super::SessionError;
use crate::frame::{FRAME_HEADER_BYTES, PADDING, padding, write_header};
use crate::limits::MAX_STREAM_SCHEMAS;
use crate::{
    BatchError, BatchHeader, Frame, FrameKind, FrameReader, Payload, Schema, SchemaId, SessionLimits,
};

/// What to write to a batch stream for one batch, in order: `schema` (if any), `header`, the payload itself, and
/// `padding` zeros of [`crate::PADDING`].
#[derive(Debug)]
pub struct BatchFrames {
    /// A complete frame that announces the schema, when this stream does not know it.
    pub schema: Option<Vec<u8>>,
    /// The header of the batch frame.
    pub header: [u8; 16],
    /// How many zeros follow the payload.
    pub padding: usize,
}

/// The client's end of one batch stream: knows which schemas the stream has announced.
#[derive(Debug, Default)]
pub struct BatchStreamWriter {
    announced: VecDeque<SchemaId>,
}

impl BatchStreamWriter {
    /// A writer for a new stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first bytes of a stream for old data: the server takes what comes on other streams first.
    pub fn backlog_mark() -> [u8; FRAME_HEADER_BYTES] {
        write_header(FrameKind::Backlog, 0, &[])
    }

    /// The frames around one batch of `schema`. They must be written, in this order, before those of the next batch.
    pub fn frames(&mut self, alias: u32, schema: &Schema, payload: &Payload) -> BatchFrames {
        let schema = (!self.announced.contains(&schema.id())).then(|| self.announce(schema));
        BatchFrames {
            schema,
            header: write_header(FrameKind::Batch, alias, payload),
            padding: padding(payload.len()),
        }
    }

    fn announce(&mut self, schema: &Schema) -> Vec<u8> {
        remember(&mut self.announced, schema.id());
        let canonical = schema.canonical();
        let mut frame = write_header(FrameKind::Schema, 0, canonical).to_vec();
        frame.extend_from_slice(canonical);
        frame.extend_from_slice(&PADDING[..padding(canonical.len())]);
        frame
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
        /// Its header, when that much can be read (its schema was not announced, or it has too many rows).
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
    frames: FrameReader,
    max_rows: u32,
    schemas: VecDeque<Arc<Schema>>,
    /// Whether a frame came already.
    begun: bool,
    backlog: bool,
}

impl BatchStreamReader {
    /// A reader for a new stream.
    pub fn new(limits: &SessionLimits) -> Self {
        Self {
            frames: FrameReader::batches(limits.max_batch_bytes as usize),
            max_rows: limits.max_rows,
            schemas: VecDeque::new(),
            begun: false,
            backlog: false,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        self.frames.push(chunk);
    }

    /// The next batch, if a whole one is here. An error ends the stream and the connection.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is fallible and goes on after more bytes, unlike an iterator"
    )]
    pub fn next(&mut self) -> Result<Option<Incoming>, SessionError> {
        while let Some(frame) = self.frames.next()? {
            let first = !std::mem::replace(&mut self.begun, true);
            match frame.kind {
                FrameKind::Batch => return self.batch(frame).map(Some),
                FrameKind::Backlog => self.marked(&frame, first)?,
                _ => self.announced(&frame)?,
            }
        }
        Ok(None)
    }

    /// Whether the client said that this stream carries old data.
    pub fn is_backlog(&self) -> bool {
        self.backlog
    }

    /// Whether the stream may end here: no frame is half read.
    pub fn is_at_boundary(&self) -> bool {
        self.frames.is_at_boundary()
    }

    fn marked(&mut self, frame: &Frame, first: bool) -> Result<(), SessionError> {
        if !first || frame.alias != 0 {
            return Err(SessionError::unexpected(
                frame.kind,
                "it is a stream's first frame and of no device",
            ));
        }
        self.backlog = true;
        Ok(())
    }

    fn announced(&mut self, frame: &Frame) -> Result<(), SessionError> {
        if frame.alias != 0 {
            return Err(SessionError::unexpected(frame.kind, "a schema is of no device"));
        }
        let schema = Schema::from_canonical(&frame.payload)?;
        if self.known(schema.id()).is_some() {
            return Err(SessionError::SchemaTwice(schema.id()));
        }
        remember(&mut self.schemas, Arc::new(schema));
        Ok(())
    }

    fn batch(&self, frame: Frame) -> Result<Incoming, SessionError> {
        let Frame { kind, alias, payload } = frame;
        if alias == 0 {
            return Err(SessionError::unexpected(kind, "a batch is of an attached device"));
        }
        let header = match BatchHeader::peek(&payload) {
            Ok(header) => header,
            Err(error) => return Ok(Incoming::Unreadable { alias, header: None, payload, error }),
        };
        let unreadable =
            |payload, error| Ok(Incoming::Unreadable { alias, header: Some(header), payload, error });
        if header.count > self.max_rows {
            return unreadable(payload, BatchError::RowCount(header.count as usize));
        }
        match self.known(header.schema) {
            Some(schema) => Ok(Incoming::Batch { alias, header, schema: Arc::clone(schema), payload }),
            None => unreadable(payload, BatchError::UnknownSchema(header.schema)),
        }
    }

    fn known(&self, id: SchemaId) -> Option<&Arc<Schema>> {
        self.schemas.iter().find(|schema| schema.id() == id)
    }
}

fn remember<T>(memory: &mut VecDeque<T>, item: T) {
    if memory.len() == MAX_STREAM_SCHEMAS {
        memory.pop_front();
    }
    memory.push_back(item);
}
