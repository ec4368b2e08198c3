//! A disk in memory that crashes.

/// How a simulated machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; the page cache survives.
    Process,
    /// The power fails; of what was not synced, any part may be lost.
    Power,
}

/// A disk in memory that crashes.
#[derive(Debug)]
pub struct SimDisk {}
