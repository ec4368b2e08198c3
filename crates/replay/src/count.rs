//! Counting and checking, without writing events anywhere.

use std::collections::HashSet;

use icecore_wire::DeviceName;

use crate::{Batches, Coverage, ReplayError};

/// What a query matches. Every batch was validated in passing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// Batches with at least one such event.
    pub batches: u64,
    /// Devices with at least one such event.
    pub devices: u64,
    /// Bytes of those batches' payloads, as the devices sent them.
    pub bytes: u64,
    /// The events, and what is missing.
    pub coverage: Coverage,
}

impl Count {
    pub(crate) fn of(mut batches: Batches<'_>) -> Result<Self, ReplayError> {
        let mut count = Self::default();
        let mut present = 0;
        let mut devices: HashSet<DeviceName> = HashSet::new();
        for selection in &mut batches {
            let selection = selection?;
            let events = selection.count();
            if events == 0 {
                continue;
            }
            let stored = selection.stored();
            present += events;
            count.batches += 1;
            count.bytes += stored.payload.len() as u64;
            if !devices.contains(&stored.source.device) {
                devices.insert(stored.source.device.clone());
            }
        }
        count.devices = devices.len() as u64;
        count.coverage = batches.coverage(present)?;
        Ok(count)
    }
}
