//! How far a scan is, seen from outside.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use icecore_log::OpenSegment;
use icecore_wire::Schema;

/// Sees how far a scan is, and can end it.
#[derive(Debug, Default)]
pub struct ScanWatch {
    stopped: AtomicBool,
    segments: AtomicU64,
    segments_opened: AtomicU64,
    row_groups: AtomicU64,
    row_groups_read: AtomicU64,
    rows: AtomicU64,
    /// Of each segment that was opened.
    pages: Mutex<Vec<Arc<AtomicU64>>>,
}

/// What a scan in the order of storage has looked at so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// Sealed segments of the log.
    pub segments: u64,
    /// Those that were opened.
    pub segments_opened: u64,
    /// Row groups of the table in these.
    pub row_groups: u64,
    /// Those that were read, if not whole.
    pub row_groups_read: u64,
    /// Pages of columns that were read.
    pub pages_read: u64,
    /// Rows that were looked at, hot ones included.
    pub rows: u64,
}

impl ScanWatch {
    /// Ends the scan, as if whoever takes its record batches had gone away.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// What the scan has looked at so far.
    #[must_use]
    pub fn looked(&self) -> Looked {
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        Looked {
            segments: self.segments.load(Relaxed),
            segments_opened: self.segments_opened.load(Relaxed),
            row_groups: self.row_groups.load(Relaxed),
            row_groups_read: self.row_groups_read.load(Relaxed),
            pages_read: pages.iter().map(|pages| pages.load(Relaxed)).sum(),
            rows: self.rows.load(Relaxed),
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    pub(super) fn plan(&self, segments: usize) {
        self.segments.store(segments as u64, Relaxed);
    }

    pub(super) fn opened(&self, segment: &OpenSegment, of_table: impl Fn(&Schema) -> bool) {
        self.segments_opened.fetch_add(1, Relaxed);
        self.row_groups.fetch_add(segment.row_groups(of_table), Relaxed);
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).push(segment.pages_read());
    }

    pub(super) fn reads_group(&self) {
        self.row_groups_read.fetch_add(1, Relaxed);
    }

    pub(super) fn looked_at(&self, rows: u64) {
        self.rows.fetch_add(rows, Relaxed);
    }
}
