//! What is known of every device now: the live state, in which whoever has an ack finds what was acked.

use std::sync::Arc;

use icecore_ingest::{LiveDevice, LiveState, Writer};
use icecore_state::DeviceState;
use icecore_wire::DeviceName;

/// Devices that are looked at while the state waits.
const AT_ONCE: usize = 1_024;

/// The live state, and what it lacks.
pub(super) struct Known {
    live: LiveState,
    damage: Option<String>,
}

/// All devices: everything before a position, and perhaps some of what is behind it.
#[derive(Debug)]
pub(super) struct Everybody {
    pub(super) states: Vec<(DeviceName, Arc<DeviceState>)>,
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

    /// One of them.
    pub(super) fn device(&self, name: &DeviceName) -> LiveDevice {
        self.live.look_up(name)
    }

    /// All of them, taken in parts, so that ingestion does not wait for it.
    pub(super) fn devices(&self) -> Everybody {
        let position = self.live.position();
        let mut states = Vec::new();
        loop {
            let part = self.live.devices(states.len(), AT_ONCE);
            let is_last = part.len() < AT_ONCE;
            states.extend(part);
            if is_last {
                return Everybody { states, position };
            }
        }
    }
}
