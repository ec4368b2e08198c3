//! QUIC in, durable acks out: admission, sessions and the writer of the hot log.
//!
//! Data flows one way: a connection's streams are read into validated batches ([`Ingest`]), a bounded queue that
//! is fair between devices hands them to the writer's core, which deduplicates them in log order and fills
//! blocks; blocks are compressed and committed by threads, and what a commit made durable flows back as answers
//! to the sessions. When the disk is slow or full, the queue fills, streams are no longer read, and QUIC's flow
//! control tells the devices.

mod conflicts;
mod endpoint;
mod identity;
mod limits;
mod log_limit;
mod metrics;
#[cfg(feature = "mutants")]
pub mod mutants;
mod quarantine;
mod registry;
mod renewal;
mod session;
mod writer;

pub use conflicts::{Conflict, conflicts};
pub use endpoint::{Ingest, IngestError, IngestOptions};
pub use identity::fingerprint;
pub use limits::{Rate, RateLimits};
pub use quarantine::quarantined;
pub use registry::{Enrolment, LabelHistory, Labels, Registry, RegistryError, Role};
pub use renewal::{Issuer, Renewal};
pub use writer::{
    Answer, Attachment, BlockContent, Body, Core, Decision, Derived, EmitError, Emitter, Health,
    InvalidBatch, LiveDevice, LiveState, ReadElsewhere, Refusal, Reply, SnapshotOptions, StartError,
    StopError, Submission, Writer, WriterHandle, WriterOptions,
};
