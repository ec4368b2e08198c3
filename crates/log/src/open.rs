//! Opening a log for writing: recovery.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::appender::Appender;
use crate::committer::Committer;
use crate::disk::Disk;
use crate::error::{Damage, LogError};
use crate::fact::Fact;

/// How a log is written.
#[derive(Debug, Clone)]
pub struct Options {
    /// A segment that has reached this many bytes is followed by a new one.
    pub segment_bytes: u64,
    /// A segment this old is followed by a new one.
    pub segment_age: Duration,
    /// A block with this many bytes of records is full. One batch may go beyond it.
    pub block_bytes: usize,
    /// Names of damage ([`Damage::name`]) the operator has accepted: they do not keep the log from opening.
    pub accept_damage: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            segment_age: Duration::from_secs(3600),
            block_bytes: 1 << 20,
            accept_damage: Vec::new(),
        }
    }
}

/// What recovery found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The position the next event gets.
    pub position: u64,
    /// The number the next block gets.
    pub block: u64,
    /// How many times this log was opened for writing before.
    pub term: u64,
    /// The newest received time in the log, in nanoseconds since the Unix epoch; `i64::MIN` if it has no blocks.
    pub received: i64,
    /// An unfinished write at the end that was set aside.
    pub torn: Option<TornTail>,
    /// Damage that was passed over because the operator accepted it.
    pub accepted: Vec<Damage>,
    /// Facts told.
    pub facts: u64,
}

/// Bytes at the end of the newest segment that are no whole block: a write that was never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Where they began in it.
    pub offset: u64,
    /// How many they are.
    pub bytes: u64,
    /// Where they are kept.
    pub kept_at: PathBuf,
}

/// The log as its one writer opens it.
#[derive(Debug)]
pub struct HotLog;

impl HotLog {
    /// Opens the log in the data directory `data`, creating it where there is none: takes its lock, recovers, tells
    /// every fact in it to `fold`, and starts a new segment. `now` is in nanoseconds since the Unix epoch.
    ///
    /// Damage is an error until [`Options::accept_damage`] names it; a torn tail is not damage.
    pub fn open(
        disk: Arc<dyn Disk>,
        data: &Path,
        options: Options,
        now: i64,
        fold: &mut dyn FnMut(&Fact<'_>),
    ) -> Result<(Appender, Committer, Recovery), LogError> {
        let _ = (disk, data, options, now, fold);
        unimplemented!()
    }
}
