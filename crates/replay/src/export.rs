//! Writing events as text.

mod csv;
mod ndjson;
mod output;
mod text;

pub use csv::Csv;
pub use ndjson::{EventJson, Ndjson};
pub(crate) use output::Output;
pub(crate) use text::TimeText;

use crate::{Event, ReplayError};

/// What takes replayed events.
pub trait Sink {
    /// Takes the next event.
    fn event(&mut self, event: &Event<'_>) -> Result<(), ReplayError>;

    /// Takes note that no more events follow, and writes what is still held back.
    fn finish(&mut self) -> Result<(), ReplayError>;
}
