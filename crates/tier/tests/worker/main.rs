//! The worker over real logs: whole lives, stores that do everything wrong, crashes at every request.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod counted;
mod damage;
mod faults;
mod faulty;
mod forecast;
mod histories;
mod kills;
mod large;
mod life;
mod mutants;
mod outage;
mod outside;
mod parts;
mod proxy;
#[path = "../stores/s3.rs"]
mod s3;
mod site;
mod snapshots;
mod splits;
mod sweeps;
