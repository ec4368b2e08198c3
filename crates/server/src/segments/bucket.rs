//! `icecore segments verify --store`: what is in a bucket, with nothing else at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use icecore_log::{Child, LogError, LogReader, RealDisk, SegmentId};
use icecore_state::snapshot::Snapshot;
use icecore_tier::catalog::What;
use icecore_tier::journal::{Audit, StoreBucket};
use icecore_tier::manifests;
use icecore_tier::snapshot::{self, KeptSnapshot};
use icecore_tier::store::{Listed, Store, Waiting};

use super::hex;
use crate::cli::VerifyArgs;
use crate::stores;
use crate::table::counted;

/// Verifies every segment in a store, or the one that is asked for.
pub(super) fn verify(store: &Store, args: &VerifyArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let waiting = stores::waiting()?;
    let expected = Expected::read(store, args.store_name.as_deref(), &waiting)?;
    let objects = stores::segments(store, &waiting)?;
    ensure!(
        !(objects.is_empty() && expected.roots.is_empty()),
        "there are no sealed segments in {}; is it the whole URL?",
        store.name()
    );
    let wanted = |other: &SegmentId| args.id.is_none_or(|id| id == *other);
    let mut tally = Tally::default();
    for fault in &expected.faults {
        tally.bad(out, fault)?;
    }
    for (id, object) in objects.iter().filter(|(id, _)| wanted(id)) {
        if expected.deleted.contains(id) {
            tally.left_over += 1;
            continue;
        }
        if !expected.manifests.contains(&id.manifest) {
            let manifest = id.manifest;
            let what = "its manifest is gone, so that nobody knows whether it is the right one";
            tally.bad(out, &format!("{}: manifests/{manifest:012}.manifest, {what}", object.path))?;
        }
        match read(store, &waiting, object, args.root.or(expected.roots.get(id).map(|child| child.root)))? {
            wrong if wrong.is_empty() => tally.whole += 1,
            wrong => wrong.iter().try_for_each(|wrong| tally.bad(out, wrong))?,
        }
    }
    let there: BTreeSet<SegmentId> = objects.iter().map(|(id, _)| *id).collect();
    for id in expected.copied.difference(&there).filter(|id| wanted(id)) {
        tally.bad(out, &format!("segments/{id}.ice: the object is gone, and no policy deleted it"))?;
    }
    if args.id.is_none() {
        verify_snapshots(store, &waiting, &expected, &mut tally, out)?;
    }
    tally.deleted = expected.deleted.iter().filter(|id| wanted(id)).count() as u64;
    if let Some(id) = args.id {
        ensure!(tally.bad > 0 || tally.deleted + tally.whole > 0, "segment {id} is not in this store");
    }
    if let Some(blind) = &expected.blind {
        writeln!(out, "objects that are gone are not noticed: {blind}")?;
    }
    tally.finish(out)
}

/// Verifies the snapshots that are kept in the store: those that the journal knows by their hashes, others by what they say themselves.
fn verify_snapshots(
    store: &Store,
    waiting: &Waiting,
    expected: &Expected,
    tally: &mut Tally,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut there = BTreeMap::new();
    waiting.wait(store.list("snapshots", |object| {
        there.extend(snapshot::parse_object(&object.path).map(|block| (block, object)));
    }))?;
    for (block, object) in &there {
        let whole = match expected.kept.get(block) {
            Some(kept) => {
                let found = waiting.wait(store.read_back(&object.path))?;
                (found.hash == kept.hash).then_some(()).ok_or("it is not what was put there".to_owned())
            }
            None => {
                let file = waiting.open(store, &object.path, [0; 32], object.bytes);
                let open = Snapshot::read(Arc::new(file), Path::new(&object.path));
                open.and_then(|snapshot| snapshot.verify()).map_err(|error| error.to_string())
            }
        };
        match whole {
            Ok(()) => tally.whole += 1,
            Err(what) => tally.bad(out, &format!("{}: {what}", object.path))?,
        }
    }
    for kept in expected.kept.values().filter(|kept| !there.contains_key(&kept.block)) {
        tally.bad(out, &format!("{}: the object is gone, and was kept", kept.object()))?;
    }
    Ok(())
}

/// Damage to an object.
fn read(
    store: &Store,
    waiting: &Waiting,
    object: &Listed,
    root: Option<[u8; 32]>,
) -> anyhow::Result<Vec<String>> {
    let segment = match stores::open_segment(store, waiting, object) {
        Ok(segment) => segment,
        Err(LogError::Damaged(damage)) => return Ok(vec![damage.to_string()]),
        Err(error) => return Err(error.into()),
    };
    let mut wrong: Vec<String> = segment.verify()?.iter().map(ToString::to_string).collect();
    let found = segment.summary().root;
    if let Some(root) = root.filter(|root| *root != found) {
        let (root, found) = (hex(root), hex(found));
        wrong.push(format!("{}: this is another segment: its root is {found}, not {root}", object.path));
    }
    Ok(wrong)
}

/// What should be in a store, by its manifests and its journal.
#[derive(Default)]
struct Expected {
    /// Numbers of the manifests that are there, whole or not.
    manifests: BTreeSet<u64>,
    roots: BTreeMap<SegmentId, Child>,
    /// Segments with a copy that the journal knows of.
    copied: BTreeSet<SegmentId>,
    /// Segments that a policy deleted.
    deleted: BTreeSet<SegmentId>,
    /// Snapshots that the journal knows of, by their blocks.
    kept: BTreeMap<u64, KeptSnapshot>,
    /// What is wrong with manifests and journal.
    faults: Vec<String>,
    /// Why `copied` cannot be told.
    blind: Option<String>,
}

impl Expected {
    /// `name` is what the journal calls this store.
    fn read(store: &Store, name: Option<&str>, waiting: &Waiting) -> anyhow::Result<Self> {
        let mut expected = Self::default();
        expected.read_manifests(store, waiting)?;
        let audit = Audit::read(&StoreBucket::new(store.clone(), waiting.clone()))?;
        expected.faults.extend(audit.faults);
        let stores: BTreeSet<&str> = audit
            .decisions
            .iter()
            .filter_map(|decision| match &decision.what {
                What::Copied { store, .. } => Some(store.as_str()),
                What::SnapshotKept { snapshot } => snapshot.store.as_deref(),
                _ => None,
            })
            .collect();
        expected.blind = match (name, stores.len()) {
            _ if audit.decisions.is_empty() => Some("there is no journal in this store".to_owned()),
            (Some(name), _) if !stores.contains(name) => {
                Some(format!("the journal knows of no copy in a store called {name}"))
            }
            (None, 2..) => {
                let stores = Vec::from_iter(stores.iter().copied()).join(", ");
                Some(format!(
                    "the journal has copies in several stores ({stores}); --store-name says which it is"
                ))
            }
            _ => None,
        };
        let name = name.or_else(|| stores.first().copied()).filter(|_| expected.blind.is_none());
        for decision in &audit.decisions {
            expected.take(&decision.what, name);
        }
        Ok(expected)
    }

    /// Manifests are one chain, which is checked as that of any log.
    fn read_manifests(&mut self, store: &Store, waiting: &Waiting) -> anyhow::Result<()> {
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        self.manifests = manifests::fetch(store, waiting, directory.path())?;
        let reader = LogReader::open(Arc::new(RealDisk), directory.path())?;
        let place = directory.path().display().to_string() + "/";
        let damage = reader.verify_manifests()?;
        self.faults.extend(damage.iter().map(|damage| damage.to_string().replace(&place, "")));
        let children = reader.manifests().iter().flat_map(|manifest| manifest.segments());
        self.roots = children.map(|(id, child)| (id, child.clone())).collect();
        Ok(())
    }

    /// Takes a decision in; `name` is what they call this store, where that is known.
    fn take(&mut self, what: &What, name: Option<&str>) {
        match what {
            What::Copied { segment, store, .. } if Some(store.as_str()) == name => {
                self.copied.insert(*segment);
            }
            What::CopyLost { segment, store } | What::CopyDropped { segment, store }
                if Some(store.as_str()) == name =>
            {
                self.copied.remove(segment);
            }
            What::Deleted { segment } => {
                self.copied.remove(segment);
                self.deleted.insert(*segment);
            }
            What::SnapshotKept { snapshot } if name.is_some() && snapshot.store.as_deref() == name => {
                self.kept.insert(snapshot.block, snapshot.clone());
            }
            What::SnapshotDropped { block } | What::SnapshotLost { block } => _ = self.kept.remove(block),
            What::Registered { from, .. } => from.iter().for_each(|segment| _ = self.copied.remove(segment)),
            What::Void { segment: Some(segment), .. } => _ = self.deleted.remove(segment),
            _ => {}
        }
    }
}

/// What came of it.
#[derive(Default)]
struct Tally {
    whole: u64,
    bad: u64,
    deleted: u64,
    /// Objects of deleted segments that are still to go.
    left_over: u64,
}

impl Tally {
    fn bad(&mut self, out: &mut impl Write, what: &str) -> anyhow::Result<()> {
        self.bad += 1;
        Ok(writeln!(out, "{what}")?)
    }

    fn finish(self, out: &mut impl Write) -> anyhow::Result<()> {
        write!(out, "{} whole", counted(self.whole, "object"))?;
        if self.deleted > 0 {
            write!(out, ", {} deleted by policy", counted(self.deleted, "segment"))?;
        }
        if self.left_over > 0 {
            write!(out, ", {} of them still to go", counted(self.left_over, "object"))?;
        }
        writeln!(out)?;
        ensure!(self.bad == 0, "{} damaged or missing", counted(self.bad, "object"));
        Ok(())
    }
}
