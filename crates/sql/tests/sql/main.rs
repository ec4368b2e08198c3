//! Statements over logs that are written, sealed and added to step by step.

#![expect(clippy::unwrap_used, reason = "fixtures of tests fail by panicking, like tests")]

mod answers;
mod flight;
mod log;
mod names;
mod plans;
mod pruning;
mod tables;
