//! Plans and rehearsals as people read them.

use std::collections::BTreeMap;
use std::fmt;

use crate::figures::{columns, count, counted, size};
use crate::instant;
use crate::segment::SegmentId;

use super::action::{Destination, Kind, Plan};
use super::rehearsal::{Costs, Day, Rehearsal};
use super::upkeep::Upkeep;

/// What is done, in the order of a segment's life.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Line<'p> {
    Split,
    Upload(&'p Destination),
    DropLocal,
    DropCopy(&'p Destination),
    Mark,
    Unmark,
    Delete,
}

impl<'p> From<&'p Kind> for Line<'p> {
    fn from(kind: &'p Kind) -> Self {
        match kind {
            Kind::Upload(to) => Self::Upload(to),
            Kind::DropCopy(from) => Self::DropCopy(from),
            Kind::DropLocal => Self::DropLocal,
            Kind::Mark { .. } => Self::Mark,
            Kind::Unmark => Self::Unmark,
            Kind::Delete => Self::Delete,
            Kind::Split => Self::Split,
        }
    }
}

/// A line for each policy and kind of action, with segments and bytes.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: BTreeMap<(&str, Line<'_>), (&Kind, u64, u64)> = BTreeMap::new();
        for action in &self.actions {
            let line =
                lines.entry((&action.policy, Line::from(&action.kind))).or_insert((&action.kind, 0, 0));
            (line.1, line.2) = (line.1 + 1, line.2 + action.bytes);
        }
        if lines.is_empty() && self.snapshots.waiting.is_none() && self.unrolled.is_empty() {
            writeln!(f, "nothing to do")?;
        }
        let lines = lines.into_iter().map(|((policy, _), (kind, segments, bytes))| {
            vec![format!("{policy}: {kind}"), counted(segments, "segment"), size(bytes)]
        });
        f.write_str(&columns(&lines.collect::<Vec<_>>()))?;
        self.snapshots.fmt(f)?;
        let mut waiting: BTreeMap<&str, Vec<SegmentId>> = BTreeMap::new();
        for (segment, policy) in &self.unrolled {
            waiting.entry(policy).or_default().push(*segment);
        }
        waiting.iter().try_for_each(|(policy, segments)| {
            let (first, number) = (segments[0], counted(segments.len() as u64, "segment"));
            writeln!(f, "{policy}: the deletion of {number} ({first}, …) waits until they are rolled up")
        })
    }
}

/// For each policy a line for each day on which anything is done, and for the last; then what is to be looked at.
impl fmt::Display for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.policies.first().map_or(0, |(_, days)| days.len());
        writeln!(f, "{} from {}", counted(days as u64, "day"), instant::text(self.start))?;
        let mut total = Costs::default();
        for (policy, days) in &self.policies {
            total = days.iter().fold(total, |total, day| total.with(day.costs));
            if days.iter().all(|day| day.segments == 0 && day.requests.all() == 0 && day.deleted == 0) {
                writeln!(f, "\n{policy}: nothing")?;
                continue;
            }
            writeln!(f, "\n{policy}")?;
            let titles = [
                "  day", "segments", "bytes", "local", "objects", "stored", "uploaded", "deleted",
                "requests", "cost",
            ];
            let mut rows = vec![titles.map(str::to_owned).to_vec()];
            let mut since = Day::default();
            for (number, day) in days.iter().enumerate() {
                since.costs = since.costs.with(day.costs);
                let is_busy =
                    day.uploaded + day.dropped + day.marked + day.deleted > 0 || day.requests.all() > 0;
                if is_busy || number + 1 == days.len() {
                    rows.push(row(number, day, since.costs));
                    since = Day::default();
                }
            }
            f.write_str(&columns(&rows))?;
        }
        let upkeep = upkeep_rows(&self.upkeep);
        if upkeep.len() > 1 {
            write!(f, "\nupkeep: journal, manifests, snapshots, terms and listings\n{}", columns(&upkeep))?;
        }
        total.requests += self.upkeep.iter().map(|upkeep| upkeep.costs).sum::<f64>();
        writeln!(
            f,
            "\ncosts {:.2}: storage {:.2}, requests {:.2}, retrieval {:.2}, early deletion {:.2}",
            total.all(),
            total.storage,
            total.requests,
            total.retrieval,
            total.early
        )?;
        for (policy, days) in &self.policies {
            let young: u64 = days.iter().map(|day| day.marked_young).sum();
            if young > 0 {
                writeln!(f, "{policy}: the deletion of {} is decided within a day of arriving", size(young))?;
            }
        }
        Ok(())
    }
}

/// A day, with the costs since the last that was written.
fn row(number: usize, day: &Day, costs: Costs) -> Vec<String> {
    vec![
        format!("  {number}"),
        count(day.segments),
        size(day.bytes),
        size(day.local),
        count(day.objects),
        size(day.stored),
        size(day.uploaded),
        size(day.deleted),
        count(day.requests.all()),
        format!("{:.2}", costs.all()),
    ]
}

/// The days on which there is any, with their titles.
fn upkeep_rows(days: &[Upkeep]) -> Vec<Vec<String>> {
    let titles =
        ["  day", "manifests", "journal", "snapshots", "requests", "cost"].map(str::to_owned).to_vec();
    let busy = days.iter().enumerate().filter(|(_, day)| day.requests.all() > 0);
    let row = |(number, day): (usize, &Upkeep)| {
        let Upkeep { manifests, journal, snapshots, requests, costs, .. } = day;
        let figures = [*manifests, *journal, *snapshots, requests.all()].map(count);
        [vec![format!("  {number}")], figures.to_vec(), vec![format!("{costs:.2}")]].concat()
    };
    [titles].into_iter().chain(busy.map(row)).collect()
}

impl Costs {
    fn with(self, other: Self) -> Self {
        Self {
            storage: self.storage + other.storage,
            requests: self.requests + other.requests,
            retrieval: self.retrieval + other.retrieval,
            early: self.early + other.early,
        }
    }
}
