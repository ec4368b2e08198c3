//! What the planner is asked, and what it answers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::figures::size;
use crate::policy::Period;
use crate::segment::SegmentId;

use super::snapshots::{Saved, SnapshotPlan};

/// The circumstances of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moment {
    /// The clock, in nanoseconds since the Unix epoch.
    pub now: i64,
    /// Bytes free on the data directory's disk.
    pub free: u64,
    /// When bytes may be deleted; `None` is at any time.
    pub off_peak: Option<OffPeak>,
    /// Why the clock is not trusted, if it is not: then nothing is deleted.
    pub suspended: Option<String>,
    /// Stores that cannot be reached now. What is to go there still is, but makes no room yet.
    pub unreachable: Vec<String>,
    /// How far the state is saved; `None` where nobody keeps one, then nothing waits for it.
    pub saved: Option<Saved>,
}

/// A time of each day, in UTC. Written `01:00-05:30`; it may go over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffPeak {
    /// Minutes after midnight at which it begins.
    from: u16,
    /// Minutes after midnight at which it is over.
    to: u16,
}

const MINUTE: i64 = 60_000_000_000;
const MINUTES_A_DAY: i64 = 24 * 60;

impl OffPeak {
    /// Whether `instant`, in nanoseconds since the Unix epoch, is in it.
    #[must_use]
    pub fn contains(self, instant: i64) -> bool {
        let minute = instant.div_euclid(MINUTE).rem_euclid(MINUTES_A_DAY);
        let (from, to) = (i64::from(self.from), i64::from(self.to));
        if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to }
    }

    /// The first instant from `instant` on that is in it.
    #[must_use]
    pub fn next(self, instant: i64) -> i64 {
        if self.contains(instant) {
            return instant;
        }
        let minutes = instant.div_euclid(MINUTE);
        let wait = (i64::from(self.from) - minutes).rem_euclid(MINUTES_A_DAY);
        minutes.saturating_add(wait).saturating_mul(MINUTE)
    }
}

/// A text that is no [`OffPeak`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a time of the day in UTC such as \"01:00-05:30\", not {0:?}")]
pub struct InvalidOffPeak(String);

impl FromStr for OffPeak {
    type Err = InvalidOffPeak;

    fn from_str(text: &str) -> Result<Self, InvalidOffPeak> {
        let minutes = |text: &str| {
            let (hours, minutes) = text.split_once(':')?;
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
        };
        let parse = || {
            let (from, to) = text.split_once('-')?;
            Some(Self { from: minutes(from)?, to: minutes(to)? }).filter(|window| window.from != window.to)
        };
        parse().ok_or_else(|| InvalidOffPeak(text.to_owned()))
    }
}

impl fmt::Display for OffPeak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl<'de> Deserialize<'de> for OffPeak {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for OffPeak {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A place in object storage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// The name of the store in the server's configuration.
    pub store: String,
    /// The storage class; `None` is the store's usual one.
    pub class: Option<String>,
}

/// What is to be done now. Prints itself for people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In this order: what makes room first, then by segment.
    pub actions: Vec<Action>,
    /// What is to be done about snapshots.
    pub snapshots: SnapshotPlan,
    /// Segments that would be marked for deletion if they were rolled up, each with the policy that wants that first.
    pub unrolled: Vec<(SegmentId, Arc<str>)>,
}

/// One thing to be done with one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// The segment.
    pub segment: SegmentId,
    /// Its bytes.
    pub bytes: u64,
    /// The policy that wants it.
    pub policy: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// Why.
    pub reason: Reason,
}

/// What is to be done with a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Make a copy there and verify it. What the store had of the segment in another class is replaced.
    Upload(Arc<Destination>),
    /// Remove the copy there, of a live segment whose bytes are verified in another store.
    DropCopy(Arc<Destination>),
    /// Remove the local copy; a verified one is in object storage.
    DropLocal,
    /// Decide that it is deleted, from `due` on, in nanoseconds since the Unix epoch. No bytes are touched.
    Mark {
        /// When the undo window is over.
        due: i64,
    },
    /// Take that decision back.
    Unmark,
    /// Delete all of its bytes, and keep its tombstone.
    Delete,
    /// Make a segment of each of its shares.
    Split,
}

/// Why something is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It reached this age.
    Age(Period),
    /// The policy has more bytes than this.
    Size(u64),
    /// Less than this is free on the disk.
    DiskFull(u64),
    /// It is verified in the store where it belongs.
    Superseded,
    /// The undo window is over.
    UndoOver,
    /// No policy deletes it any more.
    Kept,
    /// A hold freezes it.
    Held,
    /// It belongs to several policies, which want different things of it.
    SharesDiffer,
}

impl Reason {
    /// Whether it is about room, and so urgent.
    pub(super) fn makes_room(self) -> bool {
        matches!(self, Self::Size(_) | Self::DiskFull(_))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.class {
            Some(class) => write!(f, "{} as {class}", self.store),
            None => f.write_str(&self.store),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upload(to) => write!(f, "upload to {to}"),
            Self::DropCopy(from) => write!(f, "remove the copy in {from}"),
            Self::DropLocal => f.write_str("remove the local copy"),
            Self::Mark { .. } => f.write_str("mark for deletion"),
            Self::Unmark => f.write_str("take the mark for deletion away"),
            Self::Delete => f.write_str("delete"),
            Self::Split => f.write_str("split"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Age(age) => write!(f, "it is older than {age}"),
            Self::Size(bytes) => {
                write!(f, "its policy has more than {}, and this is the oldest", size(*bytes))
            }
            Self::DiskFull(bytes) => write!(f, "less than {} is free on the disk", size(*bytes)),
            Self::Superseded => f.write_str("it is verified where it belongs now"),
            Self::UndoOver => f.write_str("its undo window is over"),
            Self::Kept => f.write_str("the policies that apply now keep it"),
            Self::Held => f.write_str("a hold freezes it"),
            Self::SharesDiffer => {
                f.write_str("its shares belong to policies that want different things of it")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_go_over_midnight() {
        let hour = 60 * MINUTE;
        let night: OffPeak = "22:30-05:00".parse().unwrap();
        assert_eq!(night.to_string(), "22:30-05:00");
        let inside = |hours: i64| night.contains(hours * hour);
        assert!(inside(23) && inside(0) && inside(4) && !inside(5) && !inside(22) && inside(-1));
        assert_eq!(night.next(12 * hour), 22 * hour + 30 * MINUTE);
        assert_eq!(night.next(23 * hour + 1), 23 * hour + 1);
        let early: OffPeak = "01:00-02:00".parse().unwrap();
        assert_eq!(early.next(2 * hour), 25 * hour);
        for text in ["", "1-2", "01:00", "01:00-24:00", "01:00-01:00", "01:60-02:00"] {
            assert!(text.parse::<OffPeak>().is_err(), "{text}");
        }
    }
}
