//! The states of all devices, and the cuts that snapshots are made of.

use std::collections::HashMap;
use std::sync::Arc;

use icecore_log::{Fact, Source};
use icecore_wire::{Batch, DeviceName};

use crate::{DeviceLedger, DeviceState};

/// The state of every device: the fold of the log up to some place in it.
///
/// A [cut](Fleet::cut) collects the devices that changed since the last one, as they are at that moment, while folding goes on:
/// a device that changes before it was [captured](Fleet::capture) is captured first. Neither takes longer for more devices
/// than those that are touched.
#[derive(Debug, Default)]
pub struct Fleet {
    slots: Vec<Slot>,
    by_name: HashMap<DeviceName, usize>,
    /// How many cuts there were.
    cuts: u64,
    /// Slots that changed since the last cut.
    changed: Vec<usize>,
    /// Slots of the last cut that are still to be looked at.
    pending: Vec<usize>,
    captured: Vec<Captured>,
}

/// A device as it was at a cut.
pub type Captured = (DeviceName, Arc<DeviceState>);

#[derive(Debug)]
struct Slot {
    name: DeviceName,
    state: Arc<DeviceState>,
    change: Change,
}

/// Whether the device is in any cut to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// It has not changed since it was captured, or loaded.
    None,
    /// It has changed after this many cuts.
    After(u64),
}

impl Fleet {
    /// How many devices there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The state of a device, which stays as it is while the fleet goes on; `None` if the log says nothing of it.
    #[must_use]
    pub fn device(&self, name: &DeviceName) -> Option<&Arc<DeviceState>> {
        Some(&self.slots[*self.by_name.get(name)?].state)
    }

    /// Every device, in order of first arrival since the start: whoever lists them in parts can go on where the last part ended.
    pub fn devices(&self) -> impl ExactSizeIterator<Item = (&DeviceName, &Arc<DeviceState>)> {
        self.slots.iter().map(|slot| (&slot.name, &slot.state))
    }

    /// Takes in what a record says without its events.
    pub fn apply(&mut self, fact: &Fact<'_>) {
        self.touch(&fact.source().device).apply(fact);
    }

    /// Takes in the events of a batch that was received at `received`, nanoseconds since the Unix epoch. What the server derived
    /// is no event of the device's.
    pub fn fold(&mut self, source: &Source, received: i64, batch: &Batch) {
        if source.epoch.is_derived() {
            return;
        }
        self.touch(&source.device).fold(source.number, received, batch, 0..batch.count() as usize);
    }

    /// Takes in a batch that was received at `received`: its events, and what its record says, `fact`. Finding the device costs a good
    /// part of folding a small batch, so it is done once for both.
    pub fn take(&mut self, fact: &Fact<'_>, received: i64, batch: &Batch) {
        let source = fact.source();
        let state = self.touch(&source.device);
        state.apply(fact);
        state.fold(source.number, received, batch, 0..batch.count() as usize);
    }

    /// Puts a device as a snapshot has it in place of what is known of it.
    pub(crate) fn restore(&mut self, name: &DeviceName, state: DeviceState) {
        let at = self.slot(name);
        self.slots[at].state = Arc::new(state);
    }

    /// Has a device's ledger say this, if it does not.
    pub fn settle(&mut self, name: &DeviceName, ledger: &DeviceLedger) {
        if self.device(name).is_none_or(|state| state.ledger() != ledger) {
            self.touch(name).settle(ledger.clone());
        }
    }

    /// Whether anything has changed since the last cut.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Has the next cut hold all devices.
    pub fn change_all(&mut self) {
        let now = Change::After(self.cuts);
        for (at, slot) in self.slots.iter_mut().enumerate().filter(|(_, slot)| slot.change != now) {
            slot.change = now;
            self.changed.push(at);
        }
    }

    /// Begins a cut: everything that has changed up to now is to be captured as it is.
    ///
    /// # Panics
    /// When the last cut is still being captured.
    pub fn cut(&mut self) {
        assert!(self.pending.is_empty() && self.captured.is_empty(), "one cut is captured at a time");
        self.pending = std::mem::take(&mut self.changed);
        self.cuts += 1;
    }

    /// Looks at up to `count` more devices of the cut. Returns all of them once they are captured, in no order.
    pub fn capture(&mut self, count: usize) -> Option<Vec<Captured>> {
        let rest = self.pending.len().saturating_sub(count);
        for at in self.pending.drain(rest..) {
            let slot = &mut self.slots[at];
            // Else it has changed since and was captured then.
            if slot.change == Change::After(self.cuts - 1) {
                slot.change = Change::None;
                self.captured.push((slot.name.clone(), Arc::clone(&slot.state)));
            }
        }
        self.pending.is_empty().then(|| std::mem::take(&mut self.captured))
    }

    /// The state of a device that is about to change.
    fn touch(&mut self, name: &DeviceName) -> &mut DeviceState {
        let at = self.slot(name);
        let slot = &mut self.slots[at];
        let now = Change::After(self.cuts);
        if slot.change != now {
            if slot.change != Change::None && !self.pending.is_empty() {
                self.captured.push((slot.name.clone(), Arc::clone(&slot.state)));
            }
            slot.change = now;
            self.changed.push(at);
        }
        Arc::make_mut(&mut slot.state)
    }

    fn slot(&mut self, name: &DeviceName) -> usize {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let at = self.slots.len();
        self.slots.push(Slot { name: name.clone(), state: Arc::default(), change: Change::None });
        self.by_name.insert(name.clone(), at);
        at
    }
}

#[cfg(test)]
mod tests {
    use icecore_wire::Epoch;
    use proptest::prelude::*;

    use super::*;

    fn drop_next(fleet: &mut Fleet, device: u8) {
        let name: DeviceName = format!("pump {device}").parse().unwrap();
        let next = fleet.device(&name).map_or(0, |state| state.ledger().epochs()[0].next());
        let source = Arc::new(Source { device: name, epoch: Epoch::from_bytes([1; 16]), number: 0 });
        fleet.apply(&Fact::Dropped { source: &source, range: next..next + 1, received: 0 });
    }

    fn shown(devices: Vec<Captured>) -> Vec<(DeviceName, u64)> {
        let mut shown: Vec<_> =
            devices.into_iter().map(|(name, state)| (name, state.ledger().epochs()[0].next())).collect();
        shown.sort();
        shown
    }

    proptest! {
        /// Whatever happens while a cut is captured, it holds what had changed, as it was.
        #[test]
        fn a_cut_holds_what_had_changed_as_it_was(
            rounds in prop::collection::vec(
                (prop::collection::vec(0_u8..20, 0..30), prop::collection::vec((0_u8..20, 0_usize..3), 0..30)),
                1..6,
            ),
        ) {
            let mut fleet = Fleet::default();
            let mut changed = std::collections::BTreeSet::new();
            for (before, during) in rounds {
                for device in before {
                    drop_next(&mut fleet, device);
                    changed.insert(device);
                }
                let names = std::mem::take(&mut changed).into_iter().map(|device| format!("pump {device}"));
                let names: Vec<DeviceName> = names.map(|name| name.parse().unwrap()).collect();
                let now = |name: DeviceName| (name.clone(), Arc::clone(fleet.device(&name).unwrap()));
                let expected = shown(names.into_iter().map(now).collect());
                fleet.cut();
                let mut captured = None;
                for (device, count) in during {
                    drop_next(&mut fleet, device);
                    changed.insert(device);
                    if captured.is_none() {
                        captured = fleet.capture(count);
                    }
                }
                let captured = captured.or_else(|| fleet.capture(usize::MAX)).unwrap();
                prop_assert_eq!(shown(captured), expected);
            }
        }
    }
}
