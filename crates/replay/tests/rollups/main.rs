//! Rollups: what is made of the events that were sealed, however they came.

#![expect(clippy::unwrap_used, reason = "fixtures of tests fail by panicking, like tests")]

mod cases;
mod cuts;
mod history;
mod lost;
mod oracle;
