//! States: how long each lasted.

use icecore_wire::{ColumnView, Value};
use rkyv::{Archive, Deserialize, Serialize};

use super::kept::Kept;
use super::run::{EventPoint, Run};
use crate::limits::{MAX_STATE_BYTES, MAX_STATES};

/// Stands for all values that are not told apart.
const OTHER: u32 = u32::MAX;

/// How often each state was reported and how long it lasted: from the event that reported it to the next one.
///
/// As with counters, in log order: an event later than all before it ends the time of the latest one's state; one earlier than
/// all before it gives its state the time up to the earliest. What falls in between is counted as late and changes no time.
/// The latest event's state has no end yet, and so no time.
#[derive(Debug, Clone, Default, PartialEq, Archive, Serialize, Deserialize)]
pub struct States {
    states: Vec<StateTally>,
    other: Spell,
    ends: Option<Ends>,
    late: u64,
}

/// One state.
#[derive(Debug, Clone, PartialEq, Archive, Serialize, Deserialize)]
pub struct StateTally {
    value: Kept,
    spell: Spell,
}

/// How often, and how long in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Archive, Serialize, Deserialize)]
struct Spell {
    events: u64,
    time: u64,
}

/// The earliest and the latest event, with the number of their states.
#[derive(Debug, Clone, Copy, PartialEq, Archive, Serialize, Deserialize)]
struct Ends {
    first: (EventPoint, u32),
    last: (EventPoint, u32),
}

impl StateTally {
    /// The state.
    #[must_use]
    pub fn value(&self) -> &Kept {
        &self.value
    }

    /// Events that reported it.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.spell.events
    }

    /// How long it lasted, in nanoseconds.
    #[must_use]
    pub fn time(&self) -> u64 {
        self.spell.time
    }
}

impl States {
    /// The states that are told apart, in the order in which they came first.
    #[must_use]
    pub fn states(&self) -> &[StateTally] {
        &self.states
    }

    /// Events that reported a state that is not told apart, and how long these lasted in nanoseconds; see
    /// [`MAX_STATES`] and [`MAX_STATE_BYTES`].
    #[must_use]
    pub fn other(&self) -> (u64, u64) {
        (self.other.events, self.other.time)
    }

    /// Events that came when both earlier and later ones were there, and changed no time.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Takes in the values of a run, none of which is null.
    pub(crate) fn fold(&mut self, run: &Run<'_>, column: &ColumnView<'_>) {
        for row in 0..run.len() {
            let state = self.number(column.value(run.rows().start + row));
            self.spell(state).events += 1;
            let point = run.point(row);
            let Some(Ends { first, last }) = self.ends else {
                self.ends = Some(Ends { first: (point, state), last: (point, state) });
                continue;
            };
            if point > last.0 {
                self.lasted(last.1, last.0, point);
                self.ends = Some(Ends { first, last: (point, state) });
            } else if point < first.0 {
                self.lasted(state, point, first.0);
                self.ends = Some(Ends { first: (point, state), last });
            } else {
                self.late += 1;
            }
        }
    }

    /// Adds what another one holds, of other events of the same field.
    pub(crate) fn merge(&mut self, other: &Self) {
        for StateTally { value, spell } in &other.states {
            let known = self.states.iter().position(|state| state.value == *value);
            let number = known.map_or_else(|| self.add(value.clone()), |at| at as u32);
            self.spell(number).add(*spell);
        }
        self.other.add(other.other);
        self.late += other.late;
    }

    fn lasted(&mut self, state: u32, from: EventPoint, to: EventPoint) {
        let time = to.time.abs_diff(from.time);
        let spell = self.spell(state);
        spell.time = spell.time.saturating_add(time);
    }

    fn spell(&mut self, state: u32) -> &mut Spell {
        self.states.get_mut(state as usize).map_or(&mut self.other, |state| &mut state.spell)
    }

    /// The number of a state, which is given one while there are some left.
    fn number(&mut self, value: Value<'_>) -> u32 {
        if let Some(Ends { last: (_, newest), .. }) = self.ends
            && self.states.get(newest as usize).is_some_and(|state| state.value.is(value))
        {
            return newest;
        }
        if let Some(at) = self.states.iter().position(|state| state.value.is(value)) {
            return at as u32;
        }
        let bytes = match value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        match Kept::of(value) {
            Some(value) if bytes <= MAX_STATE_BYTES => self.add(value),
            _ => OTHER,
        }
    }

    fn add(&mut self, value: Kept) -> u32 {
        if self.states.len() >= MAX_STATES {
            return OTHER;
        }
        self.states.push(StateTally { value, spell: Spell::default() });
        self.states.len() as u32 - 1
    }
}

impl Spell {
    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.time = self.time.saturating_add(other.time);
    }
}
