//! A catalog made anew from what is left: manifests, local files, the journal, and a listing of the stores.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use redb::ReadableTable;

use super::arrival::{NewManifest, Sharing};
use super::decision::{Decision, What, Why};
use super::effect::{Beside, apply, reshare};
use super::error::CatalogError;
use super::rows::{Entry, Gone, ManifestRow, Tables, decode, get, id};
use super::{Catalog, carry_out, file, next, registered};
use crate::journal::{self, Bucket, Reading, Term};
use crate::mutants::{Mutant, planted};
use crate::segment::{Content, SegmentId};
use crate::snapshot::KeptSnapshot;

/// A rebuild that has read the journal and can say what was in it.
pub struct Rebuild {
    fresh: [u8; 16],
    bucket: Option<Arc<dyn Bucket>>,
    term: Option<Term>,
    reading: Reading,
    why: Why,
}

/// What is there to rebuild a catalog from, beside the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The manifests, by number.
    pub manifests: BTreeMap<u64, NewManifest>,
    /// The segments whose files are in the data directory.
    pub local: BTreeSet<SegmentId>,
    /// What is wrong with files in the data directory that are not among these.
    pub damaged: BTreeMap<SegmentId, String>,
    /// The objects in each store that was listed, with their bytes. Of a store that was not, what the journal says is believed.
    pub stores: BTreeMap<String, BTreeMap<SegmentId, u64>>,
    /// The snapshots in each store that was listed, by their blocks, with their bytes. Of a store that was not, what the journal says is
    /// believed.
    pub snapshots: BTreeMap<String, BTreeMap<u64, u64>>,
    /// The snapshots that are kept in the data directory.
    pub kept_here: Vec<KeptSnapshot>,
}

/// What came of a rebuild.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// What is wrong with the journal; if anything is, deletions are off until an operator confirms them.
    pub faults: Vec<String>,
    /// Decisions of the journal that could not be carried out, with the reason: they are about what a fault took away.
    pub skipped: Vec<(u64, String)>,
    /// Segments that are neither in the data directory nor, verified, in a store.
    pub missing: Vec<SegmentId>,
    /// Objects that the journal does not know: to be verified before they count as copies, or cleared away.
    pub unverified: Vec<(SegmentId, String)>,
}

impl Rebuild {
    /// Takes the bucket over, so that no machine that had it before writes to it any more, and reads its journal. `fresh` is random
    /// and marks the new catalog. Without a bucket, only what is local can be rebuilt.
    ///
    /// # Errors
    /// When the bucket does not answer. Damage to the journal is not an error: it keeps deletions off.
    pub fn begin(bucket: Option<Arc<dyn Bucket>>, fresh: [u8; 16], why: Why) -> Result<Self, CatalogError> {
        let (term, reading) = match bucket.as_deref() {
            // The term comes first: what the machine before wrote until then is read, what it writes later does not count.
            Some(bucket) => {
                let term = Term::take_over(bucket, fresh, &why.by, why.time)?;
                (Some(term), journal::read(bucket, term.number)?)
            }
            None => {
                let faults = vec!["there is no bucket whose journal could be read".to_owned()];
                (None, Reading { faults, ..Reading::default() })
            }
        };
        Ok(Self { fresh, bucket, term, reading, why })
    }

    fn decisions(&self) -> impl DoubleEndedIterator<Item = &Decision> {
        self.reading.decisions.iter().flatten()
    }

    /// The policies that applied last.
    #[must_use]
    pub fn policies(&self) -> Option<&str> {
        self.decisions().rev().find_map(|decision| match &decision.what {
            What::PoliciesApplied { text, .. } => Some(&**text),
            _ => None,
        })
    }

    /// The lines of `registry.jsonl` that were mirrored, oldest first.
    pub fn identities(&self) -> impl Iterator<Item = &str> {
        self.decisions().filter_map(|decision| match &decision.what {
            What::Identity { line } => Some(&**line),
            _ => None,
        })
    }

    /// The segments that were deleted by policy.
    #[must_use]
    pub fn deleted(&self) -> BTreeSet<SegmentId> {
        let voids = self.voids();
        let effective = self.decisions().filter(|decision| !voids.contains(&decision.number));
        let deleted = effective.filter_map(|decision| match decision.what {
            What::Deleted { segment } => Some(segment),
            _ => None,
        });
        deleted.collect()
    }

    /// The decisions that never took effect.
    fn voids(&self) -> BTreeSet<u64> {
        let voids = self.decisions().filter_map(|decision| match decision.what {
            What::Void { decision, .. } => Some(decision),
            _ => None,
        });
        voids.collect()
    }

    /// What is wrong with the journal; empty when it was read whole.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.reading.faults
    }

    /// Writes the catalog of the data directory `data`, in place of the one that is there, which is kept as
    /// `catalog.old.redb`. `sharing` tells the policy of an event by the policies of [`Rebuild::policies`].
    ///
    /// # Errors
    /// When a manifest is missing without which positions are not covered, or the disk refuses; then nothing was changed.
    pub fn build(
        self,
        data: &Path,
        found: &Found,
        sharing: &Sharing<'_>,
    ) -> Result<(Catalog, Rebuilt), CatalogError> {
        let path = file(data);
        let unfinished = path.with_extension("redb.tmp");
        let io = |what, file: &Path| {
            let file = file.to_owned();
            move |source| CatalogError::Io { what, file, source }
        };
        if unfinished.exists() {
            fs::remove_file(&unfinished).map_err(io("remove", &unfinished))?;
        }
        let catalog = Catalog::unchecked(&unfinished, self.fresh, None)?;
        let rebuilt = catalog.transact(|tables| {
            let rebuilt = self.fold(tables, found, sharing)?;
            super::invariants::check_all(tables)?;
            Ok(rebuilt)
        })?;
        drop(catalog);
        if path.exists() {
            fs::rename(&path, data.join("catalog.old.redb")).map_err(io("rename", &path))?;
        }
        fs::rename(&unfinished, &path).map_err(io("rename", &unfinished))?;
        File::open(data).and_then(|data| data.sync_all()).map_err(io("sync", data))?;
        Ok((Catalog::open(data, self.fresh, self.bucket)?, rebuilt))
    }

    /// Folds the journal, then takes in what it does not know.
    fn fold(
        &self,
        tables: &mut Tables<'_>,
        found: &Found,
        sharing: &Sharing<'_>,
    ) -> Result<Rebuilt, CatalogError> {
        let mut rebuilt = Rebuilt { faults: self.reading.faults.clone(), ..Rebuilt::default() };
        self.replay(tables, found, &mut rebuilt)?;
        tables.state.mirrored = tables.next_decision()?;
        tables.state.head = self.reading.head;
        for manifest in found.manifests.values() {
            let known: Option<ManifestRow> = get(&tables.manifests, "manifests", manifest.number)?;
            if known.is_none() {
                let beside = Beside { manifest: Some(manifest), sharing: Some(sharing) };
                self.add(
                    tables,
                    registered(manifest),
                    "found by a rebuild; the journal does not have it",
                    beside,
                )?;
            }
        }
        reshare(tables, sharing)?;
        self.compare_live(tables, found, &mut rebuilt)?;
        self.compare_gone(tables, found)?;
        self.compare_snapshots(tables, found)?;
        if let Some(term) = self.term {
            let what = What::TermTaken { term: term.number };
            self.add(tables, what, &self.why.reason, Beside::default())?;
        }
        if let Some(fault) = rebuilt.faults.first() {
            let reason = format!("the catalog was rebuilt, and the journal was not read whole: {fault}");
            self.add(tables, What::DeletionsOff, &reason, Beside::default())?;
        }
        Ok(rebuilt)
    }

    /// Carries out what the journal says once more.
    fn replay(
        &self,
        tables: &mut Tables<'_>,
        found: &Found,
        rebuilt: &mut Rebuilt,
    ) -> Result<(), CatalogError> {
        let voids = self.voids();
        // Shares are computed at the end, by the policies that apply then.
        let nobody = |_: u64, _: &[Content]| Vec::new();
        for decision in &self.reading.decisions {
            let Some(decision) = decision else {
                let reason = "the journal has no readable line for it";
                let unreadable = self.decision(tables, What::Unreadable, reason)?;
                tables.append(&unreadable)?;
                continue;
            };
            tables.append(decision)?;
            let ignored =
                matches!(decision.what, What::HoldAdded { .. }) && planted(Mutant::RebuildIgnoresHolds);
            if voids.contains(&decision.number) || ignored {
                continue;
            }
            let manifest = match &decision.what {
                What::Registered { manifest, .. } => found.manifests.get(manifest),
                _ => None,
            };
            if manifest.is_some_and(|manifest| registered(manifest) != decision.what) {
                let fault =
                    format!("decision {}: the manifest that it registered was another one", decision.number);
                rebuilt.faults.push(fault);
            }
            match apply(tables, decision, Beside { manifest, sharing: manifest.map(|_| &nobody as _) }) {
                Ok(_) => {}
                Err(error) if error.is_refusal() => {
                    rebuilt.skipped.push((decision.number, error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn decision(&self, tables: &Tables<'_>, what: What, reason: &str) -> Result<Decision, CatalogError> {
        next(tables, &Why { reason: reason.to_owned(), ..self.why.clone() }, what)
    }

    fn add(
        &self,
        tables: &mut Tables<'_>,
        what: What,
        reason: &str,
        beside: Beside<'_>,
    ) -> Result<(), CatalogError> {
        let decision = self.decision(tables, what, reason)?;
        carry_out(tables, &decision, beside)?;
        tables.append(&decision)
    }

    /// Holds the live segments against what is really there.
    fn compare_live(
        &self,
        tables: &mut Tables<'_>,
        found: &Found,
        rebuilt: &mut Rebuilt,
    ) -> Result<(), CatalogError> {
        let dropped = dropped_copies(tables)?;
        let mut differs = Vec::new();
        for row in tables.segments.iter()? {
            let (key, row) = row?;
            let entry: Entry = decode("segments", &key.value(), row.value())?;
            let segment = entry.segment.id;
            let local = found.local.contains(&segment);
            match (entry.segment.local, local) {
                (true, false) => differs.push(What::LocalLost { segment }),
                (false, true) => differs.push(What::LocalFound { segment }),
                _ => {}
            }
            let mut copies = 0;
            for (store, objects) in &found.stores {
                let there = objects.get(&segment) == Some(&entry.segment.bytes);
                let known = entry.segment.copies.iter().any(|copy| copy.store == *store);
                match (known, there) {
                    (true, false) => differs.push(What::CopyLost { segment, store: store.clone() }),
                    (false, true) if dropped.contains(&(segment, store.clone())) => {}
                    (false, true) => rebuilt.unverified.push((segment, store.clone())),
                    _ => {}
                }
                copies += usize::from(known && !there);
            }
            if !local && entry.segment.copies.len() == copies {
                rebuilt.missing.push(segment);
            }
        }
        // What is there comes first, so that nothing is called missing on the way.
        differs.sort_by_key(|what| !matches!(what, What::LocalFound { .. }));
        differs.into_iter().try_for_each(|what| {
            let damage = match &what {
                What::LocalLost { segment } => found.damaged.get(segment),
                _ => None,
            };
            let reason = damage.map_or("so it was found by a rebuild".to_owned(), |damage| {
                format!("a rebuild found its file damaged: {damage}")
            });
            self.add(tables, what, &reason, Beside::default())
        })
    }

    /// Of what is gone or was dropped, forgets the bytes that are gone as well.
    fn compare_gone(&self, tables: &mut Tables<'_>, found: &Found) -> Result<(), CatalogError> {
        let mut cleared = Vec::new();
        for row in tables.gone.iter()? {
            let (key, row) = row?;
            let gone: Gone = decode("gone", &key.value(), row.value())?;
            let segment = gone.id;
            if gone.local && !found.local.contains(&segment) {
                cleared.push(What::Cleared { segment, store: None });
            }
            let absent = |store: &String| {
                found.stores.get(store).is_some_and(|objects| !objects.contains_key(&segment))
            };
            let stores = gone.copies.into_iter().map(|copy| copy.store).filter(absent);
            cleared.extend(stores.map(|store| What::Cleared { segment, store: Some(store) }));
        }
        for (segment, store) in dropped_copies(tables)? {
            if found.stores.get(&store).is_some_and(|objects| !objects.contains_key(&segment)) {
                cleared.push(What::Cleared { segment, store: Some(store) });
            }
        }
        let reason = "so it was found by a rebuild";
        cleared.into_iter().try_for_each(|what| self.add(tables, what, reason, Beside::default()))
    }
}

impl Rebuild {
    /// Holds the snapshots that are kept against those that are there.
    fn compare_snapshots(&self, tables: &mut Tables<'_>, found: &Found) -> Result<(), CatalogError> {
        let mut kept: Vec<KeptSnapshot> = Vec::new();
        for row in tables.snapshots.iter()? {
            let (block, row) = row?;
            kept.push(decode("snapshots", &block.value(), row.value())?);
        }
        let is_there = |snapshot: &KeptSnapshot| match &snapshot.store {
            Some(store) => {
                let there =
                    |objects: &BTreeMap<u64, u64>| objects.get(&snapshot.block) == Some(&snapshot.bytes);
                found.snapshots.get(store).is_none_or(there)
            }
            None => found.kept_here.contains(snapshot),
        };
        let lost = kept.iter().filter(|snapshot| !is_there(snapshot));
        let mut differs: Vec<What> =
            lost.map(|snapshot| What::SnapshotLost { block: snapshot.block }).collect();
        // Where there is a store, what is here is on its way there.
        let here = found.kept_here.iter().filter(|_| self.bucket.is_none());
        let new = here.filter(|here| kept.iter().all(|kept| kept.block != here.block));
        differs.extend(new.map(|snapshot| What::SnapshotKept { snapshot: snapshot.clone() }));
        let reason = "so it was found by a rebuild";
        differs.into_iter().try_for_each(|what| self.add(tables, what, reason, Beside::default()))
    }
}

fn dropped_copies(tables: &Tables<'_>) -> Result<BTreeSet<(SegmentId, String)>, CatalogError> {
    let rows = tables.dropped.iter()?;
    rows.map(|row| {
        let (key, ()) = row.map(|(key, row)| (key, row.value()))?;
        let (manifest, child, store) = key.value();
        Ok((id((manifest, child)), store.to_owned()))
    })
    .collect()
}
