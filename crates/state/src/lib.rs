//! The deterministic fold of the log: what is known of every device.
//!
//! [`Ledger`] is the part of it that the promises "once" and "gaps are known and settled" stand on: per
//! device and epoch, which sequences are stored, refused, dropped or missing. The writer keeps one to tell
//! new batches from resends; `device gaps` builds one to print the holes.
//!
//! Nothing here knows of sockets, clocks or files: facts come in, in log order, and the same facts give the
//! same state.

mod ledger;
mod refused;

pub use ledger::{DeviceLedger, EpochLedger, Ledger, Verdict};
pub use refused::{RefusedRange, RefusedRanges};
