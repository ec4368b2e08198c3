//! A snapshot of a million devices: opening it, and finding devices in it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use icecore_benches::{batch, schema};
use icecore_log::disk::{Access, DiskLock};
use icecore_log::{Disk, DiskFile, LogPoint, RealDisk};
use icecore_state::DeviceState;
use icecore_state::snapshot::{Kind, Snapshot, SnapshotError, SnapshotHead, Snapshots};
use icecore_wire::{Batch, DeviceName, EncodeOptions};

const DEVICES: u64 = 1_000_000;
const LOOKUPS: u64 = 1_000;

/// Writes it, and prints what opening it and looking devices up takes.
pub(crate) fn measure(directory: &Path) -> anyhow::Result<()> {
    let mut state = DeviceState::default();
    let rows = Batch::validate(batch(0, 100, EncodeOptions::PLAIN), schema())?;
    state.fold(0, i64::MAX, &rows, 0..100);
    let state = Arc::new(state);
    let point = LogPoint { block: 1, position: 100 * DEVICES, chain: [3; 32] };
    let head =
        SnapshotHead { log: [1; 16], kind: Kind::Full, point, term: 1, received: 0, created: 0, devices: 0 };
    let data = directory.join("million");
    std::fs::create_dir_all(&data)?;
    let device = |number: u64| Ok::<_, SnapshotError>((name(number), Arc::clone(&state)));
    let path =
        Snapshots::new(Arc::new(RealDisk), &data).write(head, (0..DEVICES).map(device))?.path().to_owned();

    let disk = Counting::default();
    let begin = Instant::now();
    let snapshot = Snapshot::open(&disk, &path)?;
    let opened = begin.elapsed();
    println!(
        "a snapshot of {DEVICES} devices, {} MB: opened in {:.3} ms, {}",
        snapshot.bytes() / 1_000_000,
        opened.as_secs_f64() * 1e3,
        disk.take()
    );
    let begin = Instant::now();
    for lookup in 0..LOOKUPS {
        let number = lookup.wrapping_mul(0x9E37_79B9_7F4A_7C15) % DEVICES;
        anyhow::ensure!(snapshot.device(&name(number))?.is_some(), "device {number} is in it");
    }
    let each = begin.elapsed() / LOOKUPS as u32;
    println!(
        "  {LOOKUPS} devices found in {:.3} ms each, {} altogether",
        each.as_secs_f64() * 1e3,
        disk.take()
    );
    Ok(())
}

fn name(number: u64) -> DeviceName {
    format!("plant/pump-{number:07}").parse().expect("it is short and has no control characters")
}

/// A disk that counts what is read from it.
#[derive(Clone, Default)]
struct Counting {
    reads: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

struct CountingFile(Arc<dyn DiskFile>, Counting);

impl Counting {
    fn take(&self) -> String {
        let (reads, bytes) = (self.reads.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed));
        format!("{reads} reads of {bytes} bytes")
    }
}

impl Disk for Counting {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(CountingFile(RealDisk.open(path, access)?, self.clone())))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_space(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        RealDisk.lock(path)
    }
    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        RealDisk.is_locked(path)
    }
    fn random(&self) -> [u8; 16] {
        RealDisk.random()
    }
}

impl DiskFile for CountingFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.0.read_at(buf, offset)?;
        self.1.reads.fetch_add(1, Ordering::Relaxed);
        self.1.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
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
