//! Rollups: the events of one device and schema in windows of event time, and the statistics of each window.
//!
//! A [`Rollup`] says how a schema is rolled up and as which derived schema its windows are stored. A [`Window`] folds the events of one
//! of them, in the order of event time; [`Window::row`] is what is stored of it. The statistics are those of [`crate::fold`], so that
//! rollups and states agree. As events are folded in the order of their time and not of their arrival, it makes no difference to any bit
//! of a row how its events came. `docs/rollups.md` says what each column means.

mod merge;
mod schema;
mod sketch;
mod window;

use std::sync::Arc;

use icecore_wire::{Schema, SchemaError};

pub use sketch::{Sketch, SketchError};
pub use window::{Cell, Window};

/// How events of a schema are rolled up.
#[derive(Debug, Clone)]
pub struct Rollup {
    raw: Arc<Schema>,
    schema: Arc<Schema>,
    every: i64,
    quantiles: bool,
}

impl Rollup {
    /// Windows of `every` nanoseconds, which `name` says in words (`1m`), of events of the schema `raw`; with the distribution of
    /// gauges, if it is wanted.
    ///
    /// # Errors
    /// When the derived schema would have a name that is too long, or too many fields.
    ///
    /// # Panics
    /// When windows have no width.
    pub fn new(raw: &Arc<Schema>, every: i64, name: &str, quantiles: bool) -> Result<Self, SchemaError> {
        assert!(every > 0, "windows are as wide as policies say");
        let schema = Arc::new(schema::derived(raw, name, quantiles)?);
        Ok(Self { raw: Arc::clone(raw), schema, every, quantiles })
    }

    /// The schema of the events.
    #[must_use]
    pub fn raw(&self) -> &Arc<Schema> {
        &self.raw
    }

    /// The schema of the windows.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Where the window begins that an event of this time is in; all in nanoseconds since the Unix epoch. Windows are multiples of their
    /// width since then.
    #[must_use]
    pub fn start_of(&self, time: i64) -> i64 {
        time.saturating_sub(time.rem_euclid(self.every))
    }

    /// The last instant of the window that begins at `start`.
    #[must_use]
    pub fn last_of(&self, start: i64) -> i64 {
        // The first one there is may be cut short by the beginning of time.
        start.saturating_sub(start.rem_euclid(self.every)).saturating_add(self.every - 1).max(start)
    }
}
