//! What another policy set would delete sooner than the one that applies.

use std::collections::BTreeMap;
use std::fmt;

use crate::figures::{count, size};
use crate::segment::{Content, Segment};

use super::share::part;
use super::{Labels, Policy, PolicySet};

/// What a change of policies would delete sooner. Empty: the change destroys nothing that the policies before it keep.
/// Prints itself for people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// By the policies before and after, in the order of the sets.
    pub sooner: Vec<Change>,
}

/// Events that would be deleted sooner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The policy that applies to them now.
    pub from: String,
    /// The policy that would apply to them.
    pub to: String,
    /// How many events.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes among them whose deletion would be decided at once.
    pub at_once: u64,
}

impl Changes {
    /// Whether the change deletes anything sooner, and so wants the operator's word.
    #[must_use]
    pub fn are_destructive(&self) -> bool {
        !self.sooner.is_empty()
    }

    /// All bytes that would be deleted sooner.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sooner.iter().map(|change| change.bytes).sum()
    }

    /// All events that would be deleted sooner.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.sooner.iter().map(|change| change.rows).sum()
    }
}

/// Compares two policy sets over what is stored, one segment at a time. It keeps some 50 bytes for each.
#[derive(Debug)]
pub struct Comparison<'p> {
    old: &'p PolicySet,
    new: &'p PolicySet,
    moved: Vec<Moved>,
}

/// Events of a segment that have the same policy in the old set, and the same one in the new.
#[derive(Debug)]
struct Moved {
    /// The places of the policies in their sets.
    old: u16,
    new: u16,
    rows: u64,
    bytes: u64,
    received: i64,
    event: i64,
}

impl PolicySet {
    /// Begins to ask what `new` would delete sooner than this set.
    #[must_use]
    pub fn compare<'p>(&'p self, new: &'p Self) -> Comparison<'p> {
        Comparison { old: self, new, moved: Vec::new() }
    }

    fn numbered(&self, content: &Content, labels: &Labels) -> u16 {
        let place = self.place(&content.schema, &content.device, labels);
        u16::try_from(place).expect("a text of the greatest length has fewer policies")
    }
}

impl Comparison<'_> {
    /// Takes in a segment and what it contains. `labels` tells those of the device at receipt.
    pub fn add<'l>(
        &mut self,
        segment: &Segment,
        contents: &[Content],
        labels: impl Fn(&Content) -> &'l Labels,
    ) {
        let first = self.moved.len();
        for content in contents {
            let labels = labels(content);
            let (old, new) = (self.old.numbered(content, labels), self.new.numbered(content, labels));
            let same = self.moved[first..].iter_mut().find(|moved| (moved.old, moved.new) == (old, new));
            if let Some(moved) = same {
                moved.rows += content.rows;
                continue;
            }
            let (received, event) = (segment.received.last, segment.events.last);
            self.moved.push(Moved { old, new, rows: content.rows, bytes: 0, received, event });
        }
        for moved in &mut self.moved[first..] {
            moved.bytes = part(segment.bytes, moved.rows, segment.rows);
        }
    }

    /// What is deleted sooner, at `now`, in nanoseconds since the Unix epoch. Sooner is an earlier age, a shorter undo window,
    /// or a smaller size than before.
    #[must_use]
    pub fn changes(mut self, now: i64) -> Changes {
        self.moved.sort_by_key(|moved| moved.received);
        let beyond_old = beyond(self.old, &self.moved, |moved| moved.old);
        let beyond_new = beyond(self.new, &self.moved, |moved| moved.new);

        let mut sooner: BTreeMap<(u16, u16), Change> = BTreeMap::new();
        for (place, moved) in self.moved.iter().enumerate() {
            let old_policy = &self.old.policies[usize::from(moved.old)];
            let new_policy = &self.new.policies[usize::from(moved.new)];
            let due = |policy: &Policy| policy.deletion(moved.received, moved.event);
            let is_due = |policy: &Policy| due(policy).is_some_and(|due| due <= now);
            let was_decided = beyond_old[place] || is_due(old_policy);
            let is_decided = beyond_new[place] || is_due(new_policy);
            let decided_now = is_decided && !was_decided;
            if decided_now || gone_sooner(old_policy, new_policy, moved) || smaller(old_policy, new_policy) {
                let change = sooner.entry((moved.old, moved.new)).or_insert_with(|| Change {
                    from: old_policy.name.clone(),
                    to: new_policy.name.clone(),
                    rows: 0,
                    bytes: 0,
                    at_once: 0,
                });
                change.rows += moved.rows;
                change.bytes += moved.bytes;
                change.at_once += if decided_now { moved.bytes } else { 0 };
            }
        }
        Changes { sooner: sooner.into_values().collect() }
    }
}

/// Whether the bytes would be gone by their age at an earlier instant.
fn gone_sooner(old: &Policy, new: &Policy, moved: &Moved) -> bool {
    let gone = |policy: &Policy| {
        let undo = policy.delete?.undo;
        Some(undo.after(policy.deletion(moved.received, moved.event)?))
    };
    gone(new).is_some_and(|new| gone(old).is_none_or(|old| new < old))
}

/// Whether the new policy has less room, or gives less time to undo what its size deletes.
fn smaller(old: &Policy, new: &Policy) -> bool {
    let room = |policy: &Policy| policy.delete.and_then(|delete| Some((delete.max_bytes?, delete.undo)));
    let Some((bytes, undo)) = room(new) else { return false };
    room(old).is_none_or(|(old_bytes, old_undo)| bytes < old_bytes || undo < old_undo)
}

/// Which of the events, oldest first, are beyond the size of their policy in `set`.
fn beyond(set: &PolicySet, moved: &[Moved], place: impl Fn(&Moved) -> u16) -> Vec<bool> {
    let room = |policy: &Policy| policy.delete.and_then(|delete| delete.max_bytes).unwrap_or(u64::MAX);
    let mut room: Vec<u64> = set.policies.iter().map(room).collect();
    let fits = |moved: &Moved| {
        let room = &mut room[usize::from(place(moved))];
        let fits = moved.bytes <= *room;
        *room = if fits { *room - moved.bytes } else { 0 };
        !fits
    };
    let mut beyond: Vec<bool> = moved.iter().rev().map(fits).collect();
    beyond.reverse();
    beyond
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sooner.is_empty() {
            return writeln!(f, "nothing is deleted sooner");
        }
        writeln!(f, "{} would be deleted sooner:", size(self.bytes()))?;
        for Change { from, to, rows, bytes, at_once } in &self.sooner {
            let policies = if from == to { from.clone() } else { format!("{from}, now under {to}") };
            let rows = count(*rows);
            write!(f, "  {policies}: {} ({rows} events)", size(*bytes))?;
            match at_once {
                0 => writeln!(f)?,
                bytes => writeln!(f, ", of which {} at once, but for the time to undo it", size(*bytes))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::segment::{SegmentId, Span};

    use super::*;

    const DAY: i64 = 86_400_000_000_000;
    const NOW: i64 = 20_000 * DAY;

    fn set(delete: &str) -> PolicySet {
        PolicySet::parse("p", &format!("[[policy]]\nname = \"all\"\ndelete = {delete}\n")).unwrap()
    }

    /// A segment a day for 100 days, 10 bytes and 5 events each; the first is from today.
    fn stored() -> Vec<(Segment, Vec<Content>)> {
        let segment = |age: u64| {
            let time = NOW - age as i64 * DAY;
            let span = Span { first: time, last: time };
            let content = Content { schema: "s".into(), device: "d".into(), received: span, rows: 5 };
            let segment = Segment {
                id: SegmentId { manifest: age, child: 0 },
                bytes: 10,
                rows: 5,
                root: [0; 32],
                positions: 0..5,
                received: span,
                events: span,
                shares: Vec::new(),
                local: true,
                copies: Vec::new(),
                deletion: None,
            };
            (segment, vec![content])
        };
        (0..100).map(segment).collect()
    }

    fn changes(old: &str, new: &str) -> Changes {
        let (old, new, labels) = (set(old), set(new), Labels::new());
        let mut comparison = old.compare(&new);
        for (segment, contents) in stored() {
            comparison.add(&segment, &contents, |_| &labels);
        }
        comparison.changes(NOW)
    }

    /// Events, bytes and bytes at once that go sooner.
    fn sooner(old: &str, new: &str) -> (u64, u64, u64) {
        let changes = changes(old, new);
        assert!(changes.sooner.len() <= 1);
        assert_eq!(changes.are_destructive(), !changes.sooner.is_empty());
        changes.sooner.first().map_or((0, 0, 0), |change| (change.rows, change.bytes, change.at_once))
    }

    #[test]
    fn keeping_as_long_or_longer_is_no_destruction() {
        let never = "\"never\"";
        assert_eq!(sooner(never, never), (0, 0, 0));
        assert_eq!(sooner("{ after = \"30d\" }", never), (0, 0, 0));
        assert_eq!(sooner("{ after = \"30d\" }", "{ after = \"31d\", undo = \"6d\" }"), (0, 0, 0));
        assert_eq!(sooner("{ max_bytes = 100 }", "{ max_bytes = 200 }"), (0, 0, 0));
        assert_eq!(sooner("{ after = \"30d\", max_bytes = 100 }", "{ max_bytes = 100 }"), (0, 0, 0));
    }

    #[test]
    fn an_earlier_age_a_shorter_undo_and_less_room_delete_sooner() {
        // All 100 segments, of which those of 90 to 99 days are due.
        assert_eq!(sooner("\"never\"", "{ after = \"90d\" }"), (500, 1_000, 100));
        assert_eq!(sooner("{ after = \"95d\" }", "{ after = \"90d\" }"), (500, 1_000, 50));
        assert_eq!(sooner("{ after = \"90d\" }", "{ after = \"90d\", undo = \"1d\" }"), (500, 1_000, 0));
        assert_eq!(sooner("{ max_bytes = 300 }", "{ max_bytes = 200 }"), (500, 1_000, 100));
        assert_eq!(sooner("\"never\"", "{ max_bytes = 5000 }"), (500, 1_000, 0));
    }

    #[test]
    fn the_amount_is_printed() {
        let changes = changes("\"never\"", "{ after = \"90d\" }");
        let expected = "1.0 kB would be deleted sooner:\n  \
                        all: 1.0 kB (500 events), of which 100 B at once, but for the time to undo it\n";
        assert_eq!(changes.to_string(), expected);
    }
}
