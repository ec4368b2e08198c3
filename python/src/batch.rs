//! Record batches, and the capsules in which other libraries take them (the Arrow PyCapsule interface).

use std::sync::Arc;

use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema};
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{Array, RecordBatch, RecordBatchIterator, RecordBatchReader, StructArray};
use arrow_schema::Schema;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::error::failed;

type Capsule<'py> = Bound<'py, PyCapsule>;

/// Rows of a table: `pandas.DataFrame.from_arrow`, `polars.DataFrame`, `pyarrow.record_batch` and so on take it as it is.
#[pyclass(frozen, module = "icecore")]
pub(crate) struct Batch(pub(crate) RecordBatch);

#[pymethods]
impl Batch {
    /// The rows as an Arrow array; no request for another schema is met.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Capsule<'py>, Capsule<'py>)> {
        drop(requested_schema);
        let rows = FFI_ArrowArray::new(&StructArray::from(self.0.clone()).to_data());
        Ok((schema_capsule(py, &self.0.schema())?, PyCapsule::new_with_value(py, rows, c"arrow_array")?))
    }

    /// The rows as an Arrow stream; no request for another schema is met.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Capsule<'py>> {
        drop(requested_schema);
        stream_capsule(py, RecordBatchIterator::new([Ok(self.0.clone())], self.0.schema()))
    }

    /// Its columns.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Capsule<'py>> {
        schema_capsule(py, &self.0.schema())
    }

    /// The names of its columns.
    #[getter]
    fn columns(&self) -> Vec<String> {
        names(&self.0.schema())
    }

    fn __len__(&self) -> usize {
        self.0.num_rows()
    }

    fn __repr__(&self) -> String {
        format!("{} rows of {}", self.0.num_rows(), self.columns().join(", "))
    }
}

/// The names of the columns.
pub(crate) fn names(schema: &Arc<Schema>) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

/// A schema, for whoever asks only for that.
pub(crate) fn schema_capsule<'py>(py: Python<'py>, schema: &Schema) -> PyResult<Capsule<'py>> {
    let schema = FFI_ArrowSchema::try_from(schema).map_err(failed)?;
    PyCapsule::new_with_value(py, schema, c"arrow_schema")
}

/// Record batches that are read as they are asked for.
pub(crate) fn stream_capsule<'py>(
    py: Python<'py>,
    batches: impl RecordBatchReader + Send + 'static,
) -> PyResult<Capsule<'py>> {
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(batches)), c"arrow_array_stream")
}
