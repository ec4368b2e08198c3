//! Batch streams: schemas, each before its first batch, and batches.
//!
//! Both ends remember the newest [`MAX_STREAM_SCHEMAS`] announcements of a stream; whatever fell out is announced anew.

use std::collections::VecDeque;
use std::sync::Arc;

use super::SessionError;
use crate::batch::{compact, compact_header, expand};
use crate::frame::{FRAME_HEADER_BYTES, append_frame, write_header};
use crate::limits::MAX_STREAM_SCHEMAS;
use crate::{
    BatchError, BatchHeader, Frame, FrameKind, FrameReader, Payload, Schema, SchemaId, SessionLimits,
};

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

    /// Appends one batch of `schema` to what is to be written to the stream: its schema first, when the stream does not
    /// know it, and the batch, in the compact form where that pays.
    pub fn append(&mut self, alias: u32, schema: &Schema, payload: &Payload, stream: &mut Vec<u8>) {
        if !self.announced.contains(&schema.id()) {
            remember(&mut self.announced, schema.id());
            let canonical = schema.canonical();
            append_frame(FrameKind::Schema, 0, stream, |stream| stream.extend_from_slice(canonical));
        }
        let newer = self.announced.iter().rev().position(|id| *id == schema.id());
        let newer = newer.expect("it was announced just now") as u8;
        match compact(payload, schema) {
            Some(compact) => append_frame(FrameKind::CompactBatch, alias, stream, |stream| {
                stream.push(newer);
                stream.extend_from_slice(&compact);
            }),
            None => append_frame(FrameKind::Batch, alias, stream, |stream| stream.extend_from_slice(payload)),
        }
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
        /// Its bytes, of the archive in any case.
        payload: Payload,
    },
    /// A frame that arrived intact and holds no batch that can be read. The stream goes on after it.
    Unreadable {
        /// Which attached device it is of.
        alias: u32,
        /// Its header, when that much can be read (its schema was not announced, or it has too many rows).
        header: Option<BatchHeader>,
        /// Its bytes, as they came.
        payload: Payload,
        /// What is wrong.
        error: BatchError,
    },
}

/// The server's end of one batch stream.
#[derive(Debug)]
pub struct BatchStreamReader {
    frames: FrameReader,
    max_bytes: usize,
    max_rows: u32,
    schemas: VecDeque<Arc<Schema>>,
    /// Whether a frame came already.
    begun: bool,
    backlog: bool,
    compact: bool,
}

impl BatchStreamReader {
    /// A reader for a new stream.
    pub fn new(limits: &SessionLimits) -> Self {
        Self {
            frames: FrameReader::batches(limits.max_batch_bytes as usize),
            max_bytes: limits.max_batch_bytes as usize,
            max_rows: limits.max_rows,
            schemas: VecDeque::new(),
            begun: false,
            backlog: false,
            compact: false,
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
                FrameKind::CompactBatch => return self.compact_batch(frame).map(Some),
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

    /// Whether a batch came in the compact form: then the client reads [compact acks](crate::ServerSession::ack_compactly) too.
    pub fn is_compact(&self) -> bool {
        self.compact
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

    fn compact_batch(&mut self, frame: Frame) -> Result<Incoming, SessionError> {
        self.compact = true;
        let Frame { kind, alias, payload } = frame;
        let named = payload.split_first().and_then(|(newer, compact)| {
            self.schemas.iter().nth_back(usize::from(*newer)).map(|schema| (schema, compact))
        });
        let Some((schema, compact)) = named else {
            return Err(SessionError::unexpected(kind, "it names no schema that its stream remembers"));
        };
        match expand(compact, schema, self.max_bytes) {
            Ok(archive) => self.batch(Frame { kind, alias, payload: archive }),
            Err(error) => {
                let header = compact_header(compact, schema);
                Ok(Incoming::Unreadable { alias, header, payload, error })
            }
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
