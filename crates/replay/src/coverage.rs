//! Of what was asked: what was read, and why the rest was not.

use std::collections::BTreeSet;
use std::fmt;

use icecore_log::{AbsentSegment, Damage, LogError, SegmentId};
use icecore_state::{EpochLedger, Ledger};
use icecore_tier::catalog::{End, Gone};
use icecore_tier::segment::{Content, Span};

use crate::{EventTimes, Query};

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
    /// Segments that are nowhere, or could not be opened, and were passed over because the query asked for it.
    pub absent: Vec<Lacking>,
    /// Damage that was passed over because the query asked for it.
    pub damage: Vec<Damage>,
}

/// Sequences of the devices asked for that were never stored. They have neither schema nor time, so they are those of all schemas
/// and times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unstored {
    /// Those that did not arrive, though later ones of their epoch did.
    pub not_arrived: u64,
    /// Those that the device said it dropped.
    pub dropped: u64,
    /// Those that were refused for good.
    pub refused: u64,
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

impl Coverage {
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
        match self.unstored {
            Some(unstored) if unstored != Unstored::default() => parts.push(unstored.to_string()),
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
        for epoch in ledger.devices().flat_map(|(_, device)| device.epochs()) {
            unstored.add(epoch);
        }
        unstored
    }

    fn add(&mut self, epoch: &EpochLedger) {
        self.not_arrived += epoch.missing().count();
        self.dropped += epoch.dropped().count();
        self.refused += epoch.refused().count();
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
        write!(f, "{} (sequences of these devices, of any schema and time)", kinds.join(", "))
    }
}

impl Lacking {
    /// A segment that was deleted by policy; `None` if nothing in it was asked for.
    pub(crate) fn deleted(query: &Query, gone: &Gone, contents: &[Content]) -> Option<Self> {
        let asked = |content: &&Content| {
            query.wants_device(&content.device) && query.schemas.matches(&content.schema)
        };
        let events = contents.iter().filter(asked).map(|content| content.rows).sum();
        let why = match &gone.end {
            End::Deleted { mark: Some(mark), .. } => mark.policy.clone(),
            _ => "unknown".to_owned(),
        };
        let Span { first, last } = gone.events;
        let is_exact = query.times.contains(first) && query.times.contains(last);
        (events > 0).then_some(Self { segment: gone.id, events, is_exact, why })
    }

    /// A segment that could not be read.
    pub(crate) fn absent(query: &Query, segment: &AbsentSegment) -> Self {
        let AbsentSegment { id, child, why } = segment;
        let is_exact =
            query.wants_every_device() && query.schemas.is_any() && query.times == EventTimes::default();
        let why = match why {
            LogError::Absent { .. } => format!("segment {id} is nowhere"),
            why => why.to_string(),
        };
        Self { segment: *id, events: child.rows, is_exact, why }
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
