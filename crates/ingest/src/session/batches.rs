//! Reading a batch stream: bytes to validated batches to the writer's queue.
//!
//! This is the path that every event takes on the QUIC thread. Per batch it costs one copy into an aligned buffer (two of
//! a small one that came in the compact form), the frame's checksum, validation in place, and its share of one queue lock
//! per read.

use std::sync::Arc;

use bytes::Bytes;
use icecore_wire::{
    Batch, BatchError, BatchHeader, BatchStreamReader, Code, Incoming, Payload, SessionError, SessionLimits,
};
use quinn::{ReadError, RecvStream};

use super::Session;
use super::intake::Intake;
use crate::endpoint::Hub;
use crate::writer::{Attachment, Body, Class, InvalidBatch, Submission};

/// Chunks taken from QUIC at once, each at most a packet. Enough to spread the cost of a wake, few enough that a
/// connection does not hold on to much while it waits for room in the queue.
const CHUNKS: usize = 32;

/// Reads a batch stream to its end. An error is the client's breach of the protocol.
pub(super) async fn read(
    hub: Arc<Hub>,
    session: Arc<Session>,
    mut stream: RecvStream,
) -> Result<(), SessionError> {
    let mut reader = BatchStreamReader::new(&SessionLimits::default());
    let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
    let mut intake = Intake::new(Arc::clone(&hub), Arc::clone(&session));
    let mut compact = false;
    loop {
        session.caught_up().await;
        let count = match stream.read_chunks(&mut chunks).await {
            Ok(Some(count)) => count,
            // The stream or the connection has ended; whoever drives the connection knows why.
            Ok(None) | Err(ReadError::Reset(_) | ReadError::ConnectionLost(_)) => return Ok(()),
            Err(ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected) => {
                unreachable!(
                    "the stream is read in order, by this task alone, and clients' 0-RTT is not rejected halfway"
                )
            }
        };
        for chunk in &mut chunks[..count] {
            reader.push(&std::mem::take(chunk));
        }
        while let Some(incoming) = reader.next()? {
            if !std::mem::replace(&mut compact, reader.is_compact()) && compact {
                session.ack_compactly();
            }
            let (Incoming::Batch { alias, .. } | Incoming::Unreadable { alias, .. }) = &incoming;
            let mut from = session.attachment(*alias);
            if from.is_none() {
                intake.submit().await;
                from = session.await_attach(*alias).await?;
            }
            match from {
                Some(from) if intake.admits(&from, &incoming) => {
                    intake.push(class(&reader), judge(from, incoming));
                }
                Some(_) => {}
                None => hub.metrics.unattached.increment(1),
            }
            if intake.is_full() {
                intake.submit().await;
            }
        }
        intake.submit().await;
        intake.pause().await;
        // A client that always has data does not keep the others from their turn.
        tokio::task::yield_now().await;
    }
}

fn class(reader: &BatchStreamReader) -> Class {
    if reader.is_backlog() { Class::Backlog } else { Class::Live }
}

/// Validates what came.
fn judge(from: Arc<Attachment>, incoming: Incoming) -> Submission {
    let body = match incoming {
        Incoming::Batch { header, schema, payload, .. } => match Batch::validate(payload.clone(), schema) {
            Ok(batch) => Body::Batch(batch),
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
