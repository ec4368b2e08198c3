//! Scenarios on the real binary, one per file. Servers listen on free ports of 127.0.0.1.
#![expect(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod accounts;
mod cold;
mod door;
mod harness;
#[path = "../../../tier/tests/stores/s3.rs"]
mod s3;
mod table;

mod analyst;
mod api;
mod bit_flips;
mod clocks;
mod cold_replay;
mod configuration;
mod crash_device;
mod crash_server;
mod crash_tiers;
mod damage;
mod decisions;
mod disk_full;
mod enrolment;
mod fixtures;
mod fleet;
mod flight;
mod held;
mod interrupted_send;
mod lost_machine;
mod many_devices;
mod new_machine;
mod pandas;
mod resend;
mod retention;
mod revocation;
mod rollups;
mod schemas;
mod sealed;
mod sealing;
mod segments;
mod send_failures;
mod serving;
mod shared_data;
mod snapshots;
#[cfg(feature = "sql")]
mod sql;
mod state;
mod store_outage;
mod tables;
mod tiers;
mod two_months;
