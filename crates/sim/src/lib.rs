//! A whole Icecore in one thread: devices, network, server and disk, driven by one seed.
//!
//! The parts are the real ones, as far as they need no socket, clock or thread: the session machines and batch streams
//! of both ends, the writer's core, the log with its recovery. Around them are simulated devices with spools (`device`),
//! a network that loses, delays, cuts, reorders and repeats (`network`), the server's process (`server`), and the disk
//! that crashes ([`SimDisk`]). The `oracle` stands outside: it remembers what devices were told and reads the log to see
//! whether it was true.
//!
//! The same seed gives the same history, byte for byte: [`History::trace`] says what happened, and ends with the digests
//! of the files on the disk.

mod device;
mod fault;
mod mutant;
mod network;
mod oracle;
mod sample;
mod server;
mod spool;
mod world;

use std::fmt;
use std::ops::Add;
use std::path::Path;

use icecore_log::disk::SimDisk;

pub use mutant::Mutant;
pub use oracle::{Violation, read_log};
pub use server::DATA;

/// What happened in one simulated history that broke no promise.
#[derive(Debug, Clone)]
pub struct History {
    /// Line by line what happened.
    pub trace: String,
    /// What it went through.
    pub tally: Tally,
    /// The disk at the end, after a clean stop.
    pub disk: SimDisk,
}

/// How much happened in a history. A simulation in which nothing happens proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Batches stored at the end.
    pub stored: u64,
    /// Batches acked, each time a device was told.
    pub acked: u64,
    /// Batches refused for good.
    pub refused: u64,
    /// Batches that were acked again instead of being stored twice.
    pub duplicates: u64,
    /// Times the server was opened on what a crash or stop had left.
    pub recoveries: u64,
    /// Recoveries that set a torn tail aside.
    pub torn: u64,
    /// Times a block found the disk full.
    pub full: u64,
    /// Times the log failed for good.
    pub failed: u64,
    /// Seals that were done.
    pub sealed: u64,
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            stored: self.stored + other.stored,
            acked: self.acked + other.acked,
            refused: self.refused + other.refused,
            duplicates: self.duplicates + other.duplicates,
            recoveries: self.recoveries + other.recoveries,
            torn: self.torn + other.torn,
            full: self.full + other.full,
            failed: self.failed + other.failed,
            sealed: self.sealed + other.sealed,
        }
    }
}

/// A history in which a promise was broken.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The history's seed.
    pub seed: u64,
    /// The broken promise.
    pub violation: Violation,
    /// Line by line what happened before.
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Lines of the trace worth printing.
        const LAST: usize = 40;
        let lines: Vec<&str> = self.trace.lines().collect();
        for line in &lines[lines.len().saturating_sub(LAST)..] {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {}: {}", self.seed, self.violation)?;
        write!(f, "again: ICECORE_SIM_SEED={} cargo test -p icecore-sim histories", self.seed)
    }
}

/// Runs the history of one seed: some seconds of streaming and trouble, then peace until every device is content.
///
/// # Errors
/// When a promise was broken.
pub fn run(seed: u64) -> Result<History, Box<Failure>> {
    world::World::new(seed).run()
}

/// The data directory of the simulated server.
#[must_use]
pub fn data() -> &'static Path {
    Path::new(DATA)
}
