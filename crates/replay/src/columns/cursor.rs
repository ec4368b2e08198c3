//! Record batches one after the other, from a thread of their own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::TableScan;
use crate::{Coverage, Replay, ReplayError, Replayed};

/// Record batches that are ready before they are asked for.
const READY: usize = 2;

/// The record batches of a scan. What is not asked for is not read, but for a little ahead.
#[derive(Debug)]
pub struct Cursor {
    schema: SchemaRef,
    batches: Option<Receiver<RecordBatch>>,
    thread: Option<JoinHandle<Result<Replayed, ReplayError>>>,
    coverage: Option<Coverage>,
}

impl Cursor {
    /// Begins to read.
    ///
    /// # Errors
    /// When the scan asks for what there is not.
    pub fn open(replay: Arc<Replay>, scan: TableScan) -> Result<Self, ReplayError> {
        let schema = scan.schema()?;
        let (ready, batches) = sync_channel(READY);
        let read = move || read(&replay, &scan, &ready);
        let thread = thread::Builder::new().name("replay".into()).spawn(read).map_err(ReplayError::Thread)?;
        Ok(Self { schema, batches: Some(batches), thread: Some(thread), coverage: None })
    }

    /// The schema of all record batches.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What was read and what is missing, once the last record batch was taken.
    #[must_use]
    pub fn coverage(&self) -> Option<&Coverage> {
        self.coverage.as_ref()
    }

    /// The next record batch, if it is there within `patience`: for those who have to look after something else meanwhile.
    pub fn next_within(&mut self, patience: Duration) -> Poll<Option<Result<RecordBatch, ReplayError>>> {
        match self.batches.as_ref().map(|batches| batches.recv_timeout(patience)) {
            Some(Ok(batch)) => Poll::Ready(Some(Ok(batch))),
            Some(Err(RecvTimeoutError::Timeout)) => Poll::Pending,
            Some(Err(RecvTimeoutError::Disconnected)) | None => Poll::Ready(self.end()),
        }
    }

    /// What the thread ended with.
    fn end(&mut self) -> Option<Result<RecordBatch, ReplayError>> {
        match self.thread.take()?.join() {
            Ok(Ok(replayed)) => {
                self.coverage = Some(replayed.coverage);
                None
            }
            Ok(Err(error)) => Some(Err(error)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn read(replay: &Replay, scan: &TableScan, ready: &SyncSender<RecordBatch>) -> Result<Replayed, ReplayError> {
    replay.record_batches(scan, &mut |batch| {
        // Whoever took them went away: as with a pipe.
        ready.send(batch).map_err(|_| ReplayError::Output(std::io::ErrorKind::BrokenPipe.into()))
    })
}

impl Iterator for Cursor {
    type Item = Result<RecordBatch, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(batch) = self.batches.as_ref().and_then(|batches| batches.recv().ok()) {
            return Some(Ok(batch));
        }
        self.end()
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        // The thread finds that nobody takes anything any more, and is waited for: it may have files open.
        drop(self.batches.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
