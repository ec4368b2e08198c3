//! What a decision does to the tables: the fold of the history, for a catalog at work and for one that is rebuilt.

use std::ops::RangeInclusive;

use redb::ReadableTable;

use super::arrival::{NewManifest, Sharing, total};
use super::decision::{Decision, Sealed, What};
use super::error::CatalogError;
use super::rows::{Deletions, End, Entry, Gone, ManifestRow, OUTGOING_KEY, Tables, decode, encode, id, key};
use crate::segment::{Copy, Deletion, Segment, SegmentId};

/// What a decision needs that the history does not say.
#[derive(Clone, Copy, Default)]
pub(super) struct Beside<'b> {
    /// The manifest of a [`What::Registered`]; without it the segments are lost.
    pub(super) manifest: Option<&'b NewManifest>,
    /// Where shares have to be computed.
    pub(super) sharing: Option<&'b Sharing<'b>>,
}

/// What a decision touched: the invariants of these are checked.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) segments: Vec<SegmentId>,
    pub(super) manifest: Option<u64>,
}

/// Does what `decision` says. The caller checks the invariants afterwards, and commits only if they hold.
pub(super) fn apply(
    tables: &mut Tables<'_>,
    decision: &Decision,
    beside: Beside<'_>,
) -> Result<Touched, CatalogError> {
    let mut touched = Touched { segments: decision.what.segments(), manifest: None };
    match &decision.what {
        What::Registered { manifest, .. } => {
            register(tables, decision, beside)?;
            touched.manifest = Some(*manifest);
        }
        What::PoliciesApplied { version, .. } => {
            tables.policies.insert(version, decision.number)?;
            if let Some(sharing) = beside.sharing {
                touched.segments = reshare(tables, sharing)?;
            }
        }
        What::HoldAdded { hold } => {
            tables.holds.insert(hold.number, &*encode(hold))?;
            tables.state.next_hold = hold.number.saturating_add(1);
            touched.segments = revise(tables, |tables, entry| {
                let contents = tables.contents_of(entry.segment.id)?;
                let covered = hold.scope.covers(entry.segment.events, &contents);
                if covered {
                    entry.holds.push(hold.number);
                }
                Ok(covered)
            })?;
        }
        What::HoldRemoved { number } => {
            if tables.holds.remove(number)?.is_none() {
                return Err(CatalogError::NoHold { number: *number });
            }
            touched.segments = revise(tables, |_, entry| {
                let held = entry.holds.len();
                entry.holds.retain(|hold| hold != number);
                Ok(entry.holds.len() < held)
            })?;
        }
        What::TermTaken { term } => tables.state.term = Some(*term),
        What::DeletionsOff => tables.state.deletions = Deletions::Off { reason: decision.reason.clone() },
        What::DeletionsOn => tables.state.deletions = Deletions::On,
        What::Deleted { segment } => delete(tables, decision, *segment)?,
        What::Cleared { segment, store } => clear(tables, *segment, store.as_deref())?,
        What::Copied { segment, .. }
        | What::CopyLost { segment, .. }
        | What::CopyDropped { segment, .. }
        | What::LocalDropped { segment }
        | What::LocalLost { segment }
        | What::LocalFound { segment }
        | What::Marked { segment, .. }
        | What::Unmarked { segment } => move_segment(tables, decision, *segment)?,
        What::Identity { line } => tables.note_identity(line)?,
        What::SnapshotKept { snapshot } => {
            tables.snapshots.insert(snapshot.block, &*encode(snapshot))?;
            tables.outgoing.remove(OUTGOING_KEY)?;
        }
        What::SnapshotDropped { block } | What::SnapshotLost { block } => {
            if tables.snapshots.remove(block)?.is_none() {
                let what = "it is not kept".to_owned();
                return Err(CatalogError::Refused { about: format!("snapshot {block}"), what });
            }
        }
        What::RolledUp(rolled_up) => tables.put_rolled_up(Some(*rolled_up))?,
        What::RollupsEnded => tables.put_rolled_up(None)?,
        What::Void { .. } | What::Unreadable => {}
    }
    Ok(touched)
}

/// A segment changes in place: where its bytes are, or whether it is to be deleted.
fn move_segment(
    tables: &mut Tables<'_>,
    decision: &Decision,
    segment: SegmentId,
) -> Result<(), CatalogError> {
    let mut entry = tables.live(segment)?;
    let Segment { local, copies, deletion, .. } = &mut entry.segment;
    let refused = |what: &str| {
        Err(CatalogError::Refused { about: format!("segment {segment}"), what: what.to_owned() })
    };
    match &decision.what {
        What::Copied { store, class, .. } => {
            copies.retain(|copy| copy.store != *store);
            copies.push(Copy { store: store.clone(), class: class.clone(), verified: decision.time });
            entry.missing = false;
            tables.dropped.remove((segment.manifest, segment.child, &**store))?;
        }
        What::CopyLost { store, .. } => {
            copies.retain(|copy| copy.store != *store);
            entry.missing = !*local && copies.is_empty();
        }
        What::CopyDropped { store, .. } => {
            let before = copies.len();
            copies.retain(|copy| copy.store != *store);
            if copies.len() == before {
                return refused(&format!("it has no copy in `{store}`"));
            }
            tables.dropped.insert((segment.manifest, segment.child, &**store), ())?;
        }
        What::LocalDropped { .. } => *local = false,
        What::LocalLost { .. } => {
            *local = false;
            entry.missing = copies.is_empty();
        }
        What::LocalFound { .. } => {
            *local = true;
            entry.missing = false;
        }
        What::Marked { due, .. } => {
            deletions_are_on(tables)?;
            if deletion.is_some() {
                return refused("it is already marked for deletion");
            }
            let policy = decision.policy.clone().unwrap_or_else(|| decision.by.clone());
            *deletion = Some(Deletion { marked: decision.time, due: *due, policy });
        }
        What::Unmarked { .. } => {
            if deletion.take().is_none() {
                return refused("it is not marked for deletion, so there is nothing to undo");
            }
        }
        what => unreachable!("`{what}` does not change a segment in place"),
    }
    tables.put_entry(&entry)
}

fn deletions_are_on(tables: &Tables<'_>) -> Result<(), CatalogError> {
    match &tables.state.deletions {
        Deletions::On => Ok(()),
        Deletions::Off { reason } => Err(CatalogError::DeletionsOff { reason: reason.clone() }),
    }
}

fn register(tables: &mut Tables<'_>, decision: &Decision, beside: Beside<'_>) -> Result<(), CatalogError> {
    let What::Registered { manifest, from, positions, segments } = &decision.what else {
        unreachable!("only what registers comes here")
    };
    if beside.manifest.is_none() && !from.is_empty() {
        // Nobody has the manifest, so the split never came to anything: what it would have replaced still stands.
        return Ok(());
    }
    let replaced = from.iter().map(|&segment| tables.live(segment)).collect::<Result<Vec<_>, _>>()?;
    let rows = total(segments.iter().map(|sealed| sealed.rows));
    let row = ManifestRow {
        positions: positions.clone(),
        from: from.clone(),
        children: u32::try_from(segments.len()).expect("children are numbered in 32 bits"),
        rows,
        lost: if from.is_empty() {
            positions.end.saturating_sub(positions.start).saturating_sub(rows)
        } else {
            0
        },
    };
    tables.manifests.insert(manifest, &*encode(&row))?;
    for entry in replaced {
        end(tables, decision.time, entry, End::Split { into: *manifest })?;
    }
    if from.is_empty() {
        tables.state.sealed_to = tables.state.sealed_to.max(positions.end);
    }
    match beside {
        Beside { manifest: Some(manifest), sharing: Some(sharing) } => bring(tables, manifest, sharing),
        _ => segments.iter().try_for_each(|sealed| tables.put_gone(&lost(decision.time, sealed))),
    }
}

fn bring(tables: &mut Tables<'_>, manifest: &NewManifest, sharing: &Sharing<'_>) -> Result<(), CatalogError> {
    let holds = tables.all_holds()?;
    for new in &manifest.segments {
        let covering = holds.iter().filter(|hold| hold.scope.covers(new.sealed.events, &new.contents));
        let holds = covering.map(|hold| hold.number).collect();
        tables.contents.insert(key(new.sealed.id), &*encode(&new.contents))?;
        tables.put_entry(&Entry { segment: new.segment(sharing), holds, missing: false })?;
    }
    Ok(())
}

fn lost(time: i64, sealed: &Sealed) -> Gone {
    let Sealed { id, bytes, rows, root, positions, received, events } = sealed.clone();
    let (local, copies, end) = (false, Vec::new(), End::Lost);
    Gone { id, bytes, rows, root, positions, received, events, end, time, local, copies }
}

fn delete(tables: &mut Tables<'_>, decision: &Decision, segment: SegmentId) -> Result<(), CatalogError> {
    deletions_are_on(tables)?;
    let entry = tables.live(segment)?;
    let how = End::Deleted { mark: entry.segment.deletion.clone(), holds: entry.holds.clone() };
    end(tables, decision.time, entry, how)
}

/// A live segment becomes one that is gone. Its contents stay known.
fn end(tables: &mut Tables<'_>, time: i64, entry: Entry, end: End) -> Result<(), CatalogError> {
    let Segment { id, bytes, rows, root, positions, received, events, local, copies, .. } = entry.segment;
    tables.segments.remove(key(id))?;
    tables.put_gone(&Gone { id, bytes, rows, root, positions, received, events, end, time, local, copies })
}

fn clear(tables: &mut Tables<'_>, segment: SegmentId, store: Option<&str>) -> Result<(), CatalogError> {
    let was_dropped = match store {
        Some(store) => tables.dropped.remove((segment.manifest, segment.child, store))?.is_some(),
        None => false,
    };
    let Some(mut gone) = tables.gone(segment)? else {
        let what = "it is live, and its bytes there have to stay".to_owned();
        let refused = CatalogError::Refused { about: format!("segment {segment}"), what };
        return if was_dropped { Ok(()) } else { Err(refused) };
    };
    match store {
        Some(store) => gone.copies.retain(|copy| copy.store != store),
        None => gone.local = false,
    }
    tables.put_gone(&gone)
}

/// Computes anew which part of each segment belongs to which policy; returns the segments where that changed.
pub(super) fn reshare(
    tables: &mut Tables<'_>,
    sharing: &Sharing<'_>,
) -> Result<Vec<SegmentId>, CatalogError> {
    revise(tables, |tables, entry| {
        let contents = tables.contents_of(entry.segment.id)?;
        let shares = sharing(entry.segment.bytes, &contents);
        let changed = shares != entry.segment.shares;
        entry.segment.shares = shares;
        Ok(changed)
    })
}

/// Segments that are looked at before those among them that changed are written: bounds what a revision keeps in memory.
const REVISED_AT_ONCE: usize = 4096;

/// Shows every live segment to `change`, and stores it where that says that it changed it; returns those.
fn revise(
    tables: &mut Tables<'_>,
    change: impl Fn(&Tables<'_>, &mut Entry) -> Result<bool, CatalogError>,
) -> Result<Vec<SegmentId>, CatalogError> {
    let mut revised = Vec::new();
    let mut next = Some((0, 0));
    while let Some(from) = next.take() {
        let mut changed = Vec::new();
        let behind: RangeInclusive<_> = from..=(u64::MAX, u32::MAX);
        for row in tables.segments.range(behind)?.take(REVISED_AT_ONCE) {
            let (key, row) = row?;
            let key = key.value();
            let mut entry: Entry = decode("segments", &key, row.value())?;
            if change(tables, &mut entry)? {
                changed.push(entry);
            }
            next =
                key.1.checked_add(1).map(|child| (key.0, child)).or_else(|| Some((key.0.checked_add(1)?, 0)));
        }
        for entry in changed {
            revised.push(id(key(entry.segment.id)));
            tables.put_entry(&entry)?;
        }
    }
    Ok(revised)
}
