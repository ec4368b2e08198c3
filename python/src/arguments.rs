//! Arguments, in the forms in which Python has them.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use icecore_replay::{Comparison, Order, Query, parse_instant};
use icecore_wire::{DeviceName, Glob};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDate, PyDateTime, PyInt, PyString};

use crate::error::invalid;

/// An instant, nanoseconds since the Unix epoch: a number of them, a datetime or a pandas timestamp with a time zone, a date (its
/// midnight in UTC), or a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instant(pub(crate) i64);

impl<'py> FromPyObject<'_, 'py> for Instant {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(text) = given.cast::<PyString>() {
            return of_text(text.to_cow()?.as_ref());
        }
        if given.is_instance_of::<PyDateTime>() {
            return of_datetime(&given);
        }
        if given.is_instance_of::<PyDate>() {
            return of_text(given.str()?.to_cow()?.as_ref());
        }
        if given.is_instance_of::<PyInt>() || given.hasattr("__index__")? {
            return given.extract().map(Self).map_err(|_| beyond());
        }
        Err(PyTypeError::new_err(format!(
            "a time is a datetime or pandas Timestamp with a time zone, a date, a text such as 2013-01-31T12:00:00Z, or nanoseconds \
             since 1970, not {}",
            given.get_type().name()?
        )))
    }
}

fn beyond() -> PyErr {
    PyOverflowError::new_err("a time is from the years 1677 to 2262, which 64 bits of nanoseconds can hold")
}

/// What commands take, or a date.
fn of_text(text: &str) -> PyResult<Instant> {
    let is_date = text.len() == 10 && text.bytes().filter(|byte| *byte == b'-').count() == 2;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let parsed = match is_date {
        true => parse_instant(&format!("{text}T00:00:00Z"), now),
        false => parse_instant(text, now),
    };
    parsed.map(Instant).map_err(invalid)
}

/// Exactly, from days, seconds, microseconds, and the nanoseconds that pandas has.
fn of_datetime(given: &Bound<'_, PyAny>) -> PyResult<Instant> {
    static EPOCH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = given.py();
    if given.call_method0("utcoffset")?.is_none() {
        let message =
            format!("{} has no time zone: write one, such as tzinfo=datetime.timezone.utc", given.str()?);
        return Err(PyValueError::new_err(message));
    }
    let epoch = EPOCH.get_or_try_init(py, || {
        let utc = py.import("datetime")?.getattr("timezone")?.getattr("utc")?;
        let epoch = py.get_type::<PyDateTime>().call1((1970, 1, 1, 0, 0, 0, 0, utc))?;
        PyResult::Ok(epoch.unbind())
    })?;
    let since = given.sub(epoch)?;
    let part = |name: &str| since.getattr(name)?.extract::<i64>();
    let nanoseconds = if since.hasattr("nanoseconds")? { part("nanoseconds")? } else { 0 };
    let seconds = i128::from(part("days")?) * 86_400 + i128::from(part("seconds")?);
    let exact = (seconds * 1_000_000 + i128::from(part("microseconds")?)) * 1_000 + i128::from(nanoseconds);
    i64::try_from(exact).map(Instant).map_err(|_| beyond())
}

/// Devices: a glob of their names, or the names.
#[derive(FromPyObject)]
pub(crate) enum Devices {
    /// `*` crosses `/`.
    Matching(String),
    /// Exactly these.
    Named(Vec<String>),
}

impl Devices {
    /// Adds them to a query; `None` is every device.
    pub(crate) fn select(devices: Option<Self>, query: &mut Query) -> PyResult<()> {
        match devices {
            None => {}
            Some(Self::Matching(glob)) => query.devices = Glob::new(&glob),
            Some(Self::Named(_)) => query.only = Self::named(devices)?,
        }
        Ok(())
    }

    /// The names, where it is names.
    pub(crate) fn named(devices: Option<Self>) -> PyResult<Option<BTreeSet<DeviceName>>> {
        let Some(Self::Named(names)) = devices else { return Ok(None) };
        names.iter().map(|name| name.parse().map_err(invalid)).collect::<PyResult<_>>().map(Some)
    }
}

/// Texts: one, or several.
#[derive(FromPyObject)]
pub(crate) enum Texts {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

/// The comparisons that these texts are.
pub(crate) fn comparisons(texts: Option<Texts>) -> PyResult<Vec<Comparison>> {
    let texts = match texts {
        None => Vec::new(),
        Some(Texts::One(text)) => vec![text],
        Some(Texts::Several(texts)) => texts,
    };
    texts.iter().map(|text| text.parse().map_err(invalid)).collect()
}

/// The order of this name.
pub(crate) fn order(name: &str) -> PyResult<Order> {
    match name {
        "stored" => Ok(Order::Stored),
        "log" => Ok(Order::Log),
        "time" => Ok(Order::Time),
        "device" => Ok(Order::Device),
        _ => Err(PyValueError::new_err(format!(
            "order is \"stored\", \"log\", \"time\" or \"device\", not {name:?}"
        ))),
    }
}
