//! What opening a snapshot and looking a device up in it reads.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use icecore_log::disk::{Access, DiskLock, SimDisk};
use icecore_log::{Disk, DiskFile};
use icecore_state::Fleet;
use icecore_state::snapshot::{Kind, Snapshot, Snapshots};

use super::history::History;
use super::snapshots::{DATA, head, one_history};

/// A disk that counts the bytes that are read from it.
#[derive(Clone)]
struct Counting {
    disk: SimDisk,
    read: Arc<AtomicU64>,
}

struct CountingFile(Arc<dyn DiskFile>, Arc<AtomicU64>);

impl Counting {
    fn take(&self) -> u64 {
        self.read.swap(0, Ordering::Relaxed)
    }
}

impl Disk for Counting {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(CountingFile(self.disk.open(path, access)?, Arc::clone(&self.read))))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_space(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        self.disk.lock(path)
    }
    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        self.disk.is_locked(path)
    }
    fn random(&self) -> [u8; 16] {
        self.disk.random()
    }
}

impl DiskFile for CountingFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

fn name(device: u32) -> String {
    format!("hall/press {device:05}")
}

/// Writes so many devices; returns the disk and the file.
fn write(devices: u32, history: &History) -> (Counting, Snapshot) {
    let mut fleet = Fleet::default();
    for device in 0..devices {
        // The odd names are not there.
        history.told_of(&name(2 * device)).iter().for_each(|batch| batch.fold_into(&mut fleet));
    }
    let disk = Counting { disk: SimDisk::new(1), read: Arc::default() };
    disk.create_dir(Path::new(DATA)).unwrap();
    let snapshots = Snapshots::new(Arc::new(disk.clone()), Path::new(DATA));
    let devices = fleet.devices().map(|(name, state)| Ok((name.clone(), Arc::clone(state))));
    let snapshot = snapshots.write(head(Kind::Full, 1), devices).unwrap();
    (disk, snapshot)
}

#[test]
fn opening_reads_as_much_of_a_small_snapshot_as_of_a_large_one() {
    let history = one_history()(0);
    let opened = [3, 20_000].map(|devices| {
        let (disk, snapshot) = write(devices, &history);
        disk.take();
        Snapshot::open(&disk, snapshot.path()).unwrap();
        disk.take()
    });
    assert_eq!(opened[0], opened[1]);
}

#[test]
fn a_device_is_found_by_reading_one_page_a_level() {
    let (disk, snapshot) = write(20_000, &one_history()(0));
    disk.take();
    let mut most = 0;
    for device in (0..20_000).step_by(77).chain([19_999]) {
        assert!(snapshot.device(&name(2 * device).parse().unwrap()).unwrap().is_some(), "{device}");
        most = most.max(disk.take());
        assert!(snapshot.device(&name(2 * device + 1).parse().unwrap()).unwrap().is_none(), "{device}");
        most = most.max(disk.take());
    }
    assert!(snapshot.device(&"a".parse().unwrap()).unwrap().is_none());
    // 16 KiB of devices, and two levels of branches with 48 bytes or so a child.
    assert!(most < 64 << 10, "{most} bytes of {}", snapshot.bytes());
    assert!(snapshot.bytes() > 10 << 20, "{}", snapshot.bytes());
}
