//! What a load test is made of, for other tests to use as well.
//!
//! - [`network`]: a network that loses, delays, repeats, reorders and falls silent
//! - [`server`]: a real server process with a directory of its own
//! - [`pumps`]: devices that stream whatever happens
//! - [`promises`]: what was acked, against what is in the log
//! - [`process`]: what the kernel knows about a process

pub mod network;
pub mod process;
pub mod promises;
pub mod pumps;
pub mod server;
