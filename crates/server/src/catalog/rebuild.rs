//! `icecore catalog rebuild`: from manifests, local files, the journal and what the stores list.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use icecore_ingest::LabelHistory;
use icecore_log::disk::{Disk, DiskLock};
use icecore_log::{LogError, LogReader, RealDisk, SegmentId};
use icecore_tier::catalog::{Found, NewManifest, Rebuild, Rebuilt, Why, possible_contents};
use icecore_tier::manifests;
use icecore_tier::policy::PolicySet;
use icecore_tier::segment::Content;
use icecore_tier::store::{Listed, Store, Waiting};
use icecore_tier::worker::contents;

use super::{state, tails};
use crate::config::{Config, RETENTION};
use crate::device::registry;
use crate::segments::open_local;
use crate::table::counted;
use crate::{decisions, instant, stores, tiers};

pub(super) fn run(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let data = &config.data.dir;
    fs::create_dir_all(data).with_context(|| format!("cannot create {}", data.display()))?;
    let stores = stores::open(config)?;
    let waiting = stores::waiting()?;
    let while_fetching = alone(data)?;
    for store in stores.values() {
        manifests::fetch(store, &waiting, data)?;
    }
    drop(while_fetching);
    // Who reads a locked log waits for what its writer publishes.
    let reader = LogReader::open(Arc::new(RealDisk), data)?;
    manifests_are_whole(&reader)?;
    let _alone = alone(data)?;
    let why = Why {
        time: instant::now(),
        by: decisions::operator(),
        policy: None,
        reason: "the catalog was rebuilt".to_owned(),
    };
    let rebuild = Rebuild::begin(stores::journal(config, &stores, &waiting), RealDisk.random(), why)?;
    add_identities(&rebuild, data)?;
    let policies = PolicySet::parse("the journal's policies", rebuild.policies().unwrap_or(RETENTION))?;
    let labels = registry(config)?.labels();
    let mut finder = Finder::look(config, &stores, &waiting, &labels)?;
    let found = finder.found(&reader, &rebuild.deleted())?;
    let sharing = |bytes, contents: &[Content]| tiers::shares(&policies, &labels, bytes, contents);
    let (catalog, rebuilt) = rebuild.build(data, &found, &sharing)?;
    for damage in &finder.damaged {
        writeln!(out, "damaged, and not counted: {damage}")?;
    }
    tell(catalog.view()?.count()?, &rebuilt, &found, out)?;
    tails::take(&catalog, config, &stores, &waiting)?;
    let missing: BTreeSet<SegmentId> = rebuilt.missing.iter().copied().collect();
    let lost = reader.lose(&|segment| missing.contains(&segment))?;
    state::restore(&catalog.view()?, data, (&stores, &waiting), &reader, &lost, out)
}

/// Without a manifest nobody knows what belongs to the log.
fn manifests_are_whole(reader: &LogReader) -> anyhow::Result<()> {
    let damage = reader.verify_manifests()?;
    ensure!(
        damage.is_empty(),
        "nothing was changed: {}; move the file away if a store has it (it is fetched then), or copy it from one that has",
        damage.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    );
    Ok(())
}

/// The lock of the data directory, without which no server starts.
fn alone(data: &Path) -> anyhow::Result<DiskLock> {
    let lock =
        RealDisk.lock(&data.join("LOCK")).with_context(|| format!("cannot lock {}", data.display()))?;
    lock.with_context(|| format!("a server runs on {}; stop it first", data.display()))
}

/// Adds to the registry what only the journal has.
fn add_identities(rebuild: &Rebuild, data: &Path) -> anyhow::Result<()> {
    let path = data.join("registry.jsonl");
    let failed = || format!("cannot write {}", path.display());
    let known = if path.exists() { fs::read_to_string(&path).with_context(failed)? } else { String::new() };
    let known: HashSet<&str> = known.lines().collect();
    let mut registry = OpenOptions::new().create(true).append(true).open(&path).with_context(failed)?;
    for line in rebuild.identities().filter(|line| !known.contains(line)) {
        writeln!(registry, "{line}").with_context(failed)?;
    }
    registry.sync_all().with_context(failed)
}

fn tell(segments: u64, rebuilt: &Rebuilt, looked: &Found, out: &mut impl Write) -> anyhow::Result<()> {
    let Rebuilt { faults, skipped, missing, unverified } = rebuilt;
    writeln!(out, "the catalog has {}", counted(segments, "segment"))?;
    for id in missing {
        let beside = if looked.damaged.contains_key(id) { ", but for its damaged file" } else { "" };
        writeln!(out, "missing: segment {id} is in no place that was looked at{beside}")?;
    }
    for (id, store) in unverified {
        writeln!(out, "not counted: store `{store}` has segment {id}, but the journal does not say so")?;
    }
    skipped.iter().try_for_each(|(number, why)| writeln!(out, "decision {number} was skipped: {why}"))?;
    faults.iter().try_for_each(|fault| writeln!(out, "journal: {fault}"))?;
    if !faults.is_empty() {
        writeln!(
            out,
            "nothing is deleted until `icecore catalog allow-deletions`: what is lost of the journal may have kept data"
        )?;
    }
    Ok(())
}

/// Where the bytes of segments are.
struct Finder<'a> {
    config: &'a Config,
    stores: &'a stores::Stores,
    waiting: &'a Waiting,
    labels: &'a LabelHistory,
    objects: BTreeMap<&'a str, BTreeMap<SegmentId, Listed>>,
    /// Damage that was met, for people.
    damaged: Vec<String>,
}

impl<'a> Finder<'a> {
    fn look(
        config: &'a Config,
        stores: &'a stores::Stores,
        waiting: &'a Waiting,
        labels: &'a LabelHistory,
    ) -> anyhow::Result<Self> {
        let list = |(name, store): (&'a String, &'a Store)| {
            Ok((name.as_str(), stores::segments(store, waiting)?.into_iter().collect()))
        };
        let objects = stores.iter().map(list).collect::<anyhow::Result<_>>()?;
        Ok(Self { config, stores, waiting, labels, objects, damaged: Vec::new() })
    }

    fn found(&mut self, reader: &LogReader, deleted: &BTreeSet<SegmentId>) -> anyhow::Result<Found> {
        let mut found = Found::default();
        for manifest in reader.manifests() {
            let new = NewManifest::of(manifest, |id| match self.contents(id, &mut found)? {
                Some(contents) => Ok(contents),
                // Nothing is held, or shared, of what is not there any more.
                None if deleted.contains(&id) => Ok(Vec::new()),
                None => possible_contents(reader, id, &manifest.children[id.child as usize]),
            })?;
            found.manifests.insert(manifest.number, new);
            let here =
                manifest.segments().map(|(id, _)| id).filter(|id| id.file(&self.config.data.dir).exists());
            found.local.extend(here.filter(|id| !found.damaged.contains_key(id)));
        }
        for (store, objects) in &self.objects {
            let bytes = objects.iter().map(|(id, object)| (*id, object.bytes)).collect();
            found.stores.insert((*store).to_owned(), bytes);
        }
        for (name, store) in self.stores {
            found.snapshots.insert(name.clone(), state::listed(store, self.waiting)?);
        }
        found.kept_here = state::kept_here(&self.config.data.dir)?;
        Ok(found)
    }

    /// What is in a segment, by its footer and its batch directory, from the first place where they are whole. What is damaged on
    /// the way is not counted as being there.
    fn contents(&mut self, id: SegmentId, found: &mut Found) -> Result<Option<Vec<Content>>, LogError> {
        let labels = self.labels;
        let at_receipt = |device: &str, received| tiers::at(labels, device, received);
        let local = open_local(id, &self.config.data.dir).transpose();
        match local.map(|segment| contents(&segment?, &at_receipt)) {
            Some(Err(LogError::Damaged(damage))) => {
                self.damaged.push(damage.to_string());
                found.damaged.insert(id, damage.to_string());
            }
            Some(read) => return read.map(Some),
            None => {}
        }
        for (store, objects) in &mut self.objects {
            let Some(object) = objects.get(&id) else { continue };
            let segment = stores::open_segment(&self.stores[*store], self.waiting, object);
            match segment.and_then(|segment| contents(&segment, &at_receipt)) {
                Err(LogError::Damaged(damage)) => {
                    self.damaged.push(format!("store `{store}`: {damage}"));
                    objects.remove(&id);
                }
                read => return read.map(Some),
            }
        }
        Ok(None)
    }
}
