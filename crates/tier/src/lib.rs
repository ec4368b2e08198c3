//! Where sealed segments live, when they move, and when they end.
//!
//! - [`segment`]: what is known of a sealed segment
//! - [`hold`]: what may not be deleted
//! - [`policy`]: retention policies, from their text to the policy of every event
//! - [`plan`]: a pure function from segments, policies and a clock to what is to be done, and its rehearsal days ahead
//! - [`catalog`]: the segments, and every decision about them, in a database
//! - [`journal`]: those decisions, mirrored to the bucket, and the term of who may write there
//! - [`store`]: object storage, with all that can go wrong there
//! - [`snapshot`]: snapshots of the state that are kept, for deletions and new machines
//! - [`manifests`]: the manifests that are in a store
//! - [`elsewhere`]: reading segments that are in object storage only
//! - [`worker`]: does what the plan says
//!
//! This crate knows nothing of QUIC and HTTP.

pub mod cache;
pub mod catalog;
pub mod elsewhere;
mod figures;
pub mod hold;
mod instant;
pub mod journal;
pub mod manifests;
#[cfg(feature = "mutants")]
pub mod mutants;
#[cfg(not(feature = "mutants"))]
mod mutants;
pub mod plan;
pub mod policy;
pub mod segment;
pub mod snapshot;
pub mod store;
pub mod worker;
