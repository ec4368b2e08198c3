//! Devices on bad networks, with and without crashes of the server and of the device, against the real binary: one
//! trouble a file.
//!
//! In the end, once the network is well again, everything that a spool had is in the log, everything that was acked is
//! there as it was sent, and nothing is there twice.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scenario;

mod delay;
mod duplication;
mod loss;
mod outage;
mod roaming;
