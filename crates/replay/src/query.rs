//! What to replay.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};

use icecore_log::OnDamage;
use icecore_wire::{DeviceName, Glob};

/// Which events to replay, and in which order. The default is all of them in log order.
#[derive(Debug, Clone)]
pub struct Query {
    /// Devices whose name matches.
    pub devices: Glob,
    /// Of those, only these, whatever characters their names have.
    pub only: Option<BTreeSet<DeviceName>>,
    /// Schemas whose name matches.
    pub schemas: Glob,
    /// Events of these times.
    pub times: EventTimes,
    /// Events from this position of the log on.
    pub from_position: u64,
    /// Events before this position of the log.
    pub to_position: Option<u64>,
    /// Events that were received by this time, nanoseconds since the Unix epoch: what was known then. What did not arrive is told as it is
    /// known now.
    pub known_at: Option<i64>,
    /// The order.
    pub order: Order,
    /// Whether events are of the version that was stored, not of the newest one that it reads as.
    pub as_written: bool,
    /// Whether damaged parts of the log, and segments that are missing or cannot be reached, end the replay or are passed over and
    /// listed. What was deleted by policy is always passed over and listed.
    pub on_damage: OnDamage,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            devices: Glob::any(),
            only: None,
            schemas: Glob::any(),
            times: EventTimes::default(),
            from_position: 0,
            to_position: None,
            known_at: None,
            order: Order::Log,
            as_written: false,
            on_damage: OnDamage::Fail,
        }
    }
}

impl Query {
    /// Whether what was received then is asked for.
    pub(crate) fn wants_received(&self, time: i64) -> bool {
        self.known_at.is_none_or(|known_at| time <= known_at)
    }

    /// The positions that are asked for.
    pub(crate) fn positions(&self) -> Range<u64> {
        self.from_position..self.to_position.unwrap_or(u64::MAX)
    }

    /// Whether events of the device of this name are asked for.
    #[must_use]
    pub fn wants_device(&self, name: &str) -> bool {
        self.devices.matches(name) && self.only.as_ref().is_none_or(|only| only.contains(name))
    }

    /// Whether it asks for the devices that `other` asks for, as can be said without looking at one.
    pub(crate) fn has_devices_of(&self, other: &Self) -> bool {
        (&self.devices, &self.only) == (&other.devices, &other.only)
    }

    /// Whether it asks for the events that `other` asks for, in whatever order.
    pub(crate) fn has_selection_of(&self, other: &Self) -> bool {
        let rest = |query: &Self| (query.times, query.positions(), query.known_at);
        self.has_devices_of(other) && self.schemas == other.schemas && rest(self) == rest(other)
    }

    /// Whether those of every device are.
    pub(crate) fn wants_every_device(&self) -> bool {
        self.devices.is_any() && self.only.is_none()
    }
}

/// A half-open range of event times, nanoseconds since the Unix epoch; the default holds every time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventTimes {
    /// The first time in the range; `None` = no lower end.
    pub from: Option<i64>,
    /// The first time behind the range; `None` = no upper end.
    pub to: Option<i64>,
}

impl EventTimes {
    /// Whether `time` is in the range.
    pub fn contains(&self, time: i64) -> bool {
        self.from.is_none_or(|from| from <= time) && self.to.is_none_or(|to| time < to)
    }

    /// The same with both ends in it; `None` if every time is.
    pub(crate) fn inclusive(&self) -> Option<RangeInclusive<i64>> {
        let empty = RangeInclusive::new(i64::MAX, i64::MIN);
        let last = self.to.map_or(Some(i64::MAX), |to| to.checked_sub(1));
        (!self.is_all()).then(|| last.map_or(empty, |last| self.from.unwrap_or(i64::MIN)..=last))
    }

    /// Whether every time is in the range.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

/// The order of replayed events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Position order: as the events became durable. Within one batch that is sequence order.
    #[default]
    Log,
    /// Event time; equal times in the order of device name, epoch number and sequence.
    Time,
    /// By device name, epoch number and sequence.
    Device,
    /// As it lies in the segments, which is fastest, and says nothing of the events; record batches only. Rows of sealed segments come
    /// column by column. For everything else it is the order of the log.
    Stored,
}
