//! What holds in a catalog at all times, each by its name: checked for everything when it is opened, and for what a
//! transaction touched before it is committed.

use std::collections::BTreeMap;
use std::ops::Range;

use redb::{ReadableTable, ReadableTableMetadata};

use super::arrival::{NewManifest, total};
use super::effect::Touched;
use super::error::{CatalogError, Violation};
use super::rows::{End, Entry, Gone, ManifestRow, Tables, decode, get, id};
use crate::hold::Hold;
use crate::segment::{Content, Segment, SegmentId};
use crate::snapshot::KeptSnapshot;

const REBUILD: &str = "If no decision was asked for, rebuild the catalog.";
const VERIFY: &str = "Verify a copy in object storage first, or find the local file.";

/// A rule for segments: `None` where it holds, else what is wrong.
struct Rule {
    name: &'static str,
    says: &'static str,
    to_do: &'static str,
    check: fn(&Standing) -> Option<String>,
}

/// A segment as the tables have it.
struct Standing {
    id: SegmentId,
    live: Option<Entry>,
    gone: Option<Gone>,
}

const RULES: [Rule; 7] = [
    Rule {
        name: "one_life",
        says: "a segment is either live or gone",
        to_do: REBUILD,
        check: |standing| match (&standing.live, &standing.gone) {
            (Some(_), Some(_)) => Some("it is both".to_owned()),
            (None, None) => Some("it is neither".to_owned()),
            _ => None,
        },
    },
    Rule {
        name: "somewhere",
        says: "a live segment has a local file or a verified copy, or is known to be missing",
        to_do: VERIFY,
        check: |standing| {
            let entry = standing.live.as_ref()?;
            let somewhere = entry.segment.local || !entry.segment.copies.is_empty();
            (!somewhere && !entry.missing).then(|| "it would be nowhere".to_owned())
        },
    },
    Rule {
        name: "missing_is_nowhere",
        says: "a segment that is known to be missing has no local file and no verified copy",
        to_do: REBUILD,
        check: |standing| {
            let entry = standing.live.as_ref()?;
            let somewhere = entry.segment.local || !entry.segment.copies.is_empty();
            (somewhere && entry.missing).then(|| "it is somewhere".to_owned())
        },
    },
    Rule {
        name: "one_copy_a_store",
        says: "a store has at most one copy of a segment",
        to_do: REBUILD,
        check: |standing| {
            let copies = &standing.live.as_ref()?.segment.copies;
            let twice = copies
                .iter()
                .enumerate()
                .find(|(n, copy)| copies[..*n].iter().any(|before| before.store == copy.store));
            twice.map(|(_, copy)| format!("`{}` has two", copy.store))
        },
    },
    Rule {
        name: "share_rows",
        says: "the shares of a segment are not empty, have all its rows, and the largest is first",
        to_do: "Register the segment with its contents.",
        check: |standing| {
            let segment = &standing.live.as_ref()?.segment;
            let rows = total(segment.shares.iter().map(|share| share.rows));
            let descending = segment.shares.is_sorted_by(|a, b| a.rows >= b.rows);
            (segment.shares.is_empty() || rows != segment.rows || !descending)
                .then(|| format!("{rows} rows in {} shares, {} in all", segment.shares.len(), segment.rows))
        },
    },
    Rule {
        name: "no_early_delete",
        says: "a segment is deleted only after it was marked, when that is due, and while no hold stands on it",
        to_do: "Wait until it is due, or remove the hold.",
        check: |standing| {
            let gone = standing.gone.as_ref()?;
            let End::Deleted { mark, holds } = &gone.end else { return None };
            match mark {
                _ if !holds.is_empty() => Some(format!("hold {} stands on it", holds[0])),
                None => Some("it was not marked".to_owned()),
                Some(mark) if mark.due > gone.time || mark.marked > gone.time => {
                    let seconds = mark.due.saturating_sub(gone.time) / 1_000_000_000;
                    Some(format!("it is due {seconds} s later"))
                }
                Some(_) => None,
            }
        },
    },
    Rule {
        name: "undo_window",
        says: "a mark is due when it is made, or later",
        to_do: "Mark it with a later date.",
        check: |standing| {
            let mark = standing.live.as_ref()?.segment.deletion.as_ref()?;
            (mark.due < mark.marked).then(|| "it is due before it was made".to_owned())
        },
    },
];

impl Rule {
    fn hold(&self, standing: &Standing) -> Result<(), Violation> {
        (self.check)(standing)
            .map_or(Ok(()), |what| Err(self.broken(format!("segment {}", standing.id), what)))
    }

    fn broken(&self, about: String, what: String) -> Violation {
        Violation { invariant: self.name, says: self.says, about, what, to_do: self.to_do }
    }
}

/// Checks what `touched` names, and what is cheap to check of the whole.
pub(super) fn check(tables: &Tables<'_>, touched: &Touched) -> Result<(), CatalogError> {
    let holds = tables.all_holds()?;
    for &id in &touched.segments {
        let standing = Standing { id, live: tables.entry(id)?, gone: tables.gone(id)? };
        RULES.iter().try_for_each(|rule| rule.hold(&standing))?;
        if let Some(entry) = &standing.live {
            content_matches(entry, &tables.contents_of(id)?, &holds)?;
        }
    }
    if let Some(manifest) = touched.manifest {
        let row: Option<ManifestRow> = get(&tables.manifests, "manifests", manifest)?;
        let tally = Tallies::of(tables, manifest)?;
        let row = row.into_iter().map(|row| (manifest, row)).collect();
        children_once(tables, &row, &tally)?;
    }
    history_dense(tables)
}

/// Checks everything that does not need the contents of the segments, in one pass over each table.
pub(super) fn check_all(tables: &Tables<'_>) -> Result<(), CatalogError> {
    let mut tallies = Tallies::default();
    for row in tables.segments.iter()? {
        let (key, row) = row?;
        let (id, live): (_, Entry) = (id(key.value()), decode("segments", &key.value(), row.value())?);
        tallies.count(id, live.segment.rows);
        let standing = Standing { id, live: Some(live), gone: None };
        RULES.iter().try_for_each(|rule| rule.hold(&standing))?;
    }
    for row in tables.gone.iter()? {
        let (key, row) = row?;
        let (id, gone): (_, Gone) = (id(key.value()), decode("gone", &key.value(), row.value())?);
        tallies.count(id, gone.rows);
        let standing = Standing { id, live: tables.entry(id)?, gone: Some(gone) };
        RULES.iter().try_for_each(|rule| rule.hold(&standing))?;
    }
    let mut manifests = BTreeMap::new();
    for row in tables.manifests.iter()? {
        let (number, row) = row?;
        manifests.insert(number.value(), decode("manifests", &number.value(), row.value())?);
    }
    children_once(tables, &manifests, &tallies)?;
    positions_once(tables, &manifests)?;
    history_dense(tables)
}

fn broken(invariant: &'static str, says: &'static str, about: String, what: String) -> CatalogError {
    Violation { invariant, says, about, what, to_do: REBUILD }.into()
}

/// Checks a live segment against its contents.
fn content_matches(entry: &Entry, contents: &[Content], holds: &[Hold]) -> Result<(), CatalogError> {
    let about = || format!("segment {}", entry.segment.id);
    let rows = total(contents.iter().map(|content| content.rows));
    if rows != entry.segment.rows {
        let says = "the contents of a live segment have all its rows";
        let what = format!("{rows} rows in its contents, {} in the segment", entry.segment.rows);
        return Err(broken("content_rows", says, about(), what));
    }
    let covering = holds.iter().filter(|hold| hold.scope.covers(entry.segment.events, contents));
    if !covering.map(|hold| hold.number).eq(entry.holds.iter().copied()) {
        let says = "a live segment names exactly the holds that cover it";
        return Err(broken("holds_match", says, about(), format!("it names {:?}", entry.holds)));
    }
    Ok(())
}

/// Checks that a segment is deleted only if the state of its devices outlives it, where snapshots are kept at all: whether they have
/// to be is for the planner.
pub(super) fn deleted_is_in_a_snapshot(segment: &Segment, kept: &[KeptSnapshot]) -> Result<(), CatalogError> {
    let end = segment.positions.end;
    let Some(newest) = kept.iter().map(|snapshot| snapshot.position).max().filter(|newest| *newest < end)
    else {
        return Ok(());
    };
    let what = format!("its events go up to position {end}, the newest snapshot that is kept to {newest}");
    let to_do = "Wait: the worker keeps one as soon as the state was saved past it.";
    let says = "where snapshots are kept, a segment is deleted only if one goes past it";
    let about = format!("segment {}", segment.id);
    Err(Violation { invariant: "deleted_is_in_a_snapshot", says, about, what, to_do }.into())
}

/// Checks that of the snapshots that go past everything that was deleted, the oldest stays.
pub(super) fn snapshot_stays_behind_deletions(
    kept: &[KeptSnapshot],
    deleted_to: u64,
    block: u64,
) -> Result<(), CatalogError> {
    let oldest = kept.iter().find(|snapshot| snapshot.position >= deleted_to);
    if deleted_to == 0 || oldest.is_none_or(|oldest| oldest.block != block) {
        return Ok(());
    }
    let says = "the oldest snapshot that goes past all deletions is kept";
    let what = format!("what was deleted goes up to position {deleted_to}");
    let to_do = "Keep it: from there on the past is known exactly.";
    let about = format!("snapshot {block}");
    Err(Violation { invariant: "snapshot_stays_behind_deletions", says, about, what, to_do }.into())
}

/// Whether this manifest is in the catalog already, with these segments.
pub(super) fn is_known(tables: &Tables<'_>, manifest: &NewManifest) -> Result<bool, CatalogError> {
    let number = manifest.number;
    if get::<_, ManifestRow>(&tables.manifests, "manifests", number)?.is_none() {
        return Ok(false);
    }
    for new in &manifest.segments {
        let id = new.sealed.id;
        let root = match tables.entry(id)? {
            Some(entry) => Some(entry.segment.root),
            None => tables.gone(id)?.map(|gone| gone.root),
        };
        if root != Some(new.sealed.root) {
            let says = "a manifest never changes";
            let what = format!("segment {id} has another root in the catalog, or none");
            return Err(broken("manifests_stay", says, format!("manifest {number}"), what));
        }
    }
    Ok(true)
}

/// Checks that a new manifest goes on where the last one ended, and that a split replaces what it says.
pub(super) fn follows(tables: &Tables<'_>, manifest: &NewManifest) -> Result<(), CatalogError> {
    let about = || format!("manifest {}", manifest.number);
    let foreign = |id: SegmentId, n: usize| (id.manifest, id.child as usize) != (manifest.number, n);
    if manifest.segments.iter().enumerate().any(|(n, new)| foreign(new.sealed.id, n)) {
        let says = "the segments of a manifest are numbered from 0";
        return Err(broken("children_numbered", says, about(), "they are not".to_owned()));
    }
    let Range { start, end } = manifest.positions;
    let rows = total(manifest.segments.iter().map(|new| new.sealed.rows));
    let expected = end.checked_sub(start).and_then(|events| events.checked_sub(manifest.lost));
    if manifest.from.is_empty() && expected != Some(rows) {
        let what =
            format!("{rows} events for positions {start} to {end}, of which {} were lost", manifest.lost);
        return Err(broken("children_once", CHILDREN_ONCE, about(), what));
    }
    if manifest.from.is_empty() && start != tables.state.sealed_to {
        let what =
            format!("it begins at position {start}, the one before ended at {}", tables.state.sealed_to,);
        return Err(broken("positions_once", POSITIONS_ONCE, about(), what));
    }
    Ok(())
}

const CHILDREN_ONCE: &str = "the events of a manifest are in its segments, live or gone, each exactly once";
const POSITIONS_ONCE: &str = "the manifests of hot segments cover every sealed position exactly once";

/// Segments and rows of each manifest that are live or gone.
#[derive(Default)]
struct Tallies(BTreeMap<u64, Tally>);

#[derive(Clone, Copy, Default, PartialEq)]
struct Tally {
    children: u64,
    rows: u64,
}

impl Tallies {
    fn count(&mut self, id: SegmentId, rows: u64) {
        let tally = self.0.entry(id.manifest).or_default();
        tally.children += 1;
        tally.rows = tally.rows.saturating_add(rows);
    }

    /// Those of one manifest.
    fn of(tables: &Tables<'_>, manifest: u64) -> Result<Self, CatalogError> {
        let (mut tallies, ids) = (Self::default(), (manifest, 0)..=(manifest, u32::MAX));
        for row in tables.segments.range(ids.clone())? {
            let (key, row) = row?;
            let entry: Entry = decode("segments", &key.value(), row.value())?;
            tallies.count(entry.segment.id, entry.segment.rows);
        }
        for row in tables.gone.range(ids)? {
            let (key, row) = row?;
            let gone: Gone = decode("gone", &key.value(), row.value())?;
            tallies.count(gone.id, gone.rows);
        }
        Ok(tallies)
    }
}

fn children_once(
    tables: &Tables<'_>,
    manifests: &BTreeMap<u64, ManifestRow>,
    tallies: &Tallies,
) -> Result<(), CatalogError> {
    for (number, row) in manifests {
        let tally = Tally { children: u64::from(row.children), rows: row.rows };
        let found = tallies.0.get(number).copied().unwrap_or_default();
        let hot = row.positions.end.saturating_sub(row.positions.start);
        let mut events = if row.from.is_empty() { hot.saturating_sub(row.lost) } else { 0 };
        for &replaced in &row.from {
            events = tables.gone(replaced)?.map_or(events, |gone| events.saturating_add(gone.rows));
        }
        if found != tally || events != row.rows {
            let what = format!(
                "{} events in {} segments, where it brought {} in {} out of {events}",
                found.rows, found.children, row.rows, row.children,
            );
            return Err(broken("children_once", CHILDREN_ONCE, format!("manifest {number}"), what));
        }
    }
    if let Some(stray) = tallies.0.keys().find(|number| !manifests.contains_key(number)) {
        let what = "it is not known, but segments name it".to_owned();
        return Err(broken("children_once", CHILDREN_ONCE, format!("manifest {stray}"), what));
    }
    Ok(())
}

fn positions_once(tables: &Tables<'_>, manifests: &BTreeMap<u64, ManifestRow>) -> Result<(), CatalogError> {
    let mut next = 0;
    for (number, row) in manifests.iter().filter(|(_, row)| row.from.is_empty()) {
        if row.positions.start != next {
            let what =
                format!("it begins at position {}, the one before ends at {next}", row.positions.start);
            return Err(broken("positions_once", POSITIONS_ONCE, format!("manifest {number}"), what));
        }
        next = row.positions.end;
    }
    if next == tables.state.sealed_to {
        return Ok(());
    }
    let what = format!("they end at {next}, the state says {}", tables.state.sealed_to);
    Err(broken("positions_once", POSITIONS_ONCE, "the table of manifests".to_owned(), what))
}

fn history_dense(tables: &Tables<'_>) -> Result<(), CatalogError> {
    let (len, next) = (tables.history.len()?, tables.next_decision()?);
    if len == next && tables.state.mirrored <= next {
        return Ok(());
    }
    let says = "the history has every decision from 0 on";
    let what = format!("{len} decisions, the last is {next}-1, {} are mirrored", tables.state.mirrored);
    Err(broken("history_dense", says, "the history".to_owned(), what))
}
