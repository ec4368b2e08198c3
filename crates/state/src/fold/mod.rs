//! The fold of events into statistics, straight from the columns of batches.
//!
//! Every accumulator here is a function of the sequence of values it was given, one after the other, and of nothing else: it
//! makes no difference to any bit how they were cut into batches, or where a snapshot came between. That is also what lets
//! whatever is to be left out (nulls, numbers that are none, rows beyond an instant) be left out by folding the runs between.
//!
//! - `run`: consecutive rows of a batch, and what is known of their times
//! - `tally`: what is known of a device's events, by schema and field
//! - `field`: one field; which statistics it has follows from its kind and type
//! - `gauge`, `counter`, `states`, `angle`: the statistics of a kind
//! - `number`: the types of numbers, `kept`: values that are kept

mod angle;
mod counter;
mod field;
mod gauge;
mod kept;
mod number;
mod run;
mod states;
mod tally;

pub use angle::Angle;
pub(crate) use angle::turn;
pub use counter::Counter;
pub use field::{FieldTally, Last, Statistics};
pub use gauge::Gauge;
pub use kept::Kept;
pub use run::EventPoint;
pub(crate) use run::Run;
pub use states::{StateTally, States};
pub use tally::{SchemaTally, Tally};
