//! Counting and checking, without writing events anywhere.

use std::collections::HashSet;

use icecore_log::Damage;
use icecore_wire::DeviceName;

use crate::{Batches, ReplayError};

/// What a query matches. Every batch was validated in passing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// Events.
    pub events: u64,
    /// Batches with at least one such event.
    pub batches: u64,
    /// Devices with at least one such event.
    pub devices: u64,
    /// Bytes of those batches' payloads, as the devices sent them.
    pub bytes: u64,
    /// Damage that was passed over because the query asked for it.
    pub damage: Vec<Damage>,
}

impl Count {
    pub(crate) fn of(mut batches: Batches<'_>) -> Result<Self, ReplayError> {
        let mut count = Self::default();
        let mut devices: HashSet<DeviceName> = HashSet::new();
        for selection in &mut batches {
            let selection = selection?;
            let events = selection.count();
            if events == 0 {
                continue;
            }
            let stored = selection.stored();
            count.events += events;
            count.batches += 1;
            count.bytes += stored.payload.len() as u64;
            if !devices.contains(&stored.source.device) {
                devices.insert(stored.source.device.clone());
            }
        }
        count.devices = devices.len() as u64;
        count.damage = batches.damage().to_vec();
        Ok(count)
    }
}
