//! Reading a batch stream: bytes to validated batches to the writer's queue.
//!
//! This is the path that every event takes on the QUIC thread. Per batch it costs one copy into an aligned buffer, the
//! frame's checksum, validation in place, and its share of one queue lock per read.

use std::sync::Arc;

use bytes::Bytes;
use icecore_wire::{
    Batch, BatchError, BatchHeader, BatchStreamReader, Code, Incoming, Payload, SessionError, SessionLimits,
};
use quinn::{ReadError, RecvStream};

use super::Session;
use crate::endpoint::Hub;
use crate::writer::{Attachment, Body, Class, InvalidBatch, Lane, MAX_GROUP_BYTES, Submission};

/// Chunks taken from QUIC at once, each at most a packet. Enough to spread the cost of a wake, few enough that a
/// connection does not hold on to much while it waits for room in the queue.
const CHUNKS: usize = 32;

/// Bytes of batches submitted together. One more batch always fits below the largest group.
const GROUP_BYTES: usize = MAX_GROUP_BYTES / 4;
const _: () = assert!(GROUP_BYTES + icecore_wire::limits::MAX_BATCH_BYTES + 4096 <= MAX_GROUP_BYTES);

/// Batches that were read from one stream and not submitted.
#[derive(Default)]
struct Group {
    submissions: Vec<Submission>,
    bytes: usize,
    /// The stream's way into the writer's queue; made when the first frame has told of what class it is.
    lane: Option<Lane>,
}

/// Reads a batch stream to its end. An error is the client's breach of the protocol.
pub(super) async fn read(
    hub: Arc<Hub>,
    session: Arc<Session>,
    mut stream: RecvStream,
) -> Result<(), SessionError> {
    let mut reader = BatchStreamReader::new(&SessionLimits::default());
    let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
    let mut group = Group::default();
    loop {
        let count = match stream.read_chunks(&mut chunks).await {
            Ok(Some(count)) => count,
            // The stream or the connection has ended; whoever drives the connection knows why.
            Ok(None) | Err(ReadError::Reset(_) | ReadError::ConnectionLost(_)) => return Ok(()),
            Err(ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected) => {
                unreachable!("the stream is read in order, by this task alone, and never in 0-RTT")
            }
        };
        for chunk in &mut chunks[..count] {
            reader.push(&std::mem::take(chunk));
        }
        while let Some(incoming) = reader.next()? {
            group.lane.get_or_insert_with(|| Lane::new(class(&reader)));
            let (Incoming::Batch { alias, .. } | Incoming::Unreadable { alias, .. }) = &incoming;
            let mut from = session.attachment(*alias);
            if from.is_none() {
                group.submit(&hub).await;
                from = session.await_attach(*alias).await?;
            }
            match from {
                Some(from) => group.push(judge(from, incoming)),
                None => hub.metrics.unattached.increment(1),
            }
            if group.bytes >= GROUP_BYTES {
                group.submit(&hub).await;
            }
        }
        group.submit(&hub).await;
        // A client that always has data does not keep the others from their turn.
        tokio::task::yield_now().await;
    }
}

fn class(reader: &BatchStreamReader) -> Class {
    if reader.is_backlog() { Class::Backlog } else { Class::Live }
}

impl Group {
    fn push(&mut self, submission: Submission) {
        self.bytes += submission.bytes();
        self.submissions.push(submission);
    }

    /// Waits for room and submits. While it waits, the stream is not read, and QUIC's flow control stops the client.
    async fn submit(&mut self, hub: &Hub) {
        let Some(lane) = self.lane.as_ref().filter(|_| !self.submissions.is_empty()) else { return };
        match hub.inbox.reserve_in(lane, self.bytes).await {
            Ok(room) => room.submit(self.submissions.drain(..)),
            // The writer has ended and the server is about to: nothing read from here on would be acked. To end the
            // stream now would tell the client that it did something wrong.
            Err(_) => std::future::pending().await,
        }
        self.bytes = 0;
    }
}

/// Validates what came.
fn judge(from: Arc<Attachment>, incoming: Incoming) -> Submission {
    let body = match incoming {
        Incoming::Batch { header, schema, payload, .. } => match Batch::validate(payload.clone(), schema) {
            Ok(batch) => Body::Batch(batch.into()),
            Err(error) => invalid(Some(header), &error, payload),
        },
        Incoming::Unreadable { header, payload, error, .. } => invalid(header, &error, payload),
    };
    Submission { from, body }
}

/// A batch to be refused; its range is empty when not even that can be read.
fn invalid(header: Option<BatchHeader>, error: &BatchError, payload: Payload) -> Body {
    let code = match error {
        BatchError::UnknownSchema(_) => Code::UnknownSchema,
        BatchError::TooLarge(_) | BatchError::DecodedTooLarge(_) => Code::TooLarge,
        _ => Code::MalformedBatch,
    };
    let range = header.map_or(0..0, |header| header.range());
    Body::Invalid(InvalidBatch { range, code, message: error.to_string(), payload })
}
