//! Writing events: as text one by one, or as tables.

mod csv;
mod ndjson;
mod output;
mod paced;
mod table_file;
mod text;

pub use csv::Csv;
pub use ndjson::{EventJson, Ndjson};
pub(crate) use output::Output;
pub use paced::{Paced, PacedBy};
pub use table_file::TableFile;
pub(crate) use text::TimeText;

use crate::{Event, ReplayError};

/// What takes replayed events.
pub trait Sink {
    /// Takes the next event.
    fn event(&mut self, event: &Event<'_>) -> Result<(), ReplayError>;

    /// Writes what is gathered: no events follow, or none for a while.
    fn flush(&mut self) -> Result<(), ReplayError>;

    /// Takes note that no more events follow, and writes what is still held back.
    fn finish(&mut self) -> Result<(), ReplayError> {
        self.flush()
    }
}
