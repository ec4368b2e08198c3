//! The pages of a snapshot: a tree that is written in one pass over sorted devices, and read a page at a time.

use std::io;
use std::path::Path;

use icecore_log::DiskFile;
use icecore_log::sealed::ReadAt;
use rkyv::api::high::{HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::vec::ArchivedVec;
use rkyv::{Archive, Deserialize, Portable, Serialize};

use super::SnapshotError;
use super::head::HEAD_BYTES;
use super::record::DeviceV1;

/// A leaf with about this many bytes is full. Small enough that one device costs little to read, large enough that branches are few.
const LEAF_BYTES: usize = 16 << 10;

/// Children of a branch.
const FANOUT: usize = 256;

/// Bytes that are written at once.
const WRITE_BYTES: usize = 1 << 20;

/// No page is larger: a device has at most 64 open epochs of 1,024 ranges and a thousand fields a schema. The bound keeps a
/// reader from allocating whatever a page says.
const MAX_PAGE_BYTES: u32 = 1 << 30;

/// Where a page is, and what it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct PageRef {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
}

/// A page below a branch.
#[derive(Debug, Archive, Serialize, Deserialize)]
pub(super) struct ChildV1 {
    /// The name of the first device in it or below it.
    pub(super) first: String,
    pub(super) page: PageRef,
}

/// Appends pages to a file.
pub(super) struct PageWriter<'a> {
    file: &'a dyn DiskFile,
    path: &'a Path,
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    offset: u64,
}

impl<'a> PageWriter<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, path: &'a Path) -> Self {
        // Pages start on multiples of 16, the first one behind the head.
        Self { file, path, buffer: Vec::new(), offset: HEAD_BYTES.next_multiple_of(16) as u64 }
    }

    pub(super) fn page<T>(&mut self, content: &T) -> Result<PageRef, SnapshotError>
    where
        T: for<'b> Serialize<HighSerializer<AlignedVec, ArenaHandle<'b>, Error>>,
    {
        let bytes = rkyv::to_bytes::<Error>(content).expect("a page is far smaller than 2 GiB");
        let page = PageRef {
            offset: self.offset + self.buffer.len() as u64,
            len: bytes.len() as u32,
            crc: crc32c::crc32c(&bytes),
        };
        self.buffer.extend_from_slice(&bytes);
        self.buffer.resize(self.buffer.len().next_multiple_of(16), 0);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(page)
    }

    fn flush(&mut self) -> Result<(), SnapshotError> {
        self.file.write_at(&self.buffer, self.offset).map_err(SnapshotError::io("write", self.path))?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left; returns where the pages end.
    pub(super) fn finish(mut self) -> Result<u64, SnapshotError> {
        self.flush()?;
        Ok(self.offset)
    }
}

/// Builds the tree of devices that come in the order of their names.
#[derive(Default)]
pub(super) struct TreeBuilder {
    leaf: Vec<DeviceV1>,
    leaf_bytes: usize,
    /// Pages that no branch names yet; those of leaves first.
    levels: Vec<Vec<ChildV1>>,
}

impl TreeBuilder {
    pub(super) fn add(&mut self, pages: &mut PageWriter<'_>, device: DeviceV1) -> Result<(), SnapshotError> {
        self.leaf_bytes += device.weight();
        self.leaf.push(device);
        if self.leaf_bytes >= LEAF_BYTES { self.end_leaf(pages) } else { Ok(()) }
    }

    /// The page at the top and the number of levels of branches; one without bytes if there are no devices.
    pub(super) fn finish(mut self, pages: &mut PageWriter<'_>) -> Result<(PageRef, u32), SnapshotError> {
        if !self.leaf.is_empty() {
            self.end_leaf(pages)?;
        }
        let mut level = 0;
        while level < self.levels.len() {
            if let ([only], true) = (&self.levels[level][..], level + 1 == self.levels.len()) {
                return Ok((only.page, level as u32));
            }
            self.end_branch(pages, level)?;
            level += 1;
        }
        Ok((PageRef { offset: 0, len: 0, crc: 0 }, 0))
    }

    fn end_leaf(&mut self, pages: &mut PageWriter<'_>) -> Result<(), SnapshotError> {
        let first = self.leaf[0].name.clone();
        let page = pages.page(&self.leaf)?;
        self.leaf.clear();
        self.leaf_bytes = 0;
        self.add_child(pages, 0, ChildV1 { first, page })
    }

    fn add_child(
        &mut self,
        pages: &mut PageWriter<'_>,
        level: usize,
        child: ChildV1,
    ) -> Result<(), SnapshotError> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(child);
        if self.levels[level].len() >= FANOUT { self.end_branch(pages, level) } else { Ok(()) }
    }

    fn end_branch(&mut self, pages: &mut PageWriter<'_>, level: usize) -> Result<(), SnapshotError> {
        let children = std::mem::take(&mut self.levels[level]);
        let Some(first) = children.first().map(|child| child.first.clone()) else { return Ok(()) };
        let page = pages.page(&children)?;
        self.add_child(pages, level + 1, ChildV1 { first, page })
    }
}

/// A page that was read and passed its checksum.
pub(super) struct Page(AlignedVec<16>);

impl Page {
    /// Reads a page of a file that has `file_len` bytes.
    pub(super) fn read(
        file: &dyn ReadAt,
        path: &Path,
        file_len: u64,
        page: PageRef,
    ) -> Result<Self, SnapshotError> {
        let damaged = |what: &str| SnapshotError::damaged(path, page.offset, what);
        let end = page.offset.checked_add(page.len.into()).filter(|end| *end <= file_len);
        if end.is_none() || page.len > MAX_PAGE_BYTES {
            return Err(damaged("the page reaches beyond the end of the file"));
        }
        let mut bytes = AlignedVec::new();
        bytes.resize(page.len as usize, 0);
        file.read_at(page.offset, &mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged("the page is cut short"),
            _ => SnapshotError::io("read", path)(error),
        })?;
        if crc32c::crc32c(&bytes) != page.crc {
            return Err(damaged("the page fails its CRC32C"));
        }
        Ok(Self(bytes))
    }

    /// What is in it, as it lies.
    pub(super) fn list<T>(&self) -> Result<&ArchivedVec<T>, String>
    where
        T: Portable + for<'b> CheckBytes<HighValidator<'b, Error>>,
    {
        rkyv::access::<ArchivedVec<T>, Error>(&self.0).map_err(|error| error.to_string())
    }
}
