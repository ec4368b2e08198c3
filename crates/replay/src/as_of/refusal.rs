//! What is missing of a state, and from when on nothing is.

use std::fmt;

use icecore_log::SegmentId;
use icecore_tier::elsewhere::Deleted;
use icecore_wire::Schema;

use super::{AsOf, AsOfError, Bases, Who};
use crate::{Replay, format_instant};

/// A state would not be exact: events that it takes were deleted by policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked.
    pub asked: AsOf,
    /// The first segment that is missing.
    pub segment: SegmentId,
    /// The policy that deleted it, if that is known.
    pub policy: Option<String>,
    /// From when on the answer is exact; `None` if there is no such time.
    pub exact_from: Option<ExactFrom>,
}

/// From when on states are exact, because a snapshot has what was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExactFrom {
    /// As of this event time and later, nanoseconds since the Unix epoch.
    pub at: i64,
    /// As known at this received time and later, nanoseconds since the Unix epoch.
    pub known_at: i64,
}

impl Refusal {
    /// Whether a segment that is not there may have had events of those who are asked for, received behind `base` and in time.
    pub(super) fn may_hold(
        replay: &Replay,
        segment: SegmentId,
        deleted: Option<&Deleted>,
        who: Who<'_>,
        (base, known_at): (Option<i64>, Option<i64>),
    ) -> Result<bool, AsOfError> {
        if let Some(contents) = deleted.and_then(|deleted| deleted.contents.as_ref()) {
            let is_behind = |received: i64| base.is_none_or(|base| base <= received);
            let is_in_time = |received: i64| known_at.is_none_or(|known_at| received <= known_at);
            return Ok(contents.iter().any(|content| {
                // What the server derived is in no state.
                Schema::split_derived(&content.schema).is_none()
                    && who.wants(&content.device)
                    && is_behind(content.received.last)
                    && is_in_time(content.received.first)
            }));
        }
        let mut may_hold = false;
        replay.reader().sealed_sources(segment.manifest, &mut |source, _| {
            may_hold |= !source.epoch.is_derived() && who.wants(source.device.as_str());
        })?;
        Ok(may_hold)
    }

    pub(super) fn of(
        replay: &Replay,
        bases: &Bases,
        who: Who<'_>,
        asked: AsOf,
        segment: SegmentId,
        deleted: Deleted,
    ) -> Result<Self, AsOfError> {
        // Beyond the one that was found first there may be others.
        let mut gone = 0;
        for (id, child) in replay.reader().sealed() {
            let deleted = replay.elsewhere().map(|elsewhere| elsewhere.deleted(id)).transpose()?.flatten();
            if child.positions.end > gone
                && deleted.is_some()
                && Self::may_hold(replay, id, deleted.as_ref(), who, (None, None))?
            {
                gone = child.positions.end;
            }
        }
        let exact_from = bases.exact_behind(replay, gone, who)?;
        Ok(Self { asked, segment, policy: deleted.policy, exact_from })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.policy.as_deref().unwrap_or("unknown");
        write!(
            f,
            "not exact: events that it takes were deleted by policy `{policy}` (segment {}); ",
            self.segment
        )?;
        let Some(ExactFrom { at, known_at }) = self.exact_from else {
            return f.write_str("there is no snapshot behind them, so it is exact at no instant");
        };
        let (at, known_at) = (format_instant(at), format_instant(known_at));
        match self.asked {
            AsOf { known_at: None, .. } => write!(f, "exact from {at} on"),
            AsOf { at: None, .. } => write!(f, "exact as known from {known_at} on"),
            AsOf { .. } => write!(f, "exact from {at} on, as known from {known_at} on"),
        }
    }
}

impl std::error::Error for Refusal {}
