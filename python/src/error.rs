//! Exceptions and warnings.

use std::ffi::CString;
use std::fmt::Display;

use icecore_log::LogError;
use icecore_replay::ReplayError;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyUserWarning, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyType;

create_exception!(icecore, IcecoreError, PyException, "Something cannot be read, or there is no such thing.");
create_exception!(icecore, IncompleteError, IcecoreError, "Not everything that was asked for is there.");
create_exception!(
    icecore,
    IncompleteWarning,
    PyUserWarning,
    "Not everything that was asked for is there; `coverage` of the scan tells what is missing."
);

/// The exception with this message.
pub(crate) fn failed(error: impl Display) -> PyErr {
    IcecoreError::new_err(error.to_string())
}

/// An argument is not what it should be.
pub(crate) fn invalid(error: impl Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// What went wrong with a replay, with what can be done about it from here.
pub(crate) fn unread(error: &ReplayError) -> PyErr {
    match error {
        ReplayError::Log(LogError::Damaged(damage)) => {
            failed(format_args!("the log is damaged: {damage}; skip_damaged=True reads around it"))
        }
        error => failed(error),
    }
}

/// Warns whoever called.
pub(crate) fn warn(py: Python<'_>, category: &Bound<'_, PyType>, message: &str) -> PyResult<()> {
    PyErr::warn(py, category, &CString::new(message.replace('\0', " "))?, 1)
}
