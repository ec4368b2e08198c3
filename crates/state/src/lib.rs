//! The deterministic fold of the log: what is known of every device.
//!
//! [`Ledger`] is the part of it that the promises "once" and "gaps are known and settled" stand on: per
//! device and epoch, which sequences are stored, refused, dropped or missing. The writer keeps one to tell
//! new batches from resends; `device gaps` builds one to print the holes.
//!
//! [`DeviceState`] is all of it: the ledger of one device, and the statistics of its events by schema and field.
//! [`rollup`] has the statistics of windows of time instead.
//! [`DeviceState::view`] is how it is read. [`Fleet`] holds all of them, and a [`snapshot`] is what it is at some place in the
//! log, as a file.
//!
//! Nothing here knows of sockets or clocks: facts and events come in, in log order, and the same ones give the
//! same state, to the bit.

mod device;
mod fleet;
pub mod fold;
mod ledger;
pub mod limits;
mod recent;
mod refused;
pub mod rollup;
mod skew;
pub mod snapshot;
mod view;

pub use device::DeviceState;
pub use fleet::{Captured, Fleet};
pub use ledger::{DeviceLedger, EpochLedger, Ledger, Verdict};
pub use recent::{Reach, Recent, parts_up_to};
pub use refused::{RefusedRange, RefusedRanges};
pub use skew::Skew;
pub use view::{DeviceView, FieldView, SchemaView, StatisticsView};
