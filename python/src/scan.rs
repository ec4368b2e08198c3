//! A scan: what was asked, and reading it.

use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::batch::{self, Batch};
use crate::coverage::Coverage;
use crate::stream::{Request, Stream};

/// The events of a scan, which libraries that know Arrow take as they are: `pyarrow.table(scan)`, `pandas.DataFrame.from_arrow(scan)`,
/// `polars.DataFrame(scan)`, `duckdb.sql("SELECT … FROM scan")`.
///
/// Nothing is read before that, and whoever takes it again reads again. It can be iterated, too, and yields a `Batch` at a time.
#[pyclass(frozen, module = "icecore")]
pub(crate) struct Scan(pub(crate) Arc<Request>);

#[pymethods]
impl Scan {
    /// Reads the events as an Arrow stream; no request for another schema is met.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        batch::stream_capsule(py, Stream::new(Arc::clone(&self.0)))
    }

    /// Its columns; nothing is read for that.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        batch::schema_capsule(py, &self.0.schema)
    }

    fn __iter__(&self) -> Batches {
        Batches(Mutex::new(Stream::new(Arc::clone(&self.0))))
    }

    /// The names of its columns.
    #[getter]
    fn columns(&self) -> Vec<String> {
        batch::names(&self.0.schema)
    }

    /// What was read and what is missing; `None` until it was read to its end.
    #[getter]
    fn coverage(&self) -> Option<Coverage> {
        self.0.coverage().as_ref().map(Coverage::from)
    }

    fn __repr__(&self) -> String {
        format!("scan of {}: {}", self.0.scan.table.name(), self.columns().join(", "))
    }
}

/// The record batches of a scan, one after the other.
#[pyclass(frozen, module = "icecore")]
pub(crate) struct Batches(Mutex<Stream>);

#[pymethods]
impl Batches {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Batch>> {
        // Who waits for the lock would wait with the interpreter in hand, which the other thread needs.
        let mut stream =
            self.0.try_lock().map_err(|_| PyRuntimeError::new_err("another thread is reading this"))?;
        Ok(stream.advance(py)?.map(Batch))
    }
}
