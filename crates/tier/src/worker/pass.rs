//! What a pass has done, and what is left.

use crate::catalog::Why;
use crate::plan::{Action, Moment};
use crate::segment::SegmentId;

use super::trouble::Trouble;
use super::{Circumstances, LabelsAt};

/// Failures, and reasons to wait, that a pass lists; the others are counted only.
const MAX_TOLD: usize = 100;

/// What a pass did, what waits, and what failed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pass {
    /// Segments that new manifests brought.
    pub registered: u64,
    /// Copies that were uploaded, read back and recorded.
    pub uploaded: u64,
    /// Bytes of them.
    pub uploaded_bytes: u64,
    /// Bytes that were read back.
    pub verified_bytes: u64,
    /// Local files that were dropped.
    pub dropped: u64,
    /// Bytes of the disk that were free then.
    pub dropped_bytes: u64,
    /// Copies that were dropped because the segment is elsewhere.
    pub dropped_copies: u64,
    /// Segments that were marked.
    pub marked: u64,
    /// Segments whose mark was taken away.
    pub unmarked: u64,
    /// Segments that were deleted.
    pub deleted: u64,
    /// Bytes of them.
    pub deleted_bytes: u64,
    /// Objects and local files that were removed because of what was decided: now, or before a crash.
    pub cleared: u64,
    /// Segments that were split.
    pub split: u64,
    /// Snapshots of the state that were read back and are kept from now on.
    pub snapshots: u64,
    /// Snapshots that are not kept any more.
    pub dropped_snapshots: u64,
    /// Copies that the plan wants and that were not made in this pass.
    pub backlog: u64,
    /// Bytes of them.
    pub backlog_bytes: u64,
    /// Requests to the stores, the journal's where it is in one of them.
    pub requests: u64,
    /// What waits, and why; a hundred of them at most.
    pub waits: Vec<String>,
    /// What failed; a hundred of them at most.
    pub failures: Vec<Failure>,
    /// How many things failed.
    pub failed: u64,
    /// Stores that are left alone because they failed again and again.
    pub resting: Vec<String>,
    /// For how many hours the disk lasts at the rate of ingestion of the last hour; `None` if nothing is written.
    pub hours_left: Option<f64>,
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The segment, if it is about one.
    pub segment: Option<SegmentId>,
    /// What was tried and what went wrong.
    pub what: String,
}

impl Pass {
    /// Whether there was nothing to do and nothing failed: the next pass has nothing to do either, until time has passed or
    /// something has come.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let Self { registered, uploaded, dropped, dropped_copies, marked, unmarked, .. } = self;
        let done = registered + uploaded + dropped + dropped_copies + marked + unmarked;
        let snapshots = self.snapshots + self.dropped_snapshots;
        done + self.deleted + self.cleared + self.split + snapshots + self.backlog + self.failed == 0
    }
}

/// A pass under way.
pub(super) struct Round<'a> {
    pub(super) moment: Moment,
    pub(super) labels: &'a LabelsAt<'a>,
    pub(super) pass: Pass,
}

impl<'a> Round<'a> {
    pub(super) fn new(circumstances: &Circumstances<'a>) -> Self {
        Self { moment: circumstances.moment.clone(), labels: circumstances.labels, pass: Pass::default() }
    }

    /// Why an action is carried out, for the history.
    pub(super) fn why(&self, action: &Action) -> Why {
        let policy = Some(action.policy.to_string());
        Why { policy, ..self.because(&action.reason.to_string()) }
    }

    /// Why something is done that is in no plan.
    pub(super) fn because(&self, reason: &str) -> Why {
        Why { time: self.moment.now, by: "worker".to_owned(), policy: None, reason: reason.to_owned() }
    }

    pub(super) fn wait(&mut self, what: String) {
        if self.pass.waits.len() < MAX_TOLD {
            self.pass.waits.push(what);
        }
    }

    /// Reports a failure; only the first of its kind is worth a warning.
    pub(super) fn fail(&mut self, segment: Option<SegmentId>, doing: &str, trouble: &Trouble, first: bool) {
        let what = match segment {
            Some(segment) => format!("cannot {doing} segment {segment}: {trouble}"),
            None => format!("cannot {doing}: {trouble}"),
        };
        if first {
            tracing::warn!("{what}; this is tried again");
        } else {
            tracing::debug!("{what}");
        }
        self.pass.failed += 1;
        if self.pass.failures.len() < MAX_TOLD {
            self.pass.failures.push(Failure { segment, what });
        }
    }
}
