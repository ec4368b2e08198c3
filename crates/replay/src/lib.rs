//! Reading events back, in order, in constant memory.
//!
//! [`Replay`] opens the log of a data directory, beside a running server or without one, as it is at that
//! moment; a [`DataSource`] also finds what of it is in object storage only, or opens a bucket alone. A [`Query`] says which events
//! and in which order; a [`Sink`] takes them one by one:
//!
//! ```no_run
//! use icecore_replay::{Csv, Query, Replay};
//!
//! let replay = Replay::open("data".as_ref())?;
//! let query = Query { schemas: "weather".parse()?, ..Query::default() };
//! let mut sink = Csv::new(std::io::stdout().lock(), &replay.schemas(&query)?)?;
//! let replayed = replay.run(&query, &mut sink)?;
//! eprintln!("{}", replayed.coverage);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What a query holds in memory does not depend on how many events it yields: in log order it is one block of the
//! log, in order of event time a fixed budget, beyond which sorted runs go to temporary files. Only names (devices,
//! epochs, schemas) are kept for as long as the query runs; at its end, for its [`Coverage`], a few ranges of sequences for each
//! epoch as well.
//!
//! The formats are described where they are written: [`Csv`] and [`Ndjson`]. A [`TableScan`] gives the events of one schema as Arrow record
//! batches, by a [`Cursor`] or into a [`TableFile`].

mod as_of;
mod batches;
mod columns;
mod count;
mod coverage;
mod error;
mod event;
mod export;
mod follow;
mod hive;
mod instant;
mod places;
mod plan;
mod query;
mod replay;
pub mod rollup;
#[cfg(test)]
mod sample;
mod side_by_side;
mod sort;
mod source;

pub use as_of::{AsOf, AsOfError, Base, Bases, ExactFrom, Explained, Refusal, States};
pub use batches::{Batches, Selection};
pub use columns::{Comparison, Cursor, InvalidComparison, Looked, Operator, ScanWatch, Table, TableScan};
pub use count::Count;
pub use coverage::{Coverage, Gap, Lacking, Unstored};
pub use error::ReplayError;
pub use event::Event;
pub use export::{Csv, EventJson, Ndjson, Paced, PacedBy, Sink, TableFile};
pub use follow::{Follow, Followed};
pub use hive::{Exported, HiveExport};
pub use instant::{InvalidInstant, format_instant, parse_instant};
pub use places::{Place, Placed};
pub use plan::Plan;
pub use query::{EventTimes, Order, Query};
pub use replay::{Replay, Replayed};
pub use source::{DataSource, OpenError, Opened};
