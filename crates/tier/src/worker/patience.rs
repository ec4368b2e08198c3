//! When what failed is tried again.

use std::collections::{BTreeMap, BTreeSet};

use crate::segment::SegmentId;

const SECOND: i64 = 1_000_000_000;
/// How long a segment waits after its first failure; after each one that follows, twice as long.
const FIRST_WAIT: i64 = 30 * SECOND;
/// And at most this long.
const LONGEST_WAIT: i64 = 3_600 * SECOND;
/// Segments whose failures are kept in mind; the others are tried in every pass.
const MAX_SEGMENTS: usize = 10_000;

/// Keeps a broken segment from being tried in every pass. Instants are nanoseconds since the Unix epoch.
#[derive(Debug, Default)]
pub(super) struct Patience {
    segments: BTreeMap<SegmentId, Waits>,
    /// What is about no segment and failed when it was tried last.
    others: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy)]
struct Waits {
    failures: u32,
    since: i64,
    until: i64,
}

impl Patience {
    /// Whether a segment may be tried at `now`. A clock that was set back ends a wait.
    pub(super) fn may_try(&self, segment: SegmentId, now: i64) -> bool {
        self.segments.get(&segment).is_none_or(|waits| now >= waits.until || now < waits.since)
    }

    /// It failed at `now`. Returns whether that is new.
    pub(super) fn failed(&mut self, segment: SegmentId, now: i64) -> bool {
        let failures = self.segments.get(&segment).map_or(0, |waits| waits.failures);
        if failures == 0 && self.segments.len() == MAX_SEGMENTS {
            return false;
        }
        let wait = FIRST_WAIT.saturating_mul(1 << failures.min(20)).min(LONGEST_WAIT);
        let jitter = fastrand::i64(0..=wait / 4); // so that segments that failed together do not come back together
        let waits = Waits { failures: failures + 1, since: now, until: now.saturating_add(wait + jitter) };
        self.segments.insert(segment, waits);
        failures == 0
    }

    /// It succeeded, or there is nothing to try any more.
    pub(super) fn succeeded(&mut self, segment: SegmentId) {
        self.segments.remove(&segment);
    }

    /// Whatever failed may be tried at once: it was not for the segments that it failed.
    pub(super) fn forgive(&mut self) {
        self.segments.clear();
    }

    /// What is about no segment failed. Returns whether it had not before.
    pub(super) fn failed_at(&mut self, doing: &str) -> bool {
        self.others.insert(doing.to_owned())
    }

    /// It succeeded.
    pub(super) fn succeeded_at(&mut self, doing: &str) {
        self.others.remove(doing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SegmentId = SegmentId { manifest: 1, child: 0 };

    #[test]
    fn waits_grow_to_a_limit_and_end() {
        let mut patience = Patience::default();
        let mut now = 1_000 * SECOND;
        assert!(patience.may_try(ONE, now));
        assert!(patience.failed(ONE, now));
        assert!(!patience.may_try(ONE, now + FIRST_WAIT - 1));
        assert!(patience.may_try(ONE, now + FIRST_WAIT * 5 / 4));
        assert!(patience.may_try(ONE, now - 1), "the clock was set back");
        for _ in 0..70 {
            assert!(!patience.failed(ONE, now));
            now += LONGEST_WAIT * 5 / 4;
            assert!(patience.may_try(ONE, now));
        }
        patience.succeeded(ONE);
        assert!(patience.failed(ONE, now), "told again");
        patience.forgive();
        assert!(patience.may_try(ONE, now));
    }

    #[test]
    fn what_is_kept_in_mind_is_bounded() {
        let mut patience = Patience::default();
        for manifest in 0..2 * MAX_SEGMENTS as u64 {
            patience.failed(SegmentId { manifest, child: 0 }, 0);
        }
        assert_eq!(patience.segments.len(), MAX_SEGMENTS);
    }
}
