//! The extension module of the Python package `icecore`: logs as Arrow streams.
//!
//! - `log`: a log that was opened
//! - `scan`: a request, which consumers of the Arrow C stream interface take as it is
//! - `stream`: reading it, beside whatever else the interpreter does
//! - `batch`: record batches as Python sees them
//! - `coverage`, `schema`: what is told of logs and scans
//! - `arguments`: times, devices and names of orders, in all the forms in which Python has them
//! - `place`, `configuration`: opening a log, and what of a server's configuration that takes
//! - `error`: exceptions
//!
//! What people import is `python/icecore/__init__.py`; the types are in `_icecore.pyi` beside it.

mod arguments;
mod batch;
mod configuration;
mod coverage;
mod error;
mod log;
mod place;
mod scan;
mod schema;
mod stream;

use pyo3::prelude::*;

#[pymodule]
fn _icecore(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add_function(wrap_pyfunction!(log::open, module)?)?;
    module.add_class::<log::Log>()?;
    module.add_class::<scan::Scan>()?;
    module.add_class::<batch::Batch>()?;
    module.add_class::<coverage::Coverage>()?;
    module.add_class::<coverage::Lacking>()?;
    module.add_class::<schema::Schema>()?;
    module.add_class::<schema::Field>()?;
    module.add("IcecoreError", py.get_type::<error::IcecoreError>())?;
    module.add("IncompleteError", py.get_type::<error::IncompleteError>())?;
    module.add("IncompleteWarning", py.get_type::<error::IncompleteWarning>())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
