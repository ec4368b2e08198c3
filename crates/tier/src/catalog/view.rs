//! Reading a catalog: one consistent state of it, beside whoever writes.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use redb::{ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::decision::{Decision, What};
use super::error::CatalogError;
use super::rows::{
    CONTENTS, DROPPED, Deletions, End, Entry, GONE, Gone, HISTORY, HISTORY_OF, HOLDS, Id, MANIFESTS,
    ManifestRow, POLICIES, SEGMENTS, STATE, STATE_KEY, State, UPLOADS, decode, get, id, key,
};
use crate::hold::Hold;
use crate::instant;
use crate::policy::PolicySet;
use crate::segment::{Content, Segment, SegmentId};
use crate::store::Parts;

/// The catalog as it was at one moment.
pub struct View {
    pub(super) txn: ReadTransaction,
    state: State,
    segments: ReadOnlyTable<Id, &'static [u8]>,
    gone: ReadOnlyTable<Id, &'static [u8]>,
    pub(super) history: ReadOnlyTable<u64, &'static [u8]>,
}

/// Policies that were applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Their version; dense, from 1.
    pub version: u64,
    /// Their text.
    pub text: String,
    /// When, by whom and why they were applied.
    pub decision: Decision,
}

/// An upload in parts that was begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The segment.
    pub segment: SegmentId,
    /// The store it goes to.
    pub store: String,
    /// How far it is.
    pub parts: Parts,
}

impl View {
    pub(super) fn new(db: &impl ReadableDatabase) -> Result<Self, CatalogError> {
        let txn = db.begin_read()?;
        let state = get(&txn.open_table(STATE)?, "state", STATE_KEY)?.ok_or_else(|| CatalogError::Row {
            table: "state",
            key: STATE_KEY.to_owned(),
            what: "it is not there".to_owned(),
        })?;
        let (segments, gone) = (txn.open_table(SEGMENTS)?, txn.open_table(GONE)?);
        Ok(Self { state, segments, gone, history: txn.open_table(HISTORY)?, txn })
    }

    /// Every live segment, by name.
    ///
    /// # Errors
    /// When the database cannot be read; each row may fail on its own.
    pub fn segments(&self) -> Result<impl Iterator<Item = Result<Entry, CatalogError>> + '_, CatalogError> {
        self.segments_behind(None)
    }

    /// Every live segment behind this one, by name.
    ///
    /// # Errors
    /// As [`View::segments`].
    pub fn segments_behind(
        &self,
        segment: Option<SegmentId>,
    ) -> Result<impl Iterator<Item = Result<Entry, CatalogError>> + '_, CatalogError> {
        let from = segment.map_or(Bound::Unbounded, |segment| Bound::Excluded(key(segment)));
        Ok(self.segments.range((from, Bound::Unbounded))?.map(|row| {
            let (key, row) = row?;
            decode("segments", &key.value(), row.value())
        }))
    }

    /// Every live segment with what is in it, by name: in one go through both tables.
    ///
    /// # Errors
    /// As [`View::segments`].
    pub fn segments_with_contents(
        &self,
    ) -> Result<impl Iterator<Item = Result<(Entry, Vec<Content>), CatalogError>> + '_, CatalogError> {
        let mut contents = self.txn.open_table(CONTENTS)?.range::<Id>(..)?.peekable();
        let mut contents_of = move |wanted: Id| {
            // What is gone has contents, too: they are passed over.
            while let Some(row) =
                contents.next_if(|row| !row.as_ref().is_ok_and(|(key, _)| key.value() > wanted))
            {
                let (key, row) = row?;
                if key.value() == wanted {
                    return decode("contents", &wanted, row.value());
                }
            }
            Ok(Vec::new())
        };
        Ok(self.segments()?.map(move |entry| {
            let entry = entry?;
            let contents = contents_of(key(entry.segment.id))?;
            Ok((entry, contents))
        }))
    }

    /// How many segments are live.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn count(&self) -> Result<u64, CatalogError> {
        Ok(self.segments.len()?)
    }

    /// The live segment of this name.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn segment(&self, segment: SegmentId) -> Result<Option<Entry>, CatalogError> {
        get(&self.segments, "segments", key(segment))
    }

    /// What is in a segment, live or gone; empty where there never was one of this name.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn contents(&self, segment: SegmentId) -> Result<Vec<Content>, CatalogError> {
        Ok(get(&self.txn.open_table(CONTENTS)?, "contents", key(segment))?.unwrap_or_default())
    }

    /// Every segment that is not live any more, by name.
    ///
    /// # Errors
    /// As [`View::segments`].
    pub fn gone(&self) -> Result<impl Iterator<Item = Result<Gone, CatalogError>> + '_, CatalogError> {
        Ok(self.gone.iter()?.map(|row| {
            let (key, row) = row?;
            decode("gone", &key.value(), row.value())
        }))
    }

    /// What remains of the segment of this name, if it is gone.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn tombstone(&self, segment: SegmentId) -> Result<Option<Gone>, CatalogError> {
        get(&self.gone, "gone", key(segment))
    }

    /// The number of the manifest that is to be registered next.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn next_manifest(&self) -> Result<u64, CatalogError> {
        let manifests = self.txn.open_table(MANIFESTS)?;
        Ok(manifests.last()?.map_or(0, |(number, _)| number.value() + 1))
    }

    /// Segments that are gone and of which bytes may be left, and may go: those that were deleted, and those that were split
    /// when every segment that came of them has a verified copy, or is gone itself.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn garbage(&self) -> Result<Vec<Gone>, CatalogError> {
        let mut garbage = Vec::new();
        for gone in self.gone()? {
            let gone = gone?;
            let left = gone.local || !gone.copies.is_empty();
            if left && self.is_replaced(&gone)? {
                garbage.push(gone);
            }
        }
        Ok(garbage)
    }

    fn is_replaced(&self, gone: &Gone) -> Result<bool, CatalogError> {
        let End::Split { into } = gone.end else { return Ok(true) };
        for row in self.segments.range((into, 0)..=(into, u32::MAX))? {
            let (key, row) = row?;
            let entry: Entry = decode("segments", &key.value(), row.value())?;
            if entry.segment.copies.is_empty() && !gone.copies.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Copies that were dropped and whose objects may be left, and may go: the segment, live or gone, and the store.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn dropped_copies(&self) -> Result<Vec<(SegmentId, String)>, CatalogError> {
        let dropped = self.txn.open_table(DROPPED)?;
        let rows = dropped.iter()?;
        rows.map(|row| {
            let (key, _) = row?;
            let (manifest, child, store) = key.value();
            Ok((id((manifest, child)), store.to_owned()))
        })
        .collect()
    }

    /// Decisions with numbers in a range, in order.
    ///
    /// # Errors
    /// As [`View::segments`].
    pub fn history(
        &self,
        numbers: impl RangeBounds<u64>,
    ) -> Result<impl Iterator<Item = Result<Decision, CatalogError>> + '_, CatalogError> {
        Ok(self.history.range(numbers)?.map(|row| {
            let (number, row) = row?;
            decode("history", &number.value(), row.value())
        }))
    }

    /// Every decision about a segment, in order; also those that wait for the journal, or never took effect.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn history_of(&self, segment: SegmentId) -> Result<Vec<Decision>, CatalogError> {
        let (manifest, child) = key(segment);
        let index = self.txn.open_table(HISTORY_OF)?;
        let mut decisions = Vec::new();
        for row in index.range((manifest, child, 0)..=(manifest, child, u64::MAX))? {
            let number = row?.0.value().2;
            decisions.extend(get::<_, Decision>(&self.history, "history", number)?);
        }
        Ok(decisions)
    }

    /// Why a segment is where it is, in words.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] when there never was one of this name; or when the database cannot be read.
    pub fn explain(&self, segment: SegmentId) -> Result<Explanation, CatalogError> {
        let gone = self.tombstone(segment)?;
        let standing = match (self.segment(segment)?, &gone) {
            (Some(entry), _) => {
                live_in_words(&entry) + &self.wait_in_words(&entry)? + self.waits_for_rollups(&entry)?
            }
            (None, Some(gone)) => gone_in_words(gone),
            (None, None) => return Err(CatalogError::Unknown { segment, gone: false }),
        };
        let waiting = self.state.pending.clone();
        let decisions = self.history_of(segment)?.into_iter();
        let (pending, decisions) = decisions.partition(|decision| waiting.contains(&decision.number));
        Ok(Explanation { segment, standing, decisions, pending })
    }

    /// What the deletion of a segment waits for beside its time, in words.
    fn wait_in_words(&self, entry: &Entry) -> Result<String, CatalogError> {
        let (segment, kept) = (&entry.segment, self.snapshots()?);
        let end = segment.positions.end;
        let waits = segment.deletion.is_some() && kept.iter().all(|kept| kept.position < end);
        let words = || format!("; its deletion waits for a snapshot up to position {end} or beyond");
        Ok(if waits { words() } else { String::new() })
    }

    /// What is to be said of a segment that its policies want rolled up, and that is not yet.
    fn waits_for_rollups(&self, entry: &Entry) -> Result<&'static str, CatalogError> {
        let Segment { positions, shares, .. } = &entry.segment;
        let text = self.policies()?.map(|applied| applied.text).unwrap_or_default();
        let policies = PolicySet::parse("the policies that apply", &text).ok();
        let wanted = shares.iter().any(|share| {
            let policy = policies.as_ref().and_then(|policies| policies.get(&share.policy));
            policy.is_some_and(|policy| !policy.rollup.is_empty())
        });
        let is_done = self.rolled_up()?.is_some_and(|rolled_up| positions.end <= rolled_up.position);
        Ok(if wanted && !is_done { "; to be rolled up, and not deleted before it is" } else { "" })
    }

    /// The holds that stand, by number.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn holds(&self) -> Result<Vec<Hold>, CatalogError> {
        let holds = self.txn.open_table(HOLDS)?;
        let rows = holds.iter()?;
        rows.map(|row| {
            let (number, row) = row?;
            decode("holds", &number.value(), row.value())
        })
        .collect()
    }

    /// The policies that apply; `None` before any were applied.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn policies(&self) -> Result<Option<Applied>, CatalogError> {
        let versions = self.txn.open_table(POLICIES)?;
        let Some(number) = versions.last()?.map(|(_, number)| number.value()) else { return Ok(None) };
        let decision: Option<Decision> = get(&self.history, "history", number)?;
        Ok(decision.and_then(applied))
    }

    /// All policies that ever applied, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn all_policies(&self) -> Result<Vec<Applied>, CatalogError> {
        let versions = self.txn.open_table(POLICIES)?;
        let mut all = Vec::new();
        for row in versions.iter()? {
            let number = row?.1.value();
            all.extend(get(&self.history, "history", number)?.and_then(applied));
        }
        Ok(all)
    }

    /// Uploads that were begun and not ended.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn uploads(&self) -> Result<Vec<Upload>, CatalogError> {
        let uploads = self.txn.open_table(UPLOADS)?;
        let rows = uploads.iter()?;
        rows.map(|row| {
            let (key, row) = row?;
            let (manifest, child, store) = key.value();
            let parts = decode("uploads", &key.value(), row.value())?;
            Ok(Upload { segment: id((manifest, child)), store: store.to_owned(), parts })
        })
        .collect()
    }

    /// Whether anything may be deleted.
    #[must_use]
    pub fn deletions(&self) -> &Deletions {
        &self.state.deletions
    }

    /// The version of the policies that apply; 0 before any did.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn policy_version(&self) -> Result<u64, CatalogError> {
        Ok(self.txn.open_table(POLICIES)?.last()?.map_or(0, |(version, _)| version.value()))
    }

    /// When the last decision was made, in nanoseconds since the Unix epoch; `None` before the first one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn last_decided(&self) -> Result<Option<i64>, CatalogError> {
        let Some((number, row)) = self.history.last()? else { return Ok(None) };
        let decision: Decision = decode("history", &number.value(), row.value())?;
        Ok(Some(decision.time))
    }

    /// The first position that no manifest covers yet.
    #[must_use]
    pub fn sealed_to(&self) -> u64 {
        self.state.sealed_to
    }

    /// Reads every row.
    pub(super) fn read_all(&self) -> Result<(), CatalogError> {
        for entry in self.segments()? {
            self.contents(entry?.segment.id)?;
        }
        for gone in self.gone()? {
            self.contents(gone?.id)?;
        }
        for decision in self.history(..)? {
            decision?;
        }
        self.holds()?;
        self.all_policies()?;
        self.dropped_copies()?;
        self.uploads()?;
        self.snapshots()?;
        self.outgoing()?;
        let manifests = self.txn.open_table(MANIFESTS)?;
        for row in manifests.iter()? {
            let (number, row) = row?;
            decode::<ManifestRow>("manifests", &number.value(), row.value())?;
        }
        Ok(())
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Decisions that are not in the journal yet.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn unmirrored(&self) -> Result<u64, CatalogError> {
        Ok(self.history.len()?.saturating_sub(self.state.mirrored))
    }
}

fn applied(decision: Decision) -> Option<Applied> {
    let What::PoliciesApplied { version, text } = &decision.what else { return None };
    Some(Applied { version: *version, text: text.clone(), decision })
}

/// Why a segment is where it is: `Display` writes what is so, and then the decisions that led there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The segment.
    pub segment: SegmentId,
    /// Where it is and what is to become of it, in words.
    pub standing: String,
    /// The decisions, in order; where one never took effect, a later one says so.
    pub decisions: Vec<Decision>,
    /// Decisions that wait for the bucket before they take effect.
    pub pending: Vec<Decision>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.segment, self.standing)?;
        self.decisions.iter().try_for_each(|decision| writeln!(f, "  {decision}"))?;
        let waits = "is to be in the journal first, and is not known to be there";
        self.pending.iter().try_for_each(|decision| writeln!(f, "  {decision}; {waits}"))
    }
}

fn live_in_words(entry: &Entry) -> String {
    let Segment { local, copies, deletion, rows, bytes, .. } = &entry.segment;
    let stores: Vec<_> = copies
        .iter()
        .map(|copy| match &copy.class {
            Some(class) => format!("`{}` ({class})", copy.store),
            None => format!("`{}`", copy.store),
        })
        .collect();
    let mut words = match (*local, stores.is_empty()) {
        _ if entry.missing => "is missing: neither a local file nor a verified copy".to_owned(),
        (true, true) => "is local only".to_owned(),
        (true, false) => format!("is local, and copied to {}", stores.join(", ")),
        (false, _) => format!("is in object storage only: {}", stores.join(", ")),
    };
    words += &format!("; {rows} events, {bytes} bytes");
    if let Some(deletion) = deletion {
        let due = instant::text(deletion.due);
        words += &format!("; to be deleted from {due} on by `{}`", deletion.policy);
    }
    if !entry.holds.is_empty() {
        let holds: Vec<_> = entry.holds.iter().map(u64::to_string).collect();
        words += &format!("; held by {}", holds.join(", "));
    }
    words
}

fn gone_in_words(gone: &Gone) -> String {
    let time = instant::text(gone.time);
    match &gone.end {
        End::Deleted { mark: Some(mark), .. } => format!("was deleted on {time} by `{}`", mark.policy),
        End::Deleted { mark: None, .. } => format!("was deleted on {time}"),
        End::Split { into } => format!("was split on {time}; its events are in the segments {into:012}-…"),
        End::Lost => "was lost together with its manifest, before either was in object storage".to_owned(),
    }
}
