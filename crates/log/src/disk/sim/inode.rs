//! One file's bytes: as the page cache shows them, and as the disk holds them.

use std::collections::BTreeSet;
use std::ops::Range;

use fastrand::Rng;

/// Bytes that a disk writes as one.
pub(super) const SECTOR: usize = 512;

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors in which the two may differ, and that the next sync writes. After a failed sync others differ too.
    dirty: BTreeSet<usize>,
    len_dirty: bool,
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        self.cached.len() as u64
    }

    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> usize {
        let rest =
            usize::try_from(offset).ok().and_then(|offset| self.cached.get(offset..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        n
    }

    pub(super) fn write_at(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        let start = usize::try_from(offset).expect("simulated files fit in memory");
        let end = start + bytes.len();
        if end > self.cached.len() {
            self.set_len(end as u64);
        }
        self.cached[start..end].copy_from_slice(bytes);
        self.dirty.extend(start / SECTOR..end.div_ceil(SECTOR));
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let len = usize::try_from(len).expect("simulated files fit in memory");
        if len < self.cached.len() {
            // Should the file grow again, these sectors are zeros, whatever the disk still holds there.
            self.dirty.extend(len / SECTOR..self.cached.len().div_ceil(SECTOR));
        }
        self.len_dirty |= len != self.cached.len();
        self.cached.resize(len, 0);
    }

    pub(super) fn sync(&mut self) {
        if std::mem::take(&mut self.len_dirty) {
            self.durable.resize(self.cached.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            self.write_back(sector);
        }
    }

    /// A sync that fails: some sectors reach the disk, and all count as clean.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        self.reach_disk(0.5, rng);
    }

    /// The cache is gone, after it had written back some of what was dirty.
    pub(super) fn lose_power(&mut self, survival: f64, rng: &mut Rng) {
        self.reach_disk(survival, rng);
        self.cached.clone_from(&self.durable);
    }

    /// Clean pages are dropped from the cache and read again from the disk.
    pub(super) fn evict_clean_pages(&mut self) {
        for sector in (0..self.cached.len().div_ceil(SECTOR)).filter(|sector| !self.dirty.contains(sector)) {
            let range = bytes_of(sector, self.cached.len());
            let on_disk = self.durable.get(range.start..).unwrap_or_default();
            let n = on_disk.len().min(range.len());
            self.cached[range.start..range.start + n].copy_from_slice(&on_disk[..n]);
            self.cached[range.start + n..range.end].fill(0);
        }
    }

    pub(super) fn flip_bit(&mut self, bit: u64) {
        let byte = usize::try_from(bit / 8).expect("simulated files fit in memory");
        for bytes in [&mut self.cached, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(byte) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    fn reach_disk(&mut self, survival: f64, rng: &mut Rng) {
        if std::mem::take(&mut self.len_dirty) && rng.f64() < survival {
            self.durable.resize(self.cached.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            if rng.f64() < survival {
                self.write_back(sector);
            }
        }
    }

    fn write_back(&mut self, sector: usize) {
        let range = bytes_of(sector, self.cached.len().min(self.durable.len()));
        self.durable[range.clone()].copy_from_slice(&self.cached[range]);
    }
}

/// Where a sector lies in a file of `len` bytes; empty if it lies behind its end.
fn bytes_of(sector: usize, len: usize) -> Range<usize> {
    let start = (sector * SECTOR).min(len);
    start..(start + SECTOR).min(len)
}
