//! One snapshot, open for reading.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_log::Disk;
use icecore_log::disk::Access;
use icecore_log::sealed::ReadAt;
use icecore_wire::{DeviceName, Schema};
use rkyv::rancor::Error;

use super::head::{self, HEAD_BYTES, Layout};
use super::record::{ArchivedDeviceV1, DeviceV1, Schemas};
use super::tree::{ArchivedChildV1, ChildV1, Page, PageRef};
use super::{SnapshotError, SnapshotHead};
use crate::DeviceState;

/// A snapshot that is open: its head and the schemas of its devices are in memory, its devices are not.
pub struct Snapshot {
    file: Arc<dyn ReadAt>,
    path: PathBuf,
    head: SnapshotHead,
    layout: Layout,
    schemas: Schemas,
}

impl Snapshot {
    /// Opens the snapshot at `path`. However many devices it holds, its head and one page are read.
    ///
    /// # Errors
    /// When it cannot be read, is damaged where it was read, or a later version wrote it.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, SnapshotError> {
        let file = disk.open(path, Access::Read).map_err(SnapshotError::io("open", path))?;
        Self::read(Arc::new(file), path)
    }

    /// Opens a snapshot whose bytes are in `file`, wherever that is: pages are read when they are asked for. Errors call it `path`.
    ///
    /// # Errors
    /// As [`Snapshot::open`].
    pub fn read(file: Arc<dyn ReadAt>, path: &Path) -> Result<Self, SnapshotError> {
        let len = file.len().map_err(SnapshotError::io("read the length of", path))?;
        let mut bytes = [0; HEAD_BYTES];
        let there = &mut bytes[..HEAD_BYTES.min(usize::try_from(len).unwrap_or(HEAD_BYTES))];
        file.read_at(0, there).map_err(SnapshotError::io("read", path))?;
        let (head, layout) = head::decode(there, path)?;
        if len != layout.len {
            let what = format!("the file has {len} bytes, not {}", layout.len);
            return Err(SnapshotError::damaged(path, len.min(layout.len), what));
        }
        let mut snapshot = Self { file, path: path.to_path_buf(), head, layout, schemas: Schemas::new() };
        snapshot.schemas = snapshot.read_schemas()?;
        Ok(snapshot)
    }

    /// What it is of.
    #[must_use]
    pub fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of its file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layout.len
    }

    /// The schemas of its devices.
    pub fn schemas(&self) -> impl Iterator<Item = &Arc<Schema>> {
        self.schemas.values()
    }

    /// The state of one device; `None` if it is not in here. Reads one page of each level of the tree.
    ///
    /// # Errors
    /// When a page on the way cannot be read or is damaged.
    pub fn device(&self, name: &DeviceName) -> Result<Option<DeviceState>, SnapshotError> {
        if self.layout.root.len == 0 {
            return Ok(None);
        }
        let mut at = self.layout.root;
        for _ in 0..self.layout.height {
            let page = self.page(at)?;
            let children = page.list::<ArchivedChildV1>().map_err(|what| self.damaged(at, what))?;
            let behind = children.partition_point(|child| child.first.as_str() <= name.as_str());
            let Some(child) = behind.checked_sub(1).map(|child| &children[child]) else { return Ok(None) };
            at = PageRef {
                offset: child.page.offset.into(),
                len: child.page.len.into(),
                crc: child.page.crc.into(),
            };
        }
        let page = self.page(at)?;
        let devices = page.list::<ArchivedDeviceV1>().map_err(|what| self.damaged(at, what))?;
        let Ok(found) = devices.binary_search_by(|device| device.name.as_str().cmp(name.as_str())) else {
            return Ok(None);
        };
        self.restore(at, &devices[found]).map(|(_, state)| Some(state))
    }

    /// All devices in the order of their names. An error ends them.
    #[must_use]
    pub fn devices(&self) -> Devices<'_> {
        let root = (self.layout.root.len > 0).then_some((self.layout.root, self.layout.height));
        Devices {
            snapshot: self,
            pages: root.into_iter().collect(),
            leaf: Vec::new().into_iter(),
            last: None,
        }
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// When any part of it cannot be read or is damaged.
    pub fn verify(&self) -> Result<(), SnapshotError> {
        let mut count = 0;
        for device in self.devices() {
            device?;
            count += 1;
        }
        if count == self.head.devices {
            return Ok(());
        }
        let what = format!("there are {count} devices in it, not {}", self.head.devices);
        Err(SnapshotError::damaged(&self.path, 0, what))
    }

    fn read_schemas(&self) -> Result<Schemas, SnapshotError> {
        let at = self.layout.schemas;
        let page = self.page(at)?;
        let definitions = page.list::<rkyv::vec::ArchivedVec<u8>>().map_err(|what| self.damaged(at, what))?;
        let schemas = definitions.iter().map(|definition| {
            let schema = Schema::from_canonical(definition);
            schema
                .map(|schema| (schema.id(), Arc::new(schema)))
                .map_err(|error| self.damaged(at, error.to_string()))
        });
        schemas.collect()
    }

    fn page(&self, at: PageRef) -> Result<Page, SnapshotError> {
        Page::read(&*self.file, &self.path, self.layout.len, at)
    }

    fn restore(
        &self,
        at: PageRef,
        device: &ArchivedDeviceV1,
    ) -> Result<(DeviceName, DeviceState), SnapshotError> {
        let device = rkyv::deserialize::<DeviceV1, Error>(device);
        let restored =
            device.map_err(|error| error.to_string()).and_then(|device| device.restore(&self.schemas));
        restored.map_err(|what| self.damaged(at, what))
    }

    fn damaged(&self, at: PageRef, what: String) -> SnapshotError {
        SnapshotError::damaged(&self.path, at.offset, what)
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("path", &self.path).field("head", &self.head).finish_non_exhaustive()
    }
}

/// The devices of a snapshot in the order of their names; see [`Snapshot::devices`].
pub struct Devices<'a> {
    snapshot: &'a Snapshot,
    /// Pages still to be read with the levels below each, the next one last.
    pages: Vec<(PageRef, u32)>,
    leaf: std::vec::IntoIter<(DeviceName, DeviceState)>,
    last: Option<DeviceName>,
}

impl Devices<'_> {
    fn read(&mut self, at: PageRef, height: u32) -> Result<(), SnapshotError> {
        let Self { snapshot, .. } = self;
        let page = snapshot.page(at)?;
        if height > 0 {
            let children = page.list::<ArchivedChildV1>().map_err(|what| snapshot.damaged(at, what))?;
            let children = children.iter().rev().map(rkyv::deserialize::<ChildV1, Error>);
            for child in children {
                let child = child.map_err(|error| snapshot.damaged(at, error.to_string()))?;
                self.pages.push((child.page, height - 1));
            }
            return Ok(());
        }
        let devices = page.list::<ArchivedDeviceV1>().map_err(|what| snapshot.damaged(at, what))?;
        let mut leaf = Vec::with_capacity(devices.len());
        for device in devices.iter() {
            let (name, state) = snapshot.restore(at, device)?;
            if self.last.as_ref().is_some_and(|last| *last >= name) {
                return Err(snapshot.damaged(at, format!("device {name} is out of order")));
            }
            self.last = Some(name.clone());
            leaf.push((name, state));
        }
        self.leaf = leaf.into_iter();
        Ok(())
    }
}

impl Iterator for Devices<'_> {
    type Item = Result<(DeviceName, DeviceState), SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(device) = self.leaf.next() {
                return Some(Ok(device));
            }
            let (page, height) = self.pages.pop()?;
            if let Err(error) = self.read(page, height) {
                self.pages.clear();
                return Some(Err(error));
            }
        }
    }
}

impl std::fmt::Debug for Devices<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices").field("snapshot", &self.snapshot.path).finish_non_exhaustive()
    }
}
