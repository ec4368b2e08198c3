//! The durable, ordered log of batches: hot segments, group commit, recovery and reading.

mod appender;
mod block;
mod committer;
pub mod disk;
mod error;
mod fact;
#[cfg(feature = "mutants")]
pub mod mutants;
mod open;
mod reader;

pub use appender::{Appender, BatchEntry, NewBatch};
pub use block::{EncodedBlock, Encoder, RawBlock};
pub use committer::{Committed, Committer};
pub use disk::{Disk, DiskFile, RealDisk};
pub use error::{CommitError, Damage, LogError};
pub use fact::{Fact, Source};
pub use open::{HotLog, Options, Recovery, TornTail};
pub use reader::{DroppedRange, LogReader, OnDamage, Record, Records, RefusedBatch, Scan, StoredBatch};
