//! The directory of all snapshots.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_log::Disk;
use icecore_log::disk::Access;
use icecore_wire::DeviceName;

use super::head::{self, Layout};
use super::record::DeviceV1;
use super::tree::{PageWriter, TreeBuilder};
use super::{Chain, Kind, Snapshot, SnapshotError, SnapshotHead};
use crate::{DeviceState, Fleet};

/// A chain with this many deltas is followed by a full snapshot: every one of them is read at the next start.
const MAX_DELTAS: usize = 8;

/// How the names of files end.
const FULL: &str = "full";
const DELTA: &str = "delta";

/// Where full snapshots are that somebody else keeps: nothing here writes or removes them.
const KEPT: &str = "kept";

/// The snapshots of a data directory.
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

/// How far the state is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The newest snapshot.
    pub newest: SnapshotHead,
    /// About how many bytes the state has as one file.
    pub bytes: u64,
}

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// Every device as the newest good snapshot has it.
    pub fleet: Fleet,
    /// That snapshot.
    pub head: SnapshotHead,
}

impl Snapshots {
    /// Those of the data directory `data`, which need not be there.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, data: &Path) -> Self {
        Self { disk, dir: data.join("snapshots") }
    }

    /// All of them, newest first, those that are kept longer too, and those that cannot be opened.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<(Vec<Snapshot>, Vec<SnapshotError>), SnapshotError> {
        self.list_in(&[self.dir.clone(), self.dir.join(KEPT)])
    }

    /// The same without those that are kept longer.
    fn list_own(&self) -> Result<(Vec<Snapshot>, Vec<SnapshotError>), SnapshotError> {
        self.list_in(std::slice::from_ref(&self.dir))
    }

    fn list_in(&self, dirs: &[PathBuf]) -> Result<(Vec<Snapshot>, Vec<SnapshotError>), SnapshotError> {
        let mut snapshots = Vec::new();
        let mut faults = Vec::new();
        let names = dirs.iter().map(|dir| Ok(self.names(dir)?.into_iter().map(|name| dir.join(name))));
        let names: Vec<_> = names.collect::<Result<_, SnapshotError>>()?;
        for path in names.into_iter().flatten() {
            match Snapshot::open(&*self.disk, &path) {
                Ok(snapshot) => snapshots.push(snapshot),
                Err(fault) => faults.push(fault),
            }
        }
        // Of a delta and the full one that was made of its chain, the full one counts as newer.
        snapshots.sort_by_key(|snapshot| (snapshot.head().point.block, snapshot.head().kind == Kind::Full));
        snapshots.reverse();
        Ok((snapshots, faults))
    }

    /// Loads the chain that goes furthest, of those whose snapshots `fit` the log, as far as it is good. What is damaged is among the
    /// faults, and then what goes less far is used; without any good one there is nothing.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn load(
        &self,
        fit: &dyn Fn(&SnapshotHead) -> bool,
    ) -> Result<(Option<Loaded>, Vec<SnapshotError>), SnapshotError> {
        self.load_or(fit, &Vec::new)
    }

    /// The same, of `others` too where those here are damaged or there are none: they are asked for only then.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn load_or(
        &self,
        fit: &dyn Fn(&SnapshotHead) -> bool,
        others: &dyn Fn() -> Vec<Snapshot>,
    ) -> Result<(Option<Loaded>, Vec<SnapshotError>), SnapshotError> {
        let (mut snapshots, mut faults) = self.list()?;
        snapshots.retain(|snapshot| fit(snapshot.head()));
        if let (Some(chain), []) = (chains(&snapshots).first(), &faults[..])
            && let Ok((loaded, None)) = load_chain(chain.parts())
        {
            return Ok((Some(loaded), faults));
        }
        snapshots.extend(others().into_iter().filter(|snapshot| fit(snapshot.head())));
        for chain in chains(&snapshots) {
            match load_chain(chain.parts()) {
                Ok((loaded, fault)) => {
                    faults.extend(fault);
                    return Ok((Some(loaded), faults));
                }
                Err(fault) => faults.push(fault),
            }
        }
        Ok((None, faults))
    }

    /// Writes a snapshot of devices in the order of their names, reads all of it back, and only then calls it one. What
    /// `head` says of their number is set here.
    ///
    /// # Errors
    /// When it cannot be written, is not what was written, or `devices` fail.
    pub fn write(
        &self,
        head: SnapshotHead,
        devices: impl Iterator<Item = Result<(DeviceName, Arc<DeviceState>), SnapshotError>>,
    ) -> Result<Snapshot, SnapshotError> {
        self.create_dir()?;
        let path = self.dir.join(file_name(&head));
        let unfinished = path.with_added_extension("tmp");
        let written = self.write_file(&unfinished, head, devices);
        if let Err(error) = written {
            // Give the space back; the next one of this name would otherwise take the file over.
            let _ = self.disk.remove(&unfinished);
            return Err(error);
        }
        self.disk.rename(&unfinished, &path).map_err(SnapshotError::io("rename", &unfinished))?;
        self.disk.sync_dir(&self.dir).map_err(SnapshotError::io("sync", &self.dir))?;
        Snapshot::open(&*self.disk, &path)
    }

    /// Renames those for which `is_foreign` holds, so that they are none any more: they are of another log, or of more than this one
    /// has. Returns what they were called.
    ///
    /// # Errors
    /// When the directory cannot be read or changed.
    pub fn set_aside(
        &self,
        is_foreign: &dyn Fn(&SnapshotHead) -> bool,
    ) -> Result<Vec<PathBuf>, SnapshotError> {
        let (snapshots, _) = self.list_own()?;
        let foreign = snapshots.iter().filter(|snapshot| is_foreign(snapshot.head()));
        foreign
            .map(|snapshot| {
                let path = snapshot.path();
                let renamed = self.disk.rename(path, &path.with_added_extension("aside"));
                renamed.map(|()| path.to_owned()).map_err(SnapshotError::io("rename", path))
            })
            .collect()
    }

    /// How far the state is saved; `None` before there is a snapshot. However many devices there are, a few pages are read.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn saved(&self) -> Result<Option<Saved>, SnapshotError> {
        let (snapshots, _) = self.list_own()?;
        let full = snapshots.iter().find(|snapshot| snapshot.head().kind == Kind::Full);
        let Some(full) = full else { return Ok(None) };
        let chain = Chain::from(full, &snapshots);
        Ok(Some(Saved { newest: chain.end().head().clone(), bytes: full.bytes() }))
    }

    /// Writes the state of the newest chain to a new file at `path`, as one full snapshot, and reads all of it back. `None`
    /// before there is any. `created` is in nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// When something cannot be read or written, or the chain is damaged.
    pub fn save(&self, path: &Path, created: i64) -> Result<Option<Snapshot>, SnapshotError> {
        let (snapshots, _) = self.list_own()?;
        let full = snapshots.iter().find(|snapshot| snapshot.head().kind == Kind::Full);
        let Some(full) = full else { return Ok(None) };
        let chain = Chain::from(full, &snapshots);
        let head = SnapshotHead { kind: Kind::Full, created, ..chain.end().head().clone() };
        self.write_file(path, head, chain.devices())?;
        Snapshot::open(&*self.disk, path).map(Some)
    }

    fn create_dir(&self) -> Result<(), SnapshotError> {
        self.disk.create_dir(&self.dir).map_err(SnapshotError::io("create", &self.dir))?;
        let data = self.dir.parent().expect("it is in the data directory");
        self.disk.sync_dir(data).map_err(SnapshotError::io("sync", data))
    }

    fn write_file(
        &self,
        path: &Path,
        mut head: SnapshotHead,
        devices: impl Iterator<Item = Result<(DeviceName, Arc<DeviceState>), SnapshotError>>,
    ) -> Result<(), SnapshotError> {
        let file = self.disk.open(path, Access::Truncate).map_err(SnapshotError::io("create", path))?;
        let mut pages = PageWriter::new(&*file, path);
        let mut tree = TreeBuilder::default();
        let mut schemas = BTreeMap::new();
        head.devices = 0;
        for device in devices {
            let (name, state) = device?;
            for tally in state.tally().schemas().iter().chain(state.ahead().map_or(&[][..], |a| a.schemas()))
            {
                schemas.entry(tally.schema().id()).or_insert_with(|| Arc::clone(tally.schema()));
            }
            tree.add(&mut pages, DeviceV1::of(&name, &state))?;
            head.devices += 1;
        }
        let (root, height) = tree.finish(&mut pages)?;
        let definitions: Vec<Vec<u8>> = schemas.values().map(|schema| schema.canonical().to_vec()).collect();
        let schemas = pages.page(&definitions)?;
        let len = pages.finish()?;
        let layout = Layout { schemas, root, height, len };
        file.write_at(&head::encode(&head, &layout), 0).map_err(SnapshotError::io("write", path))?;
        file.sync().map_err(SnapshotError::io("sync", path))?;
        Snapshot::open(&*self.disk, path)?.verify()
    }

    /// Makes one full snapshot of the newest chain, where that is long enough, and removes what is older than the two newest
    /// full ones that are good. `created` is in nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// When something cannot be read, written or removed; nothing is lost then.
    pub fn tidy(&self, created: i64) -> Result<(), SnapshotError> {
        let (snapshots, _) = self.list_own()?;
        let full = snapshots.iter().find(|snapshot| snapshot.head().kind == Kind::Full);
        let Some(full) = full else { return Ok(()) };
        let chain = Chain::from(full, &snapshots);
        let (deltas, newest) = (&chain.parts()[1..], chain.end().head());
        let delta_bytes: u64 = deltas.iter().map(|delta| delta.bytes()).sum();
        if deltas.len() >= MAX_DELTAS || delta_bytes > full.bytes() {
            let head = SnapshotHead { kind: Kind::Full, created, ..newest.clone() };
            self.write(head, chain.devices())?;
        }
        self.retire()
    }

    /// Removes what is older than the two newest full snapshots that are good.
    fn retire(&self) -> Result<(), SnapshotError> {
        let (snapshots, _) = self.list_own()?;
        let mut fulls = snapshots.iter().filter(|snapshot| snapshot.head().kind == Kind::Full);
        // Whether there is anything to remove is known without reading all of them.
        if fulls.clone().count() <= 2 {
            return Ok(());
        }
        let mut good = fulls.by_ref().filter(|snapshot| snapshot.verify().is_ok());
        let Some(oldest) = good.nth(1) else { return Ok(()) };
        let oldest = oldest.head().point.block;
        for name in self.names(&self.dir)? {
            // By their names: what is damaged goes as well.
            let (block, kind) = name.split_once('.').unwrap_or_default();
            let is_older =
                block.parse().is_ok_and(|block: u64| block < oldest || (block == oldest && kind != FULL));
            if is_older {
                let path = self.dir.join(&name);
                self.disk.remove(&path).map_err(SnapshotError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Names of finished files. Unfinished ones are removed when one of the same name is written.
    fn names(&self, dir: &Path) -> Result<Vec<String>, SnapshotError> {
        let names = match self.disk.list(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            names => names.map_err(SnapshotError::io("list", dir))?,
        };
        let is_snapshot =
            |name: &String| name.split_once('.').is_some_and(|(_, kind)| kind == FULL || kind == DELTA);
        Ok(names.into_iter().filter(is_snapshot).collect())
    }
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshots").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// A file is named after the block with which the log goes on.
fn file_name(head: &SnapshotHead) -> String {
    let kind = match head.kind {
        Kind::Full => FULL,
        Kind::Delta { .. } => DELTA,
    };
    format!("{:020}.{kind}", head.point.block)
}

/// All chains, the one first that goes furthest.
fn chains(snapshots: &[Snapshot]) -> Vec<Chain<'_>> {
    let fulls = snapshots.iter().filter(|snapshot| snapshot.head().kind == Kind::Full);
    let mut chains: Vec<_> = fulls.map(|full| Chain::from(full, snapshots)).collect();
    // Of those that go as far, the shorter one.
    chains.sort_by_key(|chain| (Reverse(chain.end().head().point.block), chain.parts().len()));
    chains
}

/// Loads a chain up to its first damage, which must not be in its full snapshot.
fn load_chain(chain: &[&Snapshot]) -> Result<(Loaded, Option<SnapshotError>), SnapshotError> {
    let mut loaded = Loaded { fleet: Fleet::default(), head: chain[0].head().clone() };
    for device in chain[0].devices() {
        let (name, state) = device?;
        loaded.fleet.restore(&name, state);
    }
    for delta in &chain[1..] {
        // Half a delta is of no use.
        let devices: Result<Vec<_>, _> = delta.devices().collect();
        match devices {
            Ok(devices) => devices.into_iter().for_each(|(name, state)| loaded.fleet.restore(&name, state)),
            Err(fault) => return Ok((loaded, Some(fault))),
        }
        loaded.head = delta.head().clone();
    }
    Ok((loaded, None))
}
