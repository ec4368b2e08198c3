//! A disk in memory that crashes: whatever POSIX leaves open about unsynced bytes and directory entries, it decides
//! by a seed, and unkindly.

mod inode;
mod namespace;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;

use self::inode::{Inode, SECTOR};
use self::namespace::{Change, Namespace, Node};
use super::{Access, Disk, DiskFile, DiskLock};

/// How a simulated machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process dies and the page cache survives, except for clean pages, which the kernel may have evicted.
    Process,
    /// The power fails. Of what was not synced, any 512-byte sectors and any first directory changes may survive.
    Power,
}

/// A disk in memory that crashes. Clones are the same disk.
///
/// Everything it decides follows from its seed and the order of the calls.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug, Clone)]
struct State {
    rng: Rng,
    inodes: Vec<Inode>,
    names: Namespace,
    locks: BTreeSet<PathBuf>,
    /// Bytes that files may take together; `None` = no bound.
    capacity: Option<u64>,
    /// Counts crashes: handles and locks of an earlier boot are dead.
    boot: u64,
    /// Changes that still succeed before the machine goes down.
    fuse: Option<u64>,
    down: bool,
    fail_next_sync: bool,
}

impl SimDisk {
    /// An empty disk without a bound on space.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: Rng::with_seed(seed),
            inodes: Vec::new(),
            names: Namespace::default(),
            locks: BTreeSet::new(),
            capacity: None,
            boot: 0,
            fuse: None,
            down: false,
            fail_next_sync: false,
        })))
    }

    /// The machine goes down and comes up again: open files and locks are gone, and what survives is decided.
    pub fn crash(&self, crash: Crash) {
        let mut state = self.state();
        let State { rng, inodes, names, .. } = &mut *state;
        match crash {
            Crash::Process => {
                if rng.bool() {
                    inodes.iter_mut().for_each(Inode::evict_clean_pages);
                }
            }
            Crash::Power => {
                // Everything made it, or nothing, or anything in between.
                let survival = [0.0, rng.f64(), 1.0][rng.usize(..3)];
                inodes.iter_mut().for_each(|inode| inode.lose_power(survival, rng));
                names.lose_power(survival, rng);
            }
        }
        state.locks.clear();
        state.boot += 1;
        state.fuse = None;
        state.down = false;
        state.fail_next_sync = false;
    }

    /// After `changes` more changes (writes, syncs, creations, renames …) every operation fails, as on a machine that
    /// is going down, until [`SimDisk::crash`]. The last write may be half done.
    pub fn go_down_after(&self, changes: u64) {
        self.state().fuse = Some(changes);
    }

    /// Whether operations fail because the machine is going down.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.state().down
    }

    /// The next file sync fails. Its dirty pages are clean from then on, whether they reached the disk or not.
    pub fn fail_next_sync(&self) {
        self.state().fail_next_sync = true;
    }

    /// Bounds the space that files take together, in bytes; `None` = no bound. What is there stays, even beyond it.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.state().capacity = capacity;
    }

    /// Takes back what was still to go wrong: the machine stays up, syncs succeed, and space is unbounded.
    pub fn mend(&self) {
        let mut state = self.state();
        state.fuse = None;
        state.fail_next_sync = false;
        state.capacity = None;
    }

    /// Another disk with the same content, as if copied by another machine while nobody writes.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self(Arc::new(Mutex::new(self.state().clone())));
        copy.crash(Crash::Process);
        copy
    }

    /// Bytes that files take together.
    #[must_use]
    pub fn used_space(&self) -> u64 {
        self.state().used_space()
    }

    /// Every file with its length in bytes, sorted by path.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let len = |inode: usize| state.inodes[inode].len();
        state.names.files().map(|(path, inode)| (path.to_owned(), len(inode))).collect()
    }

    /// Inverts one bit of a file, on the disk and in the cache.
    ///
    /// # Panics
    /// When there is no such file, or it has no such bit.
    pub fn flip_bit(&self, path: &Path, bit: u64) {
        let mut state = self.state();
        let inode = state.names.file(path).expect("only bits of existing files can be flipped");
        state.inodes[inode].flip_bit(bit);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it is held is a failed test, which reports itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn working(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.down { Err(going_down()) } else { Ok(state) }
    }

    /// The state, before a change that counts for [`SimDisk::go_down_after`].
    fn changing(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.working()?;
        if state.burns_fuse() { Err(going_down()) } else { Ok(state) }
    }
}

impl State {
    fn used_space(&self) -> u64 {
        let files: BTreeMap<usize, u64> =
            self.names.files().map(|(_, inode)| (inode, self.inodes[inode].len())).collect();
        files.values().map(|len| len.next_multiple_of(SECTOR as u64)).sum()
    }

    fn free_space(&self) -> u64 {
        self.capacity.map_or(1 << 40, |capacity| capacity.saturating_sub(self.used_space()))
    }

    /// Counts one change; says whether the machine goes down instead of making it.
    fn burns_fuse(&mut self) -> bool {
        match &mut self.fuse {
            Some(0) => self.down = true,
            Some(left) => *left -= 1,
            None => {}
        }
        self.down
    }

    /// Fails if the file cannot grow to `len`.
    fn check_space(&self, inode: usize, len: u64) -> io::Result<()> {
        let sectors = |len: u64| len.next_multiple_of(SECTOR as u64);
        let growth = sectors(len).saturating_sub(sectors(self.inodes[inode].len()));
        if growth > self.free_space() {
            return Err(io::Error::new(ErrorKind::StorageFull, "no space left on the simulated disk"));
        }
        Ok(())
    }
}

fn going_down() -> io::Error {
    io::Error::other("the simulated machine is going down")
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.working()?;
        let inode = match state.names.file(path) {
            Some(inode) => {
                if access == Access::Truncate && state.inodes[inode].len() > 0 {
                    drop(state);
                    state = self.changing()?;
                    state.inodes[inode].set_len(0);
                }
                inode
            }
            None if access == Access::Read => return Err(ErrorKind::NotFound.into()),
            None => {
                drop(state);
                state = self.changing()?;
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.names.change(Change::Link { path: path.to_owned(), node: Node::File(inode) })?;
                inode
            }
        };
        let boot = state.boot;
        Ok(Arc::new(SimFile { disk: self.clone(), inode, boot }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.changing()?.names.change(Change::Rename { from: from.to_owned(), to: to.to_owned() })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.changing()?.names.change(Change::Unlink { path: path.to_owned() })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.working()?;
        let missing: Vec<_> = path.ancestors().filter(|dir| !state.names.is_dir(dir)).collect();
        for dir in missing.into_iter().rev() {
            drop(state);
            state = self.changing()?;
            state.names.change(Change::Link { path: dir.to_owned(), node: Node::Dir })?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.working()?.names.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.changing()?.names.sync(dir)
    }

    fn free_space(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.working()?.free_space())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        self.open(path, Access::Write)?;
        let mut state = self.working()?;
        let boot = state.boot;
        let free = state.locks.insert(path.to_owned());
        Ok(free.then(|| DiskLock::new(SimLock { disk: self.clone(), path: path.to_owned(), boot })))
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        Ok(self.working()?.locks.contains(path))
    }

    fn random(&self) -> [u8; 16] {
        self.state().rng.u128(..).to_le_bytes()
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    boot: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.boot == self.boot {
            state.locks.remove(&self.path);
        }
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
    boot: u64,
}

impl SimFile {
    fn check_boot(&self, state: &State) -> io::Result<()> {
        if state.boot == self.boot {
            Ok(())
        } else {
            Err(io::Error::other("the file was opened before the simulated machine crashed"))
        }
    }

    fn reading(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.working()?;
        self.check_boot(&state)?;
        Ok(state)
    }

    fn changing(&self) -> io::Result<MutexGuard<'_, State>> {
        drop(self.reading()?);
        self.disk.changing()
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.reading()?.inodes[self.inode].len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.reading()?.inodes[self.inode].read_at(buf, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.reading()?;
        state.check_space(self.inode, offset + bytes.len() as u64)?;
        if state.burns_fuse() {
            let done = state.rng.usize(..=bytes.len());
            state.inodes[self.inode].write_at(&bytes[..done], offset);
            return Err(going_down());
        }
        state.inodes[self.inode].write_at(bytes, offset);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.changing()?;
        if len > state.inodes[self.inode].len() {
            state.check_space(self.inode, len)?;
            state.inodes[self.inode].set_len(len);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.changing()?;
        state.check_space(self.inode, len)?;
        state.inodes[self.inode].set_len(len);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.changing()?;
        let State { rng, inodes, fail_next_sync, .. } = &mut *state;
        if std::mem::take(fail_next_sync) {
            inodes[self.inode].fail_sync(rng);
            return Err(io::Error::other("simulated input/output error"));
        }
        inodes[self.inode].sync();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with(path: &str, bytes: &[u8]) -> (SimDisk, Arc<dyn DiskFile>) {
        let disk = SimDisk::new(7);
        let file = disk.open(Path::new(path), Access::Write).unwrap();
        file.write_at(bytes, 0).unwrap();
        (disk, file)
    }

    fn content(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
        let file = disk.open(Path::new(path), Access::Read).ok()?;
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        Some(bytes)
    }

    #[test]
    fn what_was_synced_survives_a_power_failure_and_the_rest_may_not() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            let file = disk.open(Path::new("/a"), Access::Write).unwrap();
            file.write_at(&[1; 2048], 0).unwrap();
            file.sync().unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            file.write_at(&[2; 1024], 1024).unwrap();
            disk.crash(Crash::Power);
            let bytes = content(&disk, "/a").unwrap();
            assert_eq!(bytes[..1024], [1; 1024]);
            outcomes.insert((bytes[1024], bytes[1536]));
        }
        assert_eq!(outcomes, BTreeSet::from([(1, 1), (1, 2), (2, 1), (2, 2)]), "torn and reordered");
    }

    #[test]
    fn a_directory_entry_is_lost_unless_the_directory_was_synced() {
        let lost = (0..20).filter(|&seed| {
            let disk = SimDisk::new(seed);
            disk.open(Path::new("/a"), Access::Write).unwrap().sync().unwrap();
            disk.crash(Crash::Power);
            content(&disk, "/a").is_none()
        });
        assert!((1..20).contains(&lost.count()));
    }

    #[test]
    fn after_a_failed_sync_the_cache_shows_what_the_disk_never_got() {
        let lost = (0..50).filter(|&seed| {
            let disk = SimDisk::new(seed);
            let file = disk.open(Path::new("/a"), Access::Write).unwrap();
            file.allocate(512).unwrap();
            file.sync().unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            file.write_at(&[1; 512], 0).unwrap();
            disk.fail_next_sync();
            assert!(file.sync().is_err());
            assert!(file.sync().is_ok(), "and the next one succeeds without writing anything");
            assert_eq!(content(&disk, "/a").unwrap(), [1; 512]);
            disk.crash(Crash::Power);
            content(&disk, "/a").unwrap() == [0; 512]
        });
        assert!((5..45).contains(&lost.count()));
    }

    #[test]
    fn a_full_disk_takes_writes_only_where_space_was_allocated() {
        let (disk, file) = disk_with("/a", &[0; 1024]);
        disk.set_capacity(Some(1024));
        file.write_at(&[1; 1024], 0).unwrap();
        assert_eq!(file.write_at(&[1], 1024).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(file.allocate(4096).unwrap_err().kind(), ErrorKind::StorageFull);
        disk.set_capacity(None);
        file.allocate(4096).unwrap();
    }

    #[test]
    fn a_machine_that_goes_down_does_nothing_until_it_has_crashed() {
        let (disk, file) = disk_with("/a", &[1; 512]);
        disk.go_down_after(1);
        file.sync().unwrap();
        assert!(file.write_at(&[2; 512], 0).is_err());
        assert!(disk.is_down() && file.sync().is_err() && disk.list(Path::new("/")).is_err());
        let lock = |disk: &SimDisk| disk.lock(Path::new("/lock"));
        assert!(lock(&disk).is_err());
        disk.crash(Crash::Process);
        assert!(file.sync().is_err(), "handles do not survive");
        let held = lock(&disk).unwrap();
        assert!(held.is_some() && lock(&disk).unwrap().is_none());
        drop(held);
        assert!(lock(&disk).unwrap().is_some());
    }
}
