//! Snapshots of the state that are kept: written here, uploaded, read back, recorded; and let go of.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::trouble::Trouble;
use super::{Round, Worker};
use crate::catalog::{Catalog, Outgoing, View};
use crate::figures::counted;
use crate::mutants::{Mutant, planted};
use crate::plan::{Plan, Saved, Waiting};
use crate::snapshot::{KeptSnapshot, directory, parse_file, parse_object};
use crate::store::{Digest, Parts, Progress, Store, StoreError};

/// The state of all devices, which somebody else keeps and saves on this disk.
pub trait State: Send {
    /// How far it is saved; `None` before it ever was. Whether there is a store for snapshots is not for it to say.
    ///
    /// # Errors
    /// When the disk refuses.
    fn saved(&self) -> io::Result<Option<Saved>>;

    /// Saves it again soon, since something waits for that.
    fn want(&self);

    /// Writes what was saved last to a new file at `to`, durably, and reads it back.
    ///
    /// # Errors
    /// When there is nothing, or it is damaged, or the disk refuses.
    fn save(&self, to: &Path) -> io::Result<SavedFile>;
}

/// A file with the state of all devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavedFile {
    /// The number of the block with which the log goes on behind it.
    pub block: u64,
    /// The position of the first event that is not in it.
    pub position: u64,
    /// The newest received time in it, in nanoseconds since the Unix epoch.
    pub received: i64,
    /// How many devices it holds.
    pub devices: u64,
}

/// What the worker keeps snapshots of, and where.
pub(super) struct Keeping {
    state: Box<dyn State>,
    /// The store; `None` is the data directory.
    store: Option<String>,
    /// Those that may go, and whose bytes may be left.
    pub(super) let_go: Vec<KeptSnapshot>,
}

impl Worker {
    /// Has it keep snapshots of `state` in the store with this name, which is that of the journal; without one, in the data directory.
    /// Nothing is deleted then that no snapshot goes past.
    #[must_use]
    pub fn with_state(self, state: Box<dyn State>, store: Option<&str>) -> Self {
        let keeping = Keeping { state, store: store.map(str::to_owned), let_go: Vec::new() };
        Self { keeping: Some(keeping), ..self }
    }

    /// How far the state is saved; where that cannot be told, nothing counts as saved.
    pub(super) fn saved(&mut self, round: &mut Round<'_>) -> Option<Saved> {
        let keeping = self.keeping.as_ref()?;
        let travels = keeping.store.is_some();
        let saved = keeping.state.saved();
        let nothing = Saved { received: i64::MIN, travels, ..Saved::default() };
        match saved {
            Ok(saved) => Some(saved.map_or(nothing, |saved| Saved { travels, ..saved })),
            Err(source) => {
                let trouble = Trouble::State { source };
                self.fail(round, None, "look at the snapshots of the state", &trouble);
                Some(nothing)
            }
        }
    }

    /// The position behind everything that was deleted.
    pub(super) fn deleted_to(&mut self, view: &View) -> Result<u64, Trouble> {
        let known = match self.deleted_to {
            Some(known) => known,
            None => view.deleted_to()?,
        };
        self.deleted_to = Some(known);
        Ok(known)
    }

    /// Lets go of snapshots for which there are others.
    pub(super) fn let_go_of_snapshots(&mut self, round: &mut Round<'_>, plan: &Plan) -> Result<(), Trouble> {
        let kept = self.catalog.view()?.snapshots()?;
        for snapshot in kept.into_iter().filter(|kept| plan.snapshots.drop.contains(&kept.block)) {
            let why = round.because("newer ones serve, and enough of those in between");
            self.catalog.drop_snapshot(snapshot.block, &why)?;
            round.pass.dropped_snapshots += 1;
            if let Some(keeping) = &mut self.keeping {
                keeping.let_go.push(snapshot);
            }
        }
        Ok(())
    }

    /// Removes the bytes of snapshots that may go. What fails is found by the sweep.
    pub(super) fn clear_snapshots(&mut self, round: &mut Round<'_>) -> Result<(), Trouble> {
        let Some(keeping) = &mut self.keeping else { return Ok(()) };
        for snapshot in std::mem::take(&mut keeping.let_go) {
            match &snapshot.store {
                Some(name) => self.remove_object(round, self.store(name)?, &snapshot.object())?,
                None => remove(&snapshot.file(&self.data))?,
            }
        }
        Ok(())
    }

    /// Keeps the state as it was saved last, where the plan wants that.
    pub(super) fn keep_snapshot(&mut self, round: &mut Round<'_>, plan: &Plan) {
        if let Some(Waiting { segments, position, .. }) = plan.snapshots.waiting {
            let segments = counted(segments, "segment");
            round.wait(format!(
                "to delete {segments} waits for a snapshot up to position {position} or beyond"
            ));
        }
        if let Some(keeping) = self.keeping.as_ref().filter(|_| plan.snapshots.save) {
            keeping.state.want();
        }
        let Some(need) = plan.snapshots.keep else { return };
        match self.try_keep(round, &need.to_string()) {
            Ok(()) => self.patience.succeeded_at("keep a snapshot"),
            Err(Trouble::Store(error @ StoreError::Resting { .. })) => {
                round.wait(format!("a snapshot waits for its store: {error}"));
            }
            Err(trouble) => self.fail(round, None, "keep a snapshot", &trouble),
        }
    }

    fn try_keep(&mut self, round: &mut Round<'_>, why: &str) -> Result<(), Trouble> {
        let Some(outgoing) = self.outgoing(round)? else { return Ok(()) };
        let snapshot = outgoing.snapshot.clone();
        let file = snapshot.file(&self.data);
        if let Some(name) = &snapshot.store {
            let store = self.store(name)?.clone();
            self.catalog.check_term()?;
            let found = self.waiting.wait(send(&store, &self.catalog, outgoing, &file))?;
            round.pass.verified_bytes += found.bytes;
            if (found.hash, found.bytes) != (snapshot.hash, snapshot.bytes)
                && !planted(Mutant::SnapshotNotCompared)
            {
                let (store, object) = (name.clone(), snapshot.object());
                return Err(Trouble::Differs { store, object, found: found.bytes, sent: snapshot.bytes });
            }
        }
        self.catalog.keep_snapshot(&snapshot, &round.because(why))?;
        round.pass.snapshots += 1;
        if snapshot.store.is_some() {
            round.pass.uploaded_bytes += snapshot.bytes;
            remove(&file)?;
        }
        Ok(())
    }

    /// The snapshot that is on its way, or a new one of the state; `None` if it is kept already.
    fn outgoing(&mut self, round: &Round<'_>) -> Result<Option<Outgoing>, Trouble> {
        let Some(keeping) = &self.keeping else { return Ok(None) };
        let view = self.catalog.view()?;
        let newest = view.snapshots()?.last().map_or(0, |newest| newest.position);
        if let Some(outgoing) = view.outgoing()? {
            let KeptSnapshot { position, bytes, store, .. } = &outgoing.snapshot;
            let there =
                fs::metadata(outgoing.snapshot.file(&self.data)).is_ok_and(|file| file.len() == *bytes);
            if there && *position > newest && *store == keeping.store {
                return Ok(Some(outgoing));
            }
            self.give_up(&outgoing)?;
        }
        let (directory, free) = (directory(&self.data), round.moment.free);
        let bytes =
            keeping.state.saved().map_err(|source| Trouble::State { source })?.map_or(0, |saved| saved.bytes);
        if bytes > free / 2 {
            return Err(Trouble::NoRoom { bytes, free });
        }
        let unfinished = directory.join("unfinished");
        fs::create_dir_all(&directory).map_err(failed(&directory))?;
        let SavedFile { block, position, received, devices } =
            keeping.state.save(&unfinished).map_err(|source| Trouble::State { source })?;
        if position <= newest {
            remove(&unfinished)?;
            return Ok(None);
        }
        let Digest { hash, bytes } = digest(&unfinished).map_err(failed(&unfinished))?;
        let store = keeping.store.clone();
        let snapshot = KeptSnapshot { block, position, received, devices, bytes, hash, store };
        let file = snapshot.file(&self.data);
        fs::rename(&unfinished, &file).map_err(failed(&file))?;
        File::open(&directory).and_then(|directory| directory.sync_all()).map_err(failed(&directory))?;
        let outgoing = Outgoing { snapshot, parts: None };
        self.catalog.note_outgoing(Some(&outgoing))?;
        Ok(Some(outgoing))
    }

    /// Forgets a snapshot that was on its way, with all that has arrived of it.
    fn give_up(&self, outgoing: &Outgoing) -> Result<(), Trouble> {
        if let (Some(parts), Some(store)) = (&outgoing.parts, &outgoing.snapshot.store) {
            self.waiting.wait(self.store(store)?.abort(parts))?;
        }
        Ok(self.catalog.note_outgoing(None)?)
    }

    /// Compares the snapshots in a store with the catalog, where it is the store for them.
    pub(super) fn sweep_snapshots(
        &mut self,
        round: &mut Round<'_>,
        view: &View,
        name: &str,
    ) -> Result<(), Trouble> {
        if self.keeping.as_ref().and_then(|keeping| keeping.store.as_deref()) != Some(name) {
            return Ok(());
        }
        let store = self.store(name)?.clone();
        let (kept, outgoing) = (view.snapshots()?, view.outgoing()?);
        let (mut there, mut garbage, mut strange) = (Vec::new(), Vec::new(), Vec::new());
        self.waiting.wait(store.list(crate::snapshot::SHELF, |object| match parse_object(&object.path) {
            Some(block) if kept.iter().any(|kept| kept.block == block) => there.push((block, object.bytes)),
            Some(block) if outgoing.as_ref().is_some_and(|outgoing| outgoing.snapshot.block == block) => {}
            Some(_) => garbage.push(object.path),
            None => strange.push(object.path),
        }))?;
        for object in garbage {
            self.remove_object(round, &store, &object)?;
        }
        for snapshot in kept.iter().filter(|kept| kept.store.as_deref() == Some(name)) {
            if there.contains(&(snapshot.block, snapshot.bytes)) {
                continue;
            }
            // A listing may lag behind.
            let found = self.waiting.wait(store.size(&snapshot.object()))?;
            if found != Some(snapshot.bytes) {
                self.lose(round, snapshot, found)?;
            }
        }
        match strange.pop() {
            Some(object) => Err(Trouble::Stray { object, what: "this is no name of a snapshot's object" }),
            None => Ok(()),
        }
    }

    /// Compares the snapshots that are kept on this disk with the catalog.
    pub(super) fn sweep_local_snapshots(
        &mut self,
        round: &mut Round<'_>,
        view: &View,
    ) -> Result<(), Trouble> {
        if self.keeping.is_none() {
            return Ok(());
        }
        let (kept, outgoing) = (view.snapshots()?, view.outgoing()?);
        let here = |block| kept.iter().any(|kept| kept.block == block && kept.store.is_none());
        let leaves = |block| outgoing.as_ref().is_some_and(|outgoing| outgoing.snapshot.block == block);
        for (block, file) in files(&directory(&self.data))? {
            if !here(block) && !leaves(block) {
                remove(&file)?;
                round.pass.cleared += 1;
            }
        }
        for snapshot in kept.iter().filter(|kept| kept.store.is_none()) {
            let found = fs::metadata(snapshot.file(&self.data)).ok().map(|file| file.len());
            if found != Some(snapshot.bytes) {
                self.lose(round, snapshot, found)?;
            }
        }
        Ok(())
    }

    fn lose(
        &self,
        round: &mut Round<'_>,
        snapshot: &KeptSnapshot,
        found: Option<u64>,
    ) -> Result<(), Trouble> {
        let reason = match found {
            Some(bytes) => format!("it has {bytes} bytes now, and had {}", snapshot.bytes),
            None => "it is gone".to_owned(),
        };
        tracing::warn!(snapshot = snapshot.block, reason, "a kept snapshot does not count any more");
        self.catalog.snapshot_lost(snapshot.block, &round.because(&reason))?;
        round.pass.dropped_snapshots += 1; // so that the next pass looks at once whether another one is needed
        Ok(())
    }
}

/// Uploads a snapshot and reads it back.
async fn send(
    store: &Store,
    catalog: &Catalog,
    outgoing: Outgoing,
    file: &Path,
) -> Result<Digest, StoreError> {
    let object = outgoing.snapshot.object();
    let sent = store.upload(&object, None, file, &mut Journaled { catalog, outgoing }).await?;
    if planted(Mutant::SnapshotNotCompared) { Ok(sent) } else { store.read_back(&object).await }
}

/// The upload of a snapshot in parts, which the catalog keeps.
struct Journaled<'c> {
    catalog: &'c Catalog,
    outgoing: Outgoing,
}

impl Progress for Journaled<'_> {
    fn resumed(&self) -> Option<Parts> {
        self.outgoing.parts.clone()
    }

    fn keep(&mut self, parts: Option<&Parts>) -> io::Result<()> {
        self.outgoing.parts = parts.cloned();
        self.catalog.note_outgoing(Some(&self.outgoing)).map_err(io::Error::other)
    }
}

fn digest(file: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(file)?)?;
    Ok(Digest { hash: *hasher.finalize().as_bytes(), bytes: hasher.count() })
}

/// The snapshots in a directory that may not be there.
fn files(directory: &Path) -> Result<Vec<(u64, PathBuf)>, Trouble> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed(directory))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed(directory))?.path();
        files.extend(
            path.file_name().and_then(|name| parse_file(name.to_str()?)).map(|block| (block, path.clone())),
        );
    }
    Ok(files)
}

fn remove(file: &Path) -> Result<(), Trouble> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(file)(error)),
        _ => Ok(()),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Trouble + use<> {
    let path = path.to_owned();
    |source| Trouble::File { path, source }
}
