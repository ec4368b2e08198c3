//! Copies: uploaded, read back, compared, recorded.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::join;

use super::intake::open;
use super::trouble::Trouble;
use super::{Round, Worker};
use crate::catalog::{Catalog, Entry, Upload};
use crate::mutants::{Mutant, planted};
use crate::plan::{Action, Destination, Kind, Plan};
use crate::segment::{SegmentId, object_name};
use crate::store::{Digest, Parts, Progress, Store, StoreError};

/// Bytes that are uploaded in one pass, at most; but one copy at least.
const PASS_BYTES: u64 = 1 << 30;

/// Copies that were replaced and are kept in mind until their objects are removed.
const MAX_REPLACED: usize = 10_000;

/// A copy that is to be made.
struct Job<'p> {
    action: &'p Action,
    to: &'p Destination,
    store: Store,
    object: String,
    /// A file that was checked to be the segment.
    file: PathBuf,
    /// It is here only to go elsewhere.
    in_transit: bool,
    progress: Journaled<'p>,
}

/// What was sent, and what is there.
struct Sent {
    sent: Digest,
    found: Digest,
}

impl Worker {
    /// Makes the copies that the plan wants, two at a time.
    pub(super) fn copy(&mut self, round: &mut Round<'_>, plan: &Plan) -> Result<(), Trouble> {
        let wanted: Vec<(&Action, &Destination)> = plan.actions.iter().filter_map(upload).collect();
        let mut left = PASS_BYTES;
        let mut closed = BTreeSet::new();
        let catalog = Arc::clone(&self.catalog);
        let mut wanted = wanted.into_iter().peekable();
        while wanted.peek().is_some() {
            let mut jobs = Vec::new();
            while jobs.len() < 2
                && let Some((action, to)) = wanted.next()
            {
                let now = round.moment.now;
                if left == 0 || closed.contains(&to.store) || !self.patience.may_try(action.segment, now) {
                    round.pass.backlog += 1;
                    round.pass.backlog_bytes += action.bytes;
                    continue;
                }
                left = left.saturating_sub(action.bytes);
                match self.prepare(round, &catalog, action, to) {
                    Ok(job) => jobs.extend(job),
                    Err(trouble) => self.not_copied(round, action, &trouble, &to.store, &mut closed),
                }
            }
            let mut jobs = jobs.into_iter();
            for (job, sent) in self.send(jobs.next(), jobs.next()) {
                let recorded = sent.map_err(Trouble::from).and_then(|sent| self.record(round, &job, &sent));
                if job.in_transit {
                    _ = fs::remove_file(&job.file); // what remains is removed by the next sweep
                }
                match recorded {
                    Ok(()) => self.patience.succeeded(job.action.segment),
                    Err(trouble) => {
                        self.not_copied(round, job.action, &trouble, &job.to.store, &mut closed);
                    }
                }
            }
        }
        Ok(())
    }

    fn not_copied(
        &mut self,
        round: &mut Round<'_>,
        action: &Action,
        trouble: &Trouble,
        store: &str,
        closed: &mut BTreeSet<String>,
    ) {
        round.pass.backlog += 1;
        round.pass.backlog_bytes += action.bytes;
        if matches!(trouble, Trouble::Store(StoreError::Resting { .. })) {
            closed.insert(store.to_owned()); // it says nothing of the segment
            return round.wait(format!("copies wait for store `{store}`: {trouble}"));
        }
        if matches!(trouble, Trouble::ManifestFirst { .. }) {
            return round.wait(format!("segment {} is not copied yet: {trouble}", action.segment));
        }
        if trouble.is_journal() || self.stores.get(store).is_none_or(|store| !store.is_healthy()) {
            closed.insert(store.to_owned());
        }
        self.fail(round, Some(action.segment), "upload", trouble);
    }

    /// Everything that comes before an upload. `None` if the copy is there already.
    fn prepare<'p>(
        &mut self,
        round: &Round<'_>,
        catalog: &'p Catalog,
        action: &'p Action,
        to: &'p Destination,
    ) -> Result<Option<Job<'p>>, Trouble> {
        let id = action.segment;
        let store = self.store(&to.store)?.clone();
        let view = catalog.view()?;
        let Some(entry) = view.segment(id)? else { return Ok(None) };
        if entry.segment.copies.iter().any(|copy| copy.store == to.store && copy.class == to.class) {
            return Ok(None);
        }
        if self.shelved.get(&to.store).is_none_or(|&shelved| shelved <= id.manifest) {
            return Err(Trouble::ManifestFirst { manifest: id.manifest, store: to.store.clone() });
        }
        let (file, in_transit) = self.source(round, &entry)?;
        catalog.check_term()?;
        let resumed = view.uploads()?.into_iter();
        let resumed = resumed.filter(|upload| upload.segment == id && upload.store == to.store);
        let resumed = resumed.map(|upload| upload.parts).next();
        let progress = Journaled { catalog, segment: id, store: &to.store, resumed };
        let object = object_name(id, to.class.as_deref());
        Ok(Some(Job { action, to, store, object, file, in_transit, progress }))
    }

    /// A file that is the segment, whole, and whether it is here only for this.
    fn source(&mut self, round: &Round<'_>, entry: &Entry) -> Result<(PathBuf, bool), Trouble> {
        let segment = &entry.segment;
        let (id, root) = (segment.id, segment.root);
        if segment.local {
            let file = self.file(id);
            match verify(&file, root) {
                Err(trouble) if segment.copies.is_empty() && trouble.is_absent() => {
                    return Err(Trouble::Nowhere);
                }
                Err(trouble) if segment.copies.is_empty() => return Err(trouble),
                Err(trouble) => {
                    // There is a copy that was verified, so it is for that to be copied on.
                    tracing::warn!("the local file of segment {id} does not count any more: {trouble}");
                    self.catalog.local_lost(id, &round.because(&trouble.to_string()))?;
                }
                Ok(()) => return Ok((file, false)),
            }
        }
        let copy = segment.copies.last().ok_or(Trouble::Nowhere)?;
        let (bytes, free) = (segment.bytes, round.moment.free);
        if bytes > free / 2 {
            return Err(Trouble::NoRoom { bytes, free });
        }
        let file = self.transit().join(format!("{id}.ice"));
        let failed = |source| Trouble::File { path: file.clone(), source };
        fs::create_dir_all(self.transit()).map_err(failed)?;
        let store = self.store(&copy.store)?;
        let fetched = self.waiting.wait(store.download(&copy.object(id), &file));
        let checked = fetched.map_err(Trouble::from).and_then(|_| verify(&file, root));
        checked.inspect_err(|_| _ = fs::remove_file(&file))?;
        Ok((file, true))
    }

    /// The directory of what is on its way from one store to another.
    pub(super) fn transit(&self) -> PathBuf {
        self.data.join("transit")
    }

    fn send<'p>(
        &self,
        one: Option<Job<'p>>,
        other: Option<Job<'p>>,
    ) -> impl Iterator<Item = (Job<'p>, Result<Sent, StoreError>)> + use<'p> {
        let both = async { join(send(one), send(other)).await };
        let (one, other) = self.waiting.wait(both);
        [one, other].into_iter().flatten()
    }

    /// Compares what is there with what was sent, and records the copy.
    fn record(&mut self, round: &mut Round<'_>, job: &Job<'_>, sent: &Sent) -> Result<(), Trouble> {
        let (id, Sent { sent, found }) = (job.action.segment, sent);
        round.pass.verified_bytes += found.bytes;
        if sent != found && !planted(Mutant::CopyNotCompared) {
            let (store, object) = (job.to.store.clone(), job.object.clone());
            return Err(Trouble::Differs { store, object, found: found.bytes, sent: sent.bytes });
        }
        let Destination { store, class } = job.to;
        let before = self.catalog.view()?.segment(id)?.and_then(|entry| object_in(&entry, store));
        self.catalog.record_copy(id, store, class.as_deref(), &round.why(job.action))?;
        // Beyond this many the sweep finds them.
        if let Some(before) = before
            && self.replaced.len() < MAX_REPLACED
        {
            self.replaced.insert((id, store.clone(), before));
        }
        round.pass.uploaded += 1;
        round.pass.uploaded_bytes += sent.bytes;
        Ok(())
    }
}

/// The object of a segment's copy in a store.
fn object_in(entry: &Entry, store: &str) -> Option<String> {
    let copy = entry.segment.copies.iter().find(|copy| copy.store == store)?;
    Some(copy.object(entry.segment.id))
}

fn upload(action: &Action) -> Option<(&Action, &Destination)> {
    match &action.kind {
        Kind::Upload(to) => Some((action, to)),
        _ => None,
    }
}

async fn send(job: Option<Job<'_>>) -> Option<(Job<'_>, Result<Sent, StoreError>)> {
    let mut job = job?;
    let Job { store, object, to, file, progress, .. } = &mut job;
    let sent = async {
        let sent = store.upload(object, to.class.as_deref(), file, progress).await?;
        // Whatever the store said of it: what counts is what it gives back.
        let found = if planted(Mutant::CopyNotCompared) { sent } else { store.read_back(object).await? };
        Ok(Sent { sent, found })
    };
    let sent = sent.await;
    Some((job, sent))
}

/// Checks that a file is the segment with this root, every bit of it.
pub(super) fn verify(file: &Path, root: [u8; 32]) -> Result<(), Trouble> {
    let mut damage = open(file.to_owned(), root)?.verify()?.into_iter();
    match damage.next() {
        None => Ok(()),
        Some(first) => Err(Trouble::Damaged { damage: Box::new(first), others: damage.count() }),
    }
}

/// An upload in parts that the catalog keeps.
struct Journaled<'c> {
    catalog: &'c Catalog,
    segment: SegmentId,
    store: &'c str,
    resumed: Option<Parts>,
}

impl Progress for Journaled<'_> {
    fn resumed(&self) -> Option<Parts> {
        self.resumed.clone()
    }

    fn keep(&mut self, parts: Option<&Parts>) -> io::Result<()> {
        let (segment, store) = (self.segment, self.store.to_owned());
        let kept = match parts {
            Some(parts) => self.catalog.keep_upload(&Upload { segment, store, parts: parts.clone() }),
            None => self.catalog.upload_ended(segment, &store),
        };
        kept.map_err(io::Error::other)
    }
}
