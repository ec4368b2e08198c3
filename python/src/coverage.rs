//! What was read of what was asked, as Python sees it.

use icecore_replay as replay;
use pyo3::prelude::*;

/// What a scan covers of what it asked for.
#[pyclass(frozen, get_all, eq, module = "icecore")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Events that were read.
    present: u64,
    /// Whether that is all.
    complete: bool,
    /// What is missing, in words; empty if nothing is.
    missing: String,
    /// Sequences that did not arrive though later ones did, of any schema and time; `None` if damage hides it.
    not_arrived: Option<u64>,
    /// Sequences that devices say they dropped.
    dropped: Option<u64>,
    /// Sequences that were refused for good.
    refused: Option<u64>,
    /// Segments that a policy deleted.
    deleted: Vec<Lacking>,
    /// Segments that could not be read.
    absent: Vec<Lacking>,
    /// Damage that was read around, each in words.
    damage: Vec<String>,
}

/// A segment that was not read, though it has events of what was asked, or may have.
#[pyclass(frozen, get_all, eq, module = "icecore")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lacking {
    /// Its name.
    segment: String,
    /// How many of its events were asked for, at most.
    events: u64,
    /// Whether it is exactly so many.
    exact: bool,
    /// The policy that deleted it, or what keeps it from being read.
    why: String,
}

impl From<&replay::Coverage> for Coverage {
    fn from(coverage: &replay::Coverage) -> Self {
        let unstored = coverage.unstored.as_ref();
        let lacking = |segments: &[replay::Lacking]| segments.iter().map(Lacking::from).collect();
        Self {
            present: coverage.present,
            complete: coverage.is_complete(),
            missing: coverage.missing(),
            not_arrived: unstored.map(|unstored| unstored.not_arrived),
            dropped: unstored.map(|unstored| unstored.dropped),
            refused: unstored.map(|unstored| unstored.refused),
            deleted: lacking(&coverage.deleted),
            absent: lacking(&coverage.absent),
            damage: coverage.damage.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<&replay::Lacking> for Lacking {
    fn from(lacking: &replay::Lacking) -> Self {
        Self {
            segment: lacking.segment.to_string(),
            events: lacking.events,
            exact: lacking.is_exact,
            why: lacking.why.clone(),
        }
    }
}

#[pymethods]
impl Coverage {
    fn __repr__(&self) -> String {
        match self.complete {
            true => format!("{} events present, nothing missing", self.present),
            false => format!("{} events present, missing: {}", self.present, self.missing),
        }
    }
}

#[pymethods]
impl Lacking {
    fn __repr__(&self) -> String {
        let Self { segment, events, exact, why } = self;
        let at_most = if *exact { "" } else { "at most " };
        format!("segment {segment}: {at_most}{events} events: {why}")
    }
}
