//! From threads that read to clients that take their time: a few pieces wait, and then the thread does.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::problem::Problem;

/// What goes to the client; a problem is its answer, if it comes first.
pub(super) type Piece = Result<Bytes, Problem>;

/// The writing end, for threads that may block.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    pieces: mpsc::Sender<Piece>,
    runtime: Handle,
    patience: Duration,
}

impl Outlet {
    /// An outlet that gives up a client which takes nothing for as long as `patience`.
    pub(super) fn new(pieces: mpsc::Sender<Piece>, runtime: Handle, patience: Duration) -> Self {
        Self { pieces, runtime, patience }
    }

    /// Whether nobody takes anything any more.
    pub(super) fn is_closed(&self) -> bool {
        self.pieces.is_closed()
    }

    /// Writes one line of JSON.
    pub(super) fn line(&self, line: &Value) -> io::Result<()> {
        self.send(Ok(format!("{line}\n").into()))
    }

    /// Tells what went wrong.
    pub(super) fn fail(&self, problem: Problem) {
        drop(self.send(Err(problem)));
    }

    fn send(&self, piece: Piece) -> io::Result<()> {
        let sent = self.runtime.block_on(self.pieces.send_timeout(piece, self.patience));
        sent.map_err(|_| ErrorKind::BrokenPipe.into())
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.send(Ok(Bytes::copy_from_slice(bytes)))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The pieces as the body of an answer: `first`, and what is `taken`. A problem on the way is a last line
/// `{"problem":…}`. `held` is dropped with the body.
pub(super) fn body(first: Option<Bytes>, taken: mpsc::Receiver<Piece>, held: impl Send + 'static) -> Body {
    let state = (first, taken, held);
    Body::from_stream(stream::unfold(state, |(first, mut taken, held)| async move {
        let piece = match first {
            Some(first) => Ok(first),
            None => taken.recv().await?,
        };
        let bytes = piece.unwrap_or_else(|problem| {
            format!("{}\n", serde_json::json!({ "problem": problem.as_json() })).into()
        });
        Some((Ok::<_, io::Error>(bytes), (None, taken, held)))
    }))
}
