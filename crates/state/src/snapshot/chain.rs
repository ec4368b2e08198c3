//! Chains: a full snapshot and the deltas that follow it.

use std::iter::Peekable;
use std::sync::Arc;

use icecore_wire::DeviceName;

use super::{Devices, Kind, Snapshot, SnapshotError, SnapshotHead};
use crate::DeviceState;

/// A snapshot with what it stands on: the state of all devices at the place up to which it goes.
#[derive(Debug, Clone)]
pub struct Chain<'a> {
    /// A full snapshot, and deltas, each of what changed since the one before it.
    parts: Vec<&'a Snapshot>,
}

impl<'a> Chain<'a> {
    /// The chain that ends with `end`; `None` if something that it stands on is not in `all`.
    #[must_use]
    pub fn to(end: &'a Snapshot, all: &'a [Snapshot]) -> Option<Self> {
        let mut parts = vec![end];
        while let Kind::Delta { base } = parts[parts.len() - 1].head().kind {
            let next = parts[parts.len() - 1].head();
            let is_base = |other: &&Snapshot| {
                let head = other.head();
                head.point.block == base && head.log == next.log && base < next.point.block
            };
            // Where a full one was made of a chain, it says the same as that chain.
            let is_full = |other: &&Snapshot| other.head().kind == Kind::Full;
            let full = all.iter().filter(is_base).find(is_full);
            parts.push(full.or_else(|| all.iter().find(is_base))?);
        }
        parts.reverse();
        Some(Self { parts })
    }

    /// A full snapshot and all that follows it.
    pub(super) fn from(full: &'a Snapshot, all: &'a [Snapshot]) -> Self {
        let mut parts = vec![full];
        let mut end = full.head();
        let next = |end: &SnapshotHead| {
            let base = Kind::Delta { base: end.point.block };
            all.iter().find(|other| other.head().kind == base && other.head().log == end.log)
        };
        while let Some(delta) = next(end).filter(|delta| delta.head().point.block > end.point.block) {
            parts.push(delta);
            end = delta.head();
        }
        Self { parts }
    }

    pub(super) fn parts(&self) -> &[&'a Snapshot] {
        &self.parts
    }

    /// The snapshot that it ends with: its head says of what the states are.
    #[must_use]
    pub fn end(&self) -> &'a Snapshot {
        self.parts[self.parts.len() - 1]
    }

    /// The state of one device; `None` if the log said nothing of it. Reads a page of each level of the newest file that has it, and
    /// of those behind it.
    ///
    /// # Errors
    /// When a page on the way cannot be read or is damaged.
    pub fn device(&self, name: &DeviceName) -> Result<Option<DeviceState>, SnapshotError> {
        for snapshot in self.parts.iter().rev() {
            if let Some(state) = snapshot.device(name)? {
                return Ok(Some(state));
            }
        }
        Ok(None)
    }

    /// All devices in the order of their names. An error ends them.
    #[must_use]
    pub fn devices(&self) -> ChainDevices<'a> {
        ChainDevices { parts: self.parts.iter().map(|snapshot| snapshot.devices().peekable()).collect() }
    }
}

/// The devices of a chain in the order of their names, each as its newest snapshot has it; see [`Chain::devices`].
#[derive(Debug)]
pub struct ChainDevices<'a> {
    /// The oldest first.
    parts: Vec<Peekable<Devices<'a>>>,
}

impl Iterator for ChainDevices<'_> {
    type Item = Result<(DeviceName, Arc<DeviceState>), SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut first: Option<DeviceName> = None;
        for part in &mut self.parts {
            match part.peek() {
                Some(Ok((name, _))) if first.as_ref().is_none_or(|first| name < first) => {
                    first = Some(name.clone());
                }
                Some(Err(_)) => {
                    let failed = part.next();
                    self.parts.clear();
                    return failed.map(|failed| failed.map(|(name, state)| (name, Arc::new(state))));
                }
                _ => {}
            }
        }
        let first = first?;
        let is_first = |device: &Result<(DeviceName, DeviceState), SnapshotError>| matches!(device, Ok((name, _)) if *name == first);
        let newest = self.parts.iter_mut().filter_map(|part| part.next_if(is_first)).last();
        newest.map(|device| device.map(|(name, state)| (name, Arc::new(state))))
    }
}
