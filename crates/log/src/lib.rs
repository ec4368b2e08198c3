//! The durable, ordered log of batches: hot segments, group commit, recovery and reading.
//!
//! A log has one writer in two halves. The [`Appender`] cuts blocks and gives numbers and positions, an [`Encoder`]
//! compresses them (on as many threads as wanted), and the [`Committer`] writes them in order; when
//! [`Committer::commit`] returns, the block is durable. [`HotLog::open`] recovers the log and hands out both halves. Any
//! number of [`LogReader`]s read beside it or without it. A [`Sealer`] turns finished segments into [`sealed`] ones
//! meanwhile; both are read as one log. The bytes are described in `docs/format.md`.

mod appender;
mod block;
pub mod checked_line;
mod committer;
mod directory;
pub mod disk;
mod error;
mod fields;
mod log_id;
mod manifest;
#[cfg(feature = "mutants")]
pub mod mutants;
#[cfg(not(feature = "mutants"))]
mod mutants;
mod open;
mod reader;
mod record;
mod recovery;
mod seal;
pub mod sealed;
mod sealed_store;
mod segment;
mod segment_id;
mod walk;
mod watermark;

pub use appender::{Appender, NewBatch};
pub use block::{EncodedBlock, Encoder, RawBlock};
pub use committer::{Committed, Committer, FinishedDirectory, LogPoint};
pub use directory::{ActiveDirectory, BatchEntry};
pub use disk::{Disk, DiskFile, RealDisk};
pub use error::{CommitError, Damage, LogError};
pub use manifest::{Child, Lost, Manifest, SealSource};
pub use open::{HotLog, Options, Recovery, TornTail};
pub use reader::{
    AbsentSegment, DeviceFilter, Followed, Follower, LogReader, LostEvents, OnAbsent, OnDamage, OpenSegment,
    Reads, Records, Scan, SealedSegments,
};
pub use record::{DroppedRange, Fact, Record, RefusedBatch, Source, StoredBatch};
pub use seal::{Classify, FinishedSegment, Pace, SealPlan, Sealer, Sealing, forget_tail, keep_tail};
pub use sealed_store::Elsewhere;
pub use segment_id::{InvalidSegmentId, SegmentId};
pub use watermark::Watermark;
