//! Reading, beside whatever else the interpreter does: other threads of it run meanwhile, and signals are seen.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, SchemaRef};
use icecore_replay::{Coverage, Cursor, Replay, TableScan};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::error::{IncompleteError, IncompleteWarning, failed, unread, warn};

/// How long a signal may have to wait.
const PATIENCE: Duration = Duration::from_millis(50);

/// A scan that may be read again and again.
pub(crate) struct Request {
    pub(crate) replay: Replay,
    pub(crate) scan: TableScan,
    pub(crate) schema: SchemaRef,
    pub(crate) require_complete: bool,
    /// What was read and what is missing, by whoever came to an end last.
    coverage: Mutex<Option<Coverage>>,
}

/// One reading of it.
pub(crate) struct Stream {
    request: Arc<Request>,
    stop: Arc<AtomicBool>,
    cursor: Option<Cursor>,
    /// Nothing follows an end, and nothing an error.
    ended: bool,
}

impl Request {
    pub(crate) fn new(replay: Replay, scan: TableScan, schema: SchemaRef, require_complete: bool) -> Self {
        Self { replay, scan, schema, require_complete, coverage: Mutex::default() }
    }

    pub(crate) fn coverage(&self) -> Option<Coverage> {
        self.coverage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Stream {
    /// Nothing is read before it is asked for: many only want to know the schema.
    pub(crate) fn new(request: Arc<Request>) -> Self {
        Self { request, stop: Arc::default(), cursor: None, ended: false }
    }

    /// The next record batch.
    pub(crate) fn advance(&mut self, py: Python<'_>) -> PyResult<Option<RecordBatch>> {
        if self.ended {
            return Ok(None);
        }
        let next = self.wait(py);
        self.ended = !matches!(next, Ok(Some(_)));
        if self.ended {
            self.close();
        }
        next
    }

    fn wait(&mut self, py: Python<'_>) -> PyResult<Option<RecordBatch>> {
        if self.cursor.is_none() {
            let replay = self.request.replay.clone().stopped_by(Arc::clone(&self.stop));
            let opened = Cursor::open(Arc::new(replay), self.request.scan.clone());
            self.cursor = Some(opened.map_err(|error| unread(&error))?);
        }
        let Some(cursor) = &mut self.cursor else { return Ok(None) };
        loop {
            py.check_signals()?;
            // A panic must not go up into a caller that is not Rust.
            let next = py.detach(|| catch_unwind(AssertUnwindSafe(|| cursor.next_within(PATIENCE))));
            match next.map_err(|_| panicked())? {
                Poll::Pending => {}
                Poll::Ready(Some(batch)) => return batch.map(Some).map_err(|error| unread(&error)),
                Poll::Ready(None) => break,
            }
        }
        let coverage = cursor.coverage().cloned().unwrap_or_default();
        let told = tell(py, &coverage, self.request.require_complete);
        *self.request.coverage.lock().unwrap_or_else(PoisonError::into_inner) = Some(coverage);
        told.map(|()| None)
    }

    /// Ends the reading, wherever it is. That is waited for elsewhere: this thread may hold what all of the interpreter needs.
    fn close(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(cursor) = self.cursor.take() {
            drop(thread::Builder::new().name("icecore".into()).spawn(move || drop(cursor)));
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close();
    }
}

/// For consumers that do not know Python, and may or may not be attached to it.
impl Iterator for Stream {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = Python::try_attach(|py| self.advance(py).map_err(|error| as_arrow(py, &error)));
        next.unwrap_or_else(|| Err(ArrowError::ExternalError("the interpreter is ending".into()))).transpose()
    }
}

impl RecordBatchReader for Stream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.request.schema)
    }
}

/// All that can be handed to a consumer is the message.
fn as_arrow(py: Python<'_>, error: &PyErr) -> ArrowError {
    if error.is_instance_of::<PyKeyboardInterrupt>(py) {
        // The consumer will raise something else; the interpreter interrupts whoever goes on after that.
        // SAFETY: this thread is attached to the interpreter.
        unsafe { ffi::PyErr_SetInterrupt() };
    }
    ArrowError::ExternalError(error.value(py).to_string().replace('\0', " ").into())
}

/// Says what is missing, as a warning or as an error.
pub(crate) fn tell(py: Python<'_>, coverage: &Coverage, require_complete: bool) -> PyResult<()> {
    match (coverage.is_complete(), require_complete) {
        (true, _) => Ok(()),
        (false, true) => {
            let message = format!("not everything that was asked for is there: {coverage}");
            Err(IncompleteError::new_err(message))
        }
        (false, false) => warn(py, &py.get_type::<IncompleteWarning>(), &coverage.to_string()),
    }
}

/// Does what takes long, on a thread of its own, while this one looks after signals. After one nobody waits for that thread: it may
/// hang on a store that does not answer.
pub(crate) fn beside<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let (done, mut waiting) = sync_channel(1);
    let work = move || drop(done.send(work()));
    thread::Builder::new().name("icecore".into()).spawn(work).map_err(failed)?;
    loop {
        let waiting = &mut waiting;
        match py.detach(move || waiting.recv_timeout(PATIENCE)) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => return Err(panicked()),
        }
    }
}

/// The same with a log, whose reading a signal ends.
pub(crate) fn reading<T: Send + 'static>(
    py: Python<'_>,
    replay: &Replay,
    work: impl FnOnce(&Replay) -> T + Send + 'static,
) -> PyResult<T> {
    let stop = Arc::new(AtomicBool::new(false));
    let replay = replay.clone().stopped_by(Arc::clone(&stop));
    beside(py, move || work(&replay)).inspect_err(|_| stop.store(true, Ordering::Relaxed))
}

/// What the thread said is on standard error.
fn panicked() -> PyErr {
    failed("a mistake in Icecore ended the reading; please report it, with what was printed")
}
