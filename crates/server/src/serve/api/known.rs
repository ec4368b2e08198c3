//! What is known of every device now: the live state, in which whoever has an ack finds what was acked.

use std::sync::Arc;

use icecore_ingest::{LiveState, Writer};
use icecore_state::DeviceState;
use icecore_wire::DeviceName;

/// Devices that are looked at while the state waits.
const AT_ONCE: usize = 1_024;

/// The live state, and what it lacks.
pub(super) struct Known {
    live: LiveState,
    damage: Option<String>,
}

/// A state of all devices, or of one: of everything before a position, and perhaps of some of what is behind it.
#[derive(Debug)]
pub(super) struct Now<T> {
    pub(super) states: T,
    pub(super) position: u64,
}

impl Known {
    pub(super) fn new(writer: &Writer) -> Self {
        let accepted: Vec<String> = writer.recovery().accepted.iter().map(ToString::to_string).collect();
        let damage = (!accepted.is_empty()).then(|| accepted.join("; "));
        Self { live: writer.live(), damage }
    }

    /// What of the log was damaged when it was opened, and is not in the state.
    pub(super) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// One device; nothing more than what is before the position.
    pub(super) fn device(&self, name: &DeviceName) -> Now<Option<Arc<DeviceState>>> {
        let (position, states) = self.live.device_at(name);
        Now { states, position }
    }

    /// All of them, taken in parts, so that ingestion does not wait for it.
    pub(super) fn devices(&self) -> Now<Vec<(DeviceName, Arc<DeviceState>)>> {
        let position = self.live.position();
        let mut states = Vec::new();
        loop {
            let part = self.live.devices(states.len(), AT_ONCE);
            let is_last = part.len() < AT_ONCE;
            states.extend(part);
            if is_last {
                return Now { states, position };
            }
        }
    }
}
