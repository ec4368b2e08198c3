//! The connection of devices and gateways, against a server and a network that misbehave.
#![expect(clippy::unwrap_used, reason = "fixtures of tests fail by panicking, like tests")]

#[allow(dead_code, reason = "each file of tests needs some of it")]
#[path = "../fake/mod.rs"]
mod fake;

mod renewal;
mod roaming;
mod session;
mod sleepy;
