//! Of what was asked: what was read, and why the rest was not.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use icecore_log::{AbsentSegment, Damage, LogError, SegmentId};
use icecore_state::{EpochLedger, Ledger};
use icecore_tier::elsewhere::Deleted;
use icecore_tier::segment::Content;
use icecore_wire::DeviceName;

use crate::batches::Passed;
use crate::{EventTimes, Query, Replay, ReplayError};

/// How many segments are named before the others are only counted.
const NAMED: usize = 4;

/// What a query covers of what it asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Events that were read.
    pub present: u64,
    /// Sequences that were never stored; `None` if that cannot be told because the log is damaged.
    pub unstored: Option<Unstored>,
    /// Segments that were deleted by policy.
    pub deleted: Vec<Lacking>,
    /// Segments that are nowhere, or could not be opened, and were passed over because the query asked for it; or that are not in the
    /// bucket that is read yet.
    pub absent: Vec<Lacking>,
    /// Damage that was passed over because the query asked for it.
    pub damage: Vec<Damage>,
}

/// Sequences of the devices asked for that were never stored. They have neither schema nor time, so they are those of all schemas
/// and times: any of them may be of what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unstored {
    /// Those that did not arrive, though later ones of their epoch did.
    pub not_arrived: u64,
    /// Those that the device said it dropped.
    pub dropped: u64,
    /// Those that were refused for good.
    pub refused: u64,
    /// Which they are: the first few.
    pub gaps: Vec<Gap>,
    /// How many ranges there are beyond these.
    pub more_gaps: u64,
}

/// A range of sequences that was never stored. The events before it and behind it are what tells when it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The device.
    pub device: DeviceName,
    /// The number of its epoch.
    pub epoch: u32,
    /// The sequences.
    pub sequences: Range<u64>,
}

/// A sealed segment that was not read, though it has events of what was asked, or may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// Its name.
    pub segment: SegmentId,
    /// How many of its events were asked for, at most.
    pub events: u64,
    /// Whether it is exactly so many.
    pub is_exact: bool,
    /// The policy that deleted it, or what keeps it from being read.
    pub why: String,
}

impl Replay {
    /// What several queries cover together, each given with its own coverage: what is missing for several of them is missing once.
    ///
    /// # Errors
    /// When the log's facts cannot be read.
    pub fn together(&self, covered: &[(Query, Coverage)]) -> Result<Coverage, ReplayError> {
        let Some(((first, of_first), others)) = covered.split_first() else {
            return Ok(Coverage { unstored: Some(Unstored::default()), ..Coverage::default() });
        };
        let unstored = match others.iter().all(|(query, _)| query.has_devices_of(first)) {
            true => of_first.unstored.clone(),
            false => self.unstored(|device| covered.iter().any(|(query, _)| query.wants_device(device)))?,
        };
        let mut together = Coverage { unstored, ..Coverage::default() };
        for (at, (query, coverage)) in covered.iter().enumerate() {
            together.present += coverage.present;
            let damage = coverage.damage.iter().filter(|damage| !together.damage.contains(damage));
            together.add(Passed::default(), damage.cloned().collect());
            let before = &covered[..at];
            if !before.iter().any(|(before, _)| before.has_selection_of(query)) {
                let is_apart = before.iter().all(|(before, _)| before.schemas != query.schemas);
                merge(&mut together.deleted, &coverage.deleted, is_apart);
                merge(&mut together.absent, &coverage.absent, is_apart);
            }
        }
        Ok(together)
    }
}

/// Adds what another query lacks; `is_apart` if none of it was asked for by those before.
fn merge(all: &mut Vec<Lacking>, more: &[Lacking], is_apart: bool) {
    for lacking in more {
        match all.iter_mut().find(|known| known.segment == lacking.segment) {
            Some(known) => {
                known.events += lacking.events;
                known.is_exact &= lacking.is_exact && is_apart;
            }
            None => all.push(lacking.clone()),
        }
    }
}

impl Coverage {
    /// Adds what was passed over beside.
    pub(crate) fn add(&mut self, passed: Passed, damage: Vec<Damage>) {
        self.deleted.extend(passed.deleted);
        self.absent.extend(passed.absent);
        self.damage.extend(damage);
        self.damage.sort_by_key(|damage| damage.positions.as_ref().map(|positions| positions.start));
        self.damage.dedup_by(|behind, before| join(before, behind));
    }

    /// Whether everything that was asked for was read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let Self { unstored, deleted, absent, damage, .. } = self;
        *unstored == Some(Unstored::default()) && deleted.is_empty() && absent.is_empty() && damage.is_empty()
    }

    /// What is missing, in words; empty if nothing is.
    #[must_use]
    pub fn missing(&self) -> String {
        let mut parts = Vec::new();
        match &self.unstored {
            Some(unstored) if *unstored != Unstored::default() => parts.push(unstored.to_string()),
            Some(_) => {}
            None => parts.push("what did not arrive cannot be told, since the log is damaged".to_owned()),
        }
        if !self.deleted.is_empty() {
            let policies: BTreeSet<&str> = self.deleted.iter().map(|lacking| &*lacking.why).collect();
            let policies: Vec<_> = policies.iter().map(|policy| format!("`{policy}`")).collect();
            parts.push(format!("{} deleted by policy {}", amount(&self.deleted), policies.join(", ")));
        }
        if !self.absent.is_empty() {
            let why: BTreeSet<&str> = self.absent.iter().map(|lacking| &*lacking.why).collect();
            let why: Vec<_> = why.into_iter().take(NAMED).collect();
            parts.push(format!("{} not to be read: {}", amount(&self.absent), why.join("; ")));
        }
        if !self.damage.is_empty() {
            parts.push(damaged(&self.damage));
        }
        parts.join(", ")
    }
}

/// `1000 events present, nothing missing`, or what is.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} present, ", events(self.present))?;
        match self.is_complete() {
            true => f.write_str("nothing missing"),
            false => write!(f, "missing: {}", self.missing()),
        }
    }
}

impl Unstored {
    /// What the ledger has on record of the devices in it.
    pub(crate) fn of(ledger: &Ledger) -> Self {
        let mut unstored = Self::default();
        let mut devices: Vec<_> = ledger.devices().collect();
        devices.sort_unstable_by_key(|(device, _)| *device);
        for (device, epochs) in devices {
            epochs.epochs().iter().for_each(|epoch| unstored.add(device, epoch));
        }
        unstored
    }

    fn add(&mut self, device: &DeviceName, epoch: &EpochLedger) {
        let (missing, refused) = (epoch.missing(), epoch.refused().ranges());
        self.not_arrived += missing.count();
        self.dropped += epoch.dropped().count();
        self.refused += refused.count();
        for sequences in missing.iter().chain(epoch.dropped().iter()).chain(refused.iter()) {
            match self.gaps.len() < NAMED {
                true => self.gaps.push(Gap { device: device.clone(), epoch: epoch.number(), sequences }),
                false => self.more_gaps += 1,
            }
        }
    }
}

impl fmt::Display for Unstored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (self.not_arrived, "not arrived"),
            (self.dropped, "dropped by the device"),
            (self.refused, "refused"),
        ];
        let kinds = kinds.iter().filter(|(sequences, _)| *sequences > 0);
        let kinds: Vec<_> = kinds.map(|(sequences, what)| format!("{sequences} {what}")).collect();
        let gaps: Vec<_> = self.gaps.iter().map(Gap::to_string).collect();
        let more =
            if self.more_gaps > 0 { format!(" and {} more ranges", self.more_gaps) } else { String::new() };
        write!(f, "{} (of any schema and time: {}{more})", kinds.join(", "), gaps.join(", "))
    }
}

/// `pump/7 epoch 0 sequences 100..112`
impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, epoch, sequences } = self;
        write!(f, "{device} epoch {epoch} sequences {}..{}", sequences.start, sequences.end)
    }
}

impl Lacking {
    /// A segment that was deleted by policy; `None` if nothing in it was asked for.
    pub(crate) fn deleted(query: &Query, segment: &AbsentSegment, deleted: Deleted) -> Option<Self> {
        let why = deleted.policy.unwrap_or_else(|| "unknown".to_owned());
        let Some(contents) = deleted.contents else { return Some(Self::whole(query, segment, why)) };
        let asked = |content: &&Content| {
            query.wants_device(&content.device) && query.schemas.matches(&content.schema)
        };
        let events = contents.iter().filter(asked).map(|content| content.rows).sum();
        let times = &segment.child.times;
        let is_exact = query.times.contains(*times.start()) && query.times.contains(*times.end());
        (events > 0).then_some(Self { segment: segment.id, events, is_exact, why })
    }

    /// A segment that could not be read.
    pub(crate) fn absent(query: &Query, segment: &AbsentSegment) -> Self {
        let why = match &segment.why {
            LogError::Absent { .. } => format!("segment {} is nowhere", segment.id),
            why => why.to_string(),
        };
        Self::whole(query, segment, why)
    }

    /// A segment that is not in the bucket that is read, and was never said to be there.
    pub(crate) fn not_archived(query: &Query, segment: &AbsentSegment) -> Self {
        Self::whole(query, segment, format!("segment {} is not in this store yet", segment.id))
    }

    /// All of a segment of which it is not known what is in it.
    fn whole(query: &Query, segment: &AbsentSegment, why: String) -> Self {
        let is_exact =
            query.wants_every_device() && query.schemas.is_any() && query.times == EventTimes::default();
        Self { segment: segment.id, events: segment.child.rows, is_exact, why }
    }
}

/// Makes one of the damage of two batches that follow each other, if the place is the same.
fn join(before: &mut Damage, behind: &Damage) -> bool {
    let is_same = (&before.file, before.offset, &before.what) == (&behind.file, behind.offset, &behind.what);
    match (&mut before.positions, &behind.positions) {
        (Some(before), Some(behind)) if is_same && before.end == behind.start => {
            before.end = behind.end;
            true
        }
        _ => false,
    }
}

/// Events in segments, and which segments these are.
fn amount(segments: &[Lacking]) -> String {
    let total = segments.iter().map(|lacking| lacking.events).sum();
    let at_most = if segments.iter().all(|lacking| lacking.is_exact) { "" } else { "at most " };
    let named: Vec<_> = segments.iter().take(NAMED).map(|lacking| lacking.segment.to_string()).collect();
    let more = segments.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{at_most}{} (segment {}{more})", events(total), named.join(", "))
}

fn damaged(damage: &[Damage]) -> String {
    let positions: u64 = damage
        .iter()
        .filter_map(|damage| damage.positions.as_ref())
        .map(|positions| positions.end.saturating_sub(positions.start))
        .sum();
    let known = damage.iter().all(|damage| damage.positions.is_some());
    let more = if known { "" } else { " and more" };
    let places = if damage.len() == 1 { "1 place".to_owned() } else { format!("{} places", damage.len()) };
    format!("at most {}{more} damaged in {places}", events(positions))
}

fn events(number: u64) -> String {
    format!("{number} event{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use icecore_log::{Fact, Source};
    use icecore_wire::Epoch;

    use super::*;

    #[test]
    fn what_was_never_stored_is_named() {
        let mut ledger = Ledger::default();
        for (device, range) in [("pump", 3..5), ("valve", 1..2), ("valve", 3..4), ("valve", 5..6)] {
            let device = device.parse().unwrap();
            let source = Arc::new(Source { device, epoch: Epoch::from_bytes([1; 16]), number: 2 });
            ledger.apply(&Fact::Dropped { source: &source, range, received: 0 });
        }
        let said = Unstored::of(&ledger).to_string();
        let (counts, named) = said.split_once(" (of any schema and time: ").unwrap();
        assert_eq!(counts, "6 not arrived, 5 dropped by the device");
        assert!(
            named.starts_with("pump epoch 2 sequences 0..3, pump epoch 2 sequences 3..5, valve"),
            "{named}"
        );
        assert!(named.ends_with(" and 4 more ranges)"), "{named}");
    }
}
