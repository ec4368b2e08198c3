//! The catalog: which sealed segment is where, and every decision that moved it.
//!
//! A [`Catalog`] is the one writer of `catalog.redb` in a data directory; [`Catalog::read`] looks at it from any process
//! beside the writer. Every change is one [`Decision`] in the history together with its effect, in one transaction that is
//! committed only if the invariants hold. Where there is a bucket, decisions are mirrored to its journal: those that take
//! something away before they take effect, all others when the bucket answers.
//!
//! Time and randomness come in as arguments.

mod arrival;
mod decision;
mod effect;
mod error;
mod identities;
mod invariants;
mod mirror;
mod rebuild;
mod rollups;
mod rows;
mod snapshots;
mod view;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use redb::{Builder, ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase, WriteTransaction};

pub use self::arrival::{NewManifest, NewSegment, Sharing, contents, possible_contents};
pub(crate) use self::decision::digest;
pub use self::decision::{Decision, Sealed, What, Why};
use self::effect::{Beside, apply};
pub use self::error::{CatalogError, Violation};
pub use self::rebuild::{Found, Rebuild, Rebuilt};
pub use self::rollups::RolledUp;
pub use self::rows::{Deletions, End, Entry, Gone};
use self::rows::{Tables, encode};
pub use self::snapshots::Outgoing;
pub use self::view::{Applied, Explanation, Upload, View};
use crate::hold::{Hold, Scope};
use crate::journal::Bucket;
use crate::policy::MAX_TEXT_BYTES;
use crate::segment::SegmentId;

/// Memory that a catalog keeps pages of its file in, in bytes.
const CACHE_BYTES: usize = 64 << 20;

/// The catalog of a data directory, open for writing.
pub struct Catalog {
    db: Database,
    /// Marks the catalog if it is new.
    fresh: [u8; 16],
    bucket: Option<Arc<dyn Bucket>>,
    /// Held by whoever extends the journal.
    journalling: Mutex<()>,
    /// Whether the bucket was found to be the one that has the journal.
    recognised: AtomicBool,
}

/// The catalog of a data directory, open for reading beside whoever writes.
pub struct CatalogReader {
    db: ReadOnlyDatabase,
}

impl CatalogReader {
    /// The catalog as it is now.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn view(&self) -> Result<View, CatalogError> {
        View::new(&self.db)
    }
}

/// The file of the catalog in a data directory.
#[must_use]
pub fn file(data: &Path) -> PathBuf {
    data.join("catalog.redb")
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

/// A killed writer leaves its file marked, and readers are refused until a writer has opened it once; what was committed is
/// whole.
fn mend(file: &Path) -> Result<(), CatalogError> {
    match builder().open(file) {
        Ok(db) => Ok(db.close()?),
        // The next writer has come, and mends it itself.
        Err(DatabaseError::DatabaseAlreadyOpen) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Catalog {
    /// Opens the catalog of the data directory `data`, or makes it, and checks all of it. `fresh` is random: it tells a
    /// catalog that is made now from every other. `bucket` is where the journal is kept; without one, decisions are in the
    /// data directory only.
    ///
    /// # Errors
    /// When another process writes to it, the file is damaged, or an invariant does not hold.
    pub fn open(data: &Path, fresh: [u8; 16], bucket: Option<Arc<dyn Bucket>>) -> Result<Self, CatalogError> {
        let catalog = Self::unchecked(&file(data), fresh, bucket)?;
        let txn = catalog.begin()?;
        let mut tables = Tables::open(&txn, fresh)?;
        invariants::check_all(&tables)?;
        tables.store_state()?;
        drop(tables);
        txn.commit()?;
        Ok(catalog)
    }

    fn unchecked(
        file: &Path,
        fresh: [u8; 16],
        bucket: Option<Arc<dyn Bucket>>,
    ) -> Result<Self, CatalogError> {
        let opened = builder().set_check_integrity_on_open(true).create(file);
        let db = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => CatalogError::InUse { file: file.to_owned() },
            error => error.into(),
        })?;
        Ok(Self { db, fresh, bucket, journalling: Mutex::default(), recognised: AtomicBool::default() })
    }

    /// Opens the catalog of a data directory for reading, whether or not a server runs, or ended well.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn read(data: &Path) -> Result<CatalogReader, CatalogError> {
        let file = file(data);
        if !file.exists() {
            return Err(CatalogError::Absent { file });
        }
        let db = match builder().open_read_only(&file) {
            Err(DatabaseError::RepairAborted) => {
                mend(&file)?;
                builder().open_read_only(&file)
            }
            opened => opened,
        };
        Ok(CatalogReader { db: db? })
    }

    /// Reads all of the catalog of the data directory `data`, and compares it with its checksums. Where a server runs, which did
    /// that when it started, only the rows are read.
    ///
    /// # Errors
    /// The first damage; or when there is no catalog.
    pub fn verify(data: &Path) -> Result<(), CatalogError> {
        let file = file(data);
        if !file.exists() {
            return Err(CatalogError::Absent { file });
        }
        match Self::open(data, [0; 16], None) {
            Ok(catalog) => catalog.view()?.read_all(),
            Err(CatalogError::InUse { .. }) => Self::read(data)?.view()?.read_all(),
            Err(error) => Err(error),
        }
    }

    /// The catalog as it is now.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn view(&self) -> Result<View, CatalogError> {
        View::new(&self.db)
    }

    /// Whether the journal has every decision; without a bucket there is none, and nothing to wait for.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn is_on_record(&self) -> Result<bool, CatalogError> {
        Ok(self.bucket.is_none() || self.view()?.unmirrored()? == 0)
    }

    fn begin(&self) -> Result<WriteTransaction, CatalogError> {
        let mut txn = self.db.begin_write()?;
        // After a crash the catalog is there at once, however large.
        txn.set_quick_repair(true);
        Ok(txn)
    }

    /// Runs `act` in a transaction, which is committed if `act` succeeds.
    fn transact<R>(
        &self,
        act: impl FnOnce(&mut Tables<'_>) -> Result<R, CatalogError>,
    ) -> Result<R, CatalogError> {
        let txn = self.begin()?;
        let mut tables = Tables::open(&txn, self.fresh)?;
        let result = act(&mut tables)?;
        tables.store_state()?;
        drop(tables);
        txn.commit()?;
        Ok(result)
    }

    /// A decision that takes effect at once.
    fn decide(&self, why: &Why, what: What, beside: Beside<'_>) -> Result<u64, CatalogError> {
        debug_assert!(!what.is_destructive(), "this one is to be in the journal first");
        self.transact(|tables| {
            let decision = next(tables, why, what)?;
            carry_out(tables, &decision, beside)?;
            tables.append(&decision)?;
            Ok(decision.number)
        })
    }

    /// Takes in what a manifest brought. Where it replaces sealed segments, these are split: they are gone from now on, their
    /// events are in the new ones. A manifest that is known already is taken in again without effect. `sharing` goes by the policies
    /// of `version`.
    ///
    /// # Errors
    /// When other policies apply by now; or an invariant forbids it: manifests come in order and without gaps, and no event is
    /// lost or doubled by a split.
    pub fn register(
        &self,
        manifest: &NewManifest,
        version: u64,
        sharing: &Sharing<'_>,
        why: &Why,
    ) -> Result<(), CatalogError> {
        let what = registered(manifest);
        self.transact(|tables| {
            if invariants::is_known(tables, manifest)? {
                return Ok(());
            }
            let applied = tables.policy_version()?;
            if applied != version {
                let what = format!("it was shared out by policies {version}, and {applied} apply by now");
                return Err(CatalogError::Refused { about: format!("manifest {}", manifest.number), what });
            }
            let decision = next(tables, why, what)?;
            invariants::follows(tables, manifest)?;
            carry_out(tables, &decision, Beside { manifest: Some(manifest), sharing: Some(sharing) })?;
            tables.append(&decision)
        })
    }

    /// Records a copy that was read back and found the same, in place of an earlier one in the same store.
    ///
    /// # Errors
    /// When the segment is not live.
    pub fn record_copy(
        &self,
        segment: SegmentId,
        store: &str,
        class: Option<&str>,
        why: &Why,
    ) -> Result<(), CatalogError> {
        let what = What::Copied { segment, store: store.to_owned(), class: class.map(str::to_owned) };
        self.decide(why, what, Beside::default()).map(drop)
    }

    /// Records that a copy is gone, or is not the same any more.
    ///
    /// # Errors
    /// When the segment is not live.
    pub fn copy_lost(&self, segment: SegmentId, store: &str, why: &Why) -> Result<(), CatalogError> {
        let what = What::CopyLost { segment, store: store.to_owned() };
        self.decide(why, what, Beside::default()).map(drop)
    }

    /// Decides that a copy may go, because the segment is verified elsewhere. Its object is among [`View::dropped_copies`] from then on,
    /// and may go once [`Catalog::check_term`] says that nobody else has the bucket.
    ///
    /// # Errors
    /// When it is the last place of the segment; or no other copy is on record in the journal, where there is a journal.
    pub fn drop_copy(&self, segment: SegmentId, store: &str, why: &Why) -> Result<(), CatalogError> {
        self.copy_is_on_record(segment, Some(store))?;
        let what = What::CopyDropped { segment, store: store.to_owned() };
        self.decide(why, what, Beside::default()).map(drop)
    }

    /// Decides that the local file may go. The caller removes it afterwards.
    ///
    /// # Errors
    /// When there is no verified copy, or none that the journal knows of where there is a journal.
    pub fn drop_local(&self, segment: SegmentId, why: &Why) -> Result<(), CatalogError> {
        self.copy_is_on_record(segment, None)?;
        self.decide(why, What::LocalDropped { segment }, Beside::default()).map(drop)
    }

    /// With a copy in the journal, other than that in the store `dropped`, losing the disk does not lose the segment.
    fn copy_is_on_record(&self, segment: SegmentId, dropped: Option<&str>) -> Result<(), CatalogError> {
        let view = self.view()?;
        let (mirrored, entry) = (view.state().mirrored, view.segment(segment)?);
        let (Some(_), Some(entry)) = (&self.bucket, entry) else { return Ok(()) };
        let remains = |store: &String| {
            Some(&**store) != dropped && entry.segment.copies.iter().any(|copy| copy.store == *store)
        };
        let on_record = |decision: &Decision| match &decision.what {
            What::Copied { store, .. } => decision.number < mirrored && remains(store),
            _ => false,
        };
        if entry.segment.copies.is_empty() || view.history_of(segment)?.iter().any(on_record) {
            return Ok(());
        }
        let what = "it stays where it is until the journal in the bucket has another copy on record";
        Err(CatalogError::Refused { about: format!("segment {segment}"), what: what.to_owned() })
    }

    /// Records that the local file is gone or damaged, without having been dropped.
    ///
    /// # Errors
    /// When the segment is not live.
    pub fn local_lost(&self, segment: SegmentId, why: &Why) -> Result<(), CatalogError> {
        self.decide(why, What::LocalLost { segment }, Beside::default()).map(drop)
    }

    /// Records that the local file is there (again), and whole.
    ///
    /// # Errors
    /// When the segment is not live.
    pub fn local_found(&self, segment: SegmentId, why: &Why) -> Result<(), CatalogError> {
        self.decide(why, What::LocalFound { segment }, Beside::default()).map(drop)
    }

    /// Marks segments to be deleted from `due` on, in nanoseconds since the Unix epoch: all of them or none.
    ///
    /// # Errors
    /// When one is not live or is marked already, or deletions are off; [`CatalogError::Journal`] and
    /// [`CatalogError::InDoubt`] when the bucket does not take it.
    pub fn mark(&self, marks: &[(SegmentId, i64, Why)]) -> Result<(), CatalogError> {
        let marks = marks
            .iter()
            .map(|(segment, due, why)| (why.clone(), What::Marked { segment: *segment, due: *due }));
        self.decide_on_record(marks.collect())
    }

    /// Takes a mark back.
    ///
    /// # Errors
    /// When the segment is not live or not marked.
    pub fn unmark(&self, segment: SegmentId, why: &Why) -> Result<(), CatalogError> {
        self.decide(why, What::Unmarked { segment }, Beside::default()).map(drop)
    }

    /// Deletes marked segments that are due: all of them or none. Their bytes are in [`View::garbage`] from then on, and may go
    /// once [`Catalog::check_term`] says that nobody else has the bucket.
    ///
    /// # Errors
    /// As [`Catalog::mark`]; and when one is not due, or held, or no snapshot that is kept goes past it.
    pub fn delete(&self, segments: &[(SegmentId, Why)]) -> Result<(), CatalogError> {
        self.are_in_a_snapshot(segments.iter().map(|(segment, _)| *segment))?;
        let deletions =
            segments.iter().map(|(segment, why)| (why.clone(), What::Deleted { segment: *segment }));
        self.decide_on_record(deletions.collect())
    }

    /// Records that the bytes of a segment that is gone, or of a copy that was dropped, are gone too: from `store`, or from the data
    /// directory.
    ///
    /// # Errors
    /// When the segment is live and its bytes there count.
    pub fn cleared(&self, segment: SegmentId, store: Option<&str>, why: &Why) -> Result<(), CatalogError> {
        let what = What::Cleared { segment, store: store.map(str::to_owned) };
        self.decide(why, what, Beside::default()).map(drop)
    }

    /// Makes `text` the policies that apply, and sharings every segment anew with `sharing`. Returns their version.
    ///
    /// # Errors
    /// When the text is longer than a megabyte, or the database refuses.
    pub fn apply_policies(&self, text: &str, sharing: &Sharing<'_>, why: &Why) -> Result<u64, CatalogError> {
        if text.len() > MAX_TEXT_BYTES {
            let what = format!("{} bytes are more than {MAX_TEXT_BYTES}", text.len());
            return Err(CatalogError::Refused { about: "policies".to_owned(), what });
        }
        self.transact(|tables| {
            let version = tables.policy_version()? + 1;
            let what = What::PoliciesApplied { version, text: text.to_owned() };
            let decision = Decision { version: Some(version), ..next(tables, why, what)? };
            carry_out(tables, &decision, Beside { manifest: None, sharing: Some(sharing) })?;
            tables.append(&decision)?;
            Ok(version)
        })
    }

    /// Adds a hold; returns its number. What a deletion has taken already, it does not bring back.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn hold_add(&self, scope: &Scope, why: &Why) -> Result<u64, CatalogError> {
        self.transact(|tables| {
            let hold = Hold { number: tables.state.next_hold, scope: scope.clone() };
            let number = hold.number;
            let decision = next(tables, why, What::HoldAdded { hold })?;
            carry_out(tables, &decision, Beside::default())?;
            tables.append(&decision)?;
            Ok(number)
        })
    }

    /// Removes a hold.
    ///
    /// # Errors
    /// When there is none of this number; or as [`Catalog::mark`] when the bucket does not take it.
    pub fn hold_remove(&self, number: u64, why: &Why) -> Result<(), CatalogError> {
        self.decide_on_record(vec![(why.clone(), What::HoldRemoved { number })])
    }

    /// Keeps everything from being deleted until [`Catalog::deletions_on`]; `why` gives the reason.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn deletions_off(&self, why: &Why) -> Result<(), CatalogError> {
        self.decide(why, What::DeletionsOff, Beside::default()).map(drop)
    }

    /// Allows deletions again: an operator's word.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn deletions_on(&self, why: &Why) -> Result<(), CatalogError> {
        self.decide(why, What::DeletionsOn, Beside::default()).map(drop)
    }

    /// Keeps how far an upload in parts is, before its first part goes and after each one: so that it is gone on with, or aborted,
    /// after a crash.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn keep_upload(&self, upload: &Upload) -> Result<(), CatalogError> {
        let SegmentId { manifest, child } = upload.segment;
        self.transact(|tables| {
            tables.uploads.insert((manifest, child, &*upload.store), &*encode(&upload.parts))?;
            Ok(())
        })
    }

    /// Forgets an upload that was completed or aborted.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn upload_ended(&self, segment: SegmentId, store: &str) -> Result<(), CatalogError> {
        self.transact(|tables| {
            tables.uploads.remove((segment.manifest, segment.child, store))?;
            Ok(())
        })
    }
}

/// The decision that comes next in the history.
fn next(tables: &Tables<'_>, why: &Why, what: What) -> Result<Decision, CatalogError> {
    let Why { time, by, policy, reason } = why.clone();
    let version = Some(tables.policy_version()?).filter(|&version| version > 0);
    Ok(Decision { number: tables.next_decision()?, time, by, policy, version, reason, what })
}

/// Applies a decision and checks what it touched.
fn carry_out(tables: &mut Tables<'_>, decision: &Decision, beside: Beside<'_>) -> Result<(), CatalogError> {
    let touched = apply(tables, decision, beside)?;
    invariants::check(tables, &touched)
}

fn registered(manifest: &NewManifest) -> What {
    What::Registered {
        manifest: manifest.number,
        from: manifest.from.clone(),
        positions: manifest.positions.clone(),
        segments: manifest.segments.iter().map(|new| new.sealed.clone()).collect(),
    }
}
