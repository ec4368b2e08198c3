//! New manifests: into the catalog, and into the stores.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use icecore_log::disk::Access;
use icecore_log::sealed::{SealedEntry, SealedSegment};
use icecore_log::{Disk, LogError, LogReader, Manifest, RealDisk};

use super::trouble::Trouble;
use super::{InForce, LabelsAt, Round, Worker};
use crate::catalog::{NewManifest, possible_contents};
use crate::manifests;
use crate::policy::Labels;
use crate::segment::{Content, SegmentId, Span};
use crate::store::Store;

impl Worker {
    /// Registers the manifests that the catalog does not know yet.
    pub(super) fn take_in(&mut self, round: &mut Round<'_>, in_force: &InForce) -> Result<(), Trouble> {
        let InForce { version, policies } = in_force;
        let next = self.catalog.view()?.next_manifest()?;
        for manifest in self.sealer.manifests(next) {
            let mut unreadable = Vec::new();
            let new = self.read(&manifest, round.labels, &mut unreadable)?;
            let labels = round.labels;
            let sharing = |bytes, contents: &[Content]| {
                policies.shares(bytes, contents, |content| labels(&content.device, content.received.last))
            };
            let reason = format!("manifest {} was written", manifest.number);
            self.catalog.register(&new, *version, &sharing, &round.because(&reason))?;
            for (id, trouble) in unreadable {
                self.catalog.local_lost(id, &round.because(&trouble.to_string()))?;
                self.fail(round, Some(id), "read", &trouble);
            }
            round.pass.registered += new.segments.len() as u64;
            self.littered |= !new.from.is_empty();
        }
        Ok(())
    }

    /// What the catalog is told of a manifest. One damaged segment does not keep it from hearing of all others.
    fn read(
        &self,
        manifest: &Manifest,
        labels: &LabelsAt<'_>,
        unreadable: &mut Vec<(SegmentId, Trouble)>,
    ) -> Result<NewManifest, Trouble> {
        NewManifest::of(manifest, |id| {
            let child = &manifest.children[id.child as usize];
            let read = self.open_local(id, child.root).and_then(|segment| Ok(contents(&segment, labels)?));
            match read {
                Err(trouble) if trouble.is_damage() || trouble.is_absent() => {
                    unreadable.push((id, trouble));
                    let log = LogReader::open(Arc::new(RealDisk), &self.data)?;
                    Ok(possible_contents(&log, id, child)?)
                }
                read => read,
            }
        })
    }

    /// Where the local file of a segment is, or would be.
    pub(super) fn file(&self, id: SegmentId) -> PathBuf {
        id.file(&self.data)
    }

    /// Opens the local file of a segment, which has to have this root.
    pub(super) fn open_local(&self, id: SegmentId, root: [u8; 32]) -> Result<SealedSegment, Trouble> {
        open(self.file(id), root)
    }

    /// Puts manifests into every store that does not have them. Where that fails, no segment of theirs is uploaded.
    pub(super) fn shelve(&mut self, round: &mut Round<'_>) {
        for name in self.stores.keys().cloned().collect::<Vec<_>>() {
            let from = self.shelved.get(&name).copied().unwrap_or_default();
            let manifests = self.sealer.manifests(from);
            if manifests.is_empty() {
                continue;
            }
            let doing = format!("put manifests into store `{name}`");
            match self.shelve_in(&name, &manifests) {
                Ok(()) => self.patience.succeeded_at(&doing),
                Err(trouble) => self.fail(round, None, &doing, &trouble),
            }
        }
    }

    fn shelve_in(&mut self, name: &str, manifests: &[Arc<Manifest>]) -> Result<(), Trouble> {
        let store = self.store(name)?.clone();
        let mut there = BTreeSet::new();
        if !self.shelved.contains_key(name) {
            // What a listing lacks is put again, and found to be there.
            self.waiting.wait(store.list(manifests::SHELF, |object| _ = there.insert(object.path)))?;
            if there.is_empty() && self.has_copies_in(name)? {
                return Err(Trouble::Emptied { store: name.to_owned() });
            }
        }
        let mut checked = false;
        for manifest in manifests {
            let object = manifests::object(manifest.number);
            if !there.contains(&object) {
                if !checked {
                    self.catalog.check_term()?;
                    checked = true;
                }
                let path = manifest.file(&self.data);
                let bytes = std::fs::read(&path).map_err(|source| Trouble::File { path, source })?;
                self.waiting.wait(place(&store, &object, bytes.into()))?;
            }
            self.shelved.insert(name.to_owned(), manifest.number + 1);
        }
        Ok(())
    }

    fn has_copies_in(&self, store: &str) -> Result<bool, Trouble> {
        for entry in self.catalog.view()?.segments()? {
            if entry?.segment.copies.iter().any(|copy| copy.store == store) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Creates an object for ever, and makes sure that it is what was sent.
async fn place(store: &Store, object: &str, content: Bytes) -> Result<(), Trouble> {
    store.put_new(object, content.clone()).await?;
    let found = store.get(object).await?;
    if found == content {
        return Ok(());
    }
    // Nobody else had put it there, so it may be put again.
    store.delete(object).await?;
    let (store, object) = (store.name().to_owned(), object.to_owned());
    Err(Trouble::Differs { store, object, found: found.len() as u64, sent: content.len() as u64 })
}

/// Opens a file as the segment with this root.
pub(super) fn open(path: PathBuf, root: [u8; 32]) -> Result<SealedSegment, Trouble> {
    let file = RealDisk.open(&path, Access::Read);
    let file = file.map_err(|source| Trouble::File { path: path.clone(), source })?;
    let segment = SealedSegment::open(Arc::new(file), path.clone())?;
    if segment.summary().root == root { Ok(segment) } else { Err(Trouble::Foreign { path }) }
}

/// What is in a segment. Events of a device that changed its labels in between are told apart by them.
///
/// # Errors
/// When its batch directory cannot be read, or is damaged.
pub fn contents(segment: &SealedSegment, labels: &LabelsAt<'_>) -> Result<Vec<Content>, LogError> {
    let mut contents: Vec<Content> = Vec::new();
    let mut known: BTreeMap<(String, String, &Labels), usize> = BTreeMap::new();
    let mut last: Option<(SealedEntry, &Labels, usize)> = None;
    for entry in segment.entries() {
        let entry = entry?;
        let labels = labels(entry.source.device.as_str(), entry.received);
        let same = last.as_ref().filter(|(before, with, _)| {
            Arc::ptr_eq(&before.schema, &entry.schema)
                && Arc::ptr_eq(&before.source, &entry.source)
                && *with == labels
        });
        let at = if let Some((_, _, at)) = same {
            *at
        } else {
            let (schema, device) = (entry.schema.name().to_owned(), entry.source.device.as_str().to_owned());
            *known.entry((schema.clone(), device.clone(), labels)).or_insert_with(|| {
                let received = Span { first: entry.received, last: entry.received };
                contents.push(Content { schema, device, received, rows: 0 });
                contents.len() - 1
            })
        };
        let Content { received, rows, .. } = &mut contents[at];
        *rows += u64::from(entry.batch.count);
        received.first = received.first.min(entry.received);
        received.last = received.last.max(entry.received);
        last = Some((entry, labels, at));
    }
    Ok(contents)
}
