//! How far back in event time the events reach that came lately.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use icecore_wire::{Batch, DeviceName};

/// Stretches that are told apart; each has a number for every device.
const STRETCHES: usize = 16;

/// Events of a stretch, before a new one is begun.
const EVENTS: u64 = 1 << 20;

/// For stretches of the newest part of the log, the earliest event time of each device. Whoever wants a state as of an earlier time
/// need not look for late events there.
///
/// Its size does not grow with events: when there are too many stretches, the two neighbours become one that have the fewest events.
#[derive(Debug)]
pub struct Recent {
    numbers: HashMap<DeviceName, usize>,
    /// Oldest first; each ends where the next begins.
    stretches: VecDeque<Stretch>,
}

#[derive(Debug)]
struct Stretch {
    start: u64,
    events: u64,
    /// By the device's number; [`i64::MAX`] where there are none, which costs a look where there are.
    earliest: Vec<i64>,
}

/// The events of a device from a position on, up to where the next stretch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The position.
    pub start: u64,
    /// None of them happened before this, nanoseconds since the Unix epoch.
    pub earliest: i64,
}

impl Recent {
    /// Knows what comes from `position` on.
    #[must_use]
    pub fn new(position: u64) -> Self {
        let stretches = VecDeque::from([Stretch { start: position, events: 0, earliest: Vec::new() }]);
        Self { numbers: HashMap::new(), stretches }
    }

    /// Takes note of a batch of a device. They come in log order.
    pub fn note(&mut self, device: &DeviceName, position: u64, batch: &Batch) {
        let earliest = batch.times().iter().copied().min().unwrap_or(i64::MAX);
        let number = match self.numbers.get(device) {
            Some(number) => *number,
            None => {
                let number = self.numbers.len();
                self.numbers.insert(device.clone(), number);
                number
            }
        };
        if self.stretches.back().is_none_or(|last| last.events >= EVENTS) {
            self.begin(position);
        }
        let Some(last) = self.stretches.back_mut() else { return };
        last.events += u64::from(batch.count());
        if last.earliest.len() <= number {
            last.earliest.resize(number + 1, i64::MAX);
        }
        last.earliest[number] = last.earliest[number].min(earliest);
    }

    /// What is known of a device, oldest first; of what is before the first of them nothing is.
    #[must_use]
    pub fn of(&self, device: &DeviceName) -> Vec<Reach> {
        let number = self.numbers.get(device).copied();
        let reach = |stretch: &Stretch| {
            let earliest = number.and_then(|number| stretch.earliest.get(number)).copied();
            Reach { start: stretch.start, earliest: earliest.unwrap_or(i64::MAX) }
        };
        self.stretches.iter().map(reach).collect()
    }

    fn begin(&mut self, position: u64) {
        self.stretches.push_back(Stretch { start: position, events: 0, earliest: Vec::new() });
        if self.stretches.len() <= STRETCHES {
            return;
        }
        // The one just begun stays apart.
        let together = |at: &usize| self.stretches[*at].events + self.stretches[at + 1].events;
        let Some(at) = (0..self.stretches.len() - 2).min_by_key(together) else { return };
        let Some(second) = self.stretches.remove(at + 1) else { return };
        let first = &mut self.stretches[at];
        first.events += second.events;
        if first.earliest.len() < second.earliest.len() {
            first.earliest.resize(second.earliest.len(), i64::MAX);
        }
        for (first, second) in first.earliest.iter_mut().zip(second.earliest) {
            *first = second.min(*first);
        }
    }
}

/// The parts of `positions` that may hold events of the device by `time`, by what is known of it.
#[must_use]
pub fn parts_up_to(positions: &Range<u64>, reaches: &[Reach], time: i64) -> Vec<Range<u64>> {
    let known_from = reaches.first().map_or(positions.end, |first| first.start);
    let unknown = positions.start..known_from.min(positions.end);
    let mut parts = Vec::from_iter(Some(unknown));
    for (at, reach) in reaches.iter().enumerate().filter(|(_, reach)| reach.earliest <= time) {
        let end = reaches.get(at + 1).map_or(positions.end, |next| next.start);
        let part = reach.start.max(positions.start)..end.min(positions.end);
        match parts.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => parts.push(part),
        }
    }
    parts.retain(|part| part.start < part.end);
    parts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use icecore_wire::{BatchBuilder, ColumnType, EncodeOptions, Field, Schema, Value};
    use proptest::prelude::*;

    use super::*;

    fn batch(times: &[i64]) -> Batch {
        let schema = Arc::new(Schema::new("a", 1, vec![Field::new("a", ColumnType::I64)]).unwrap());
        let mut builder = BatchBuilder::new(Arc::clone(&schema));
        times.iter().for_each(|time| builder.row(*time, &[Value::I64(1)]).unwrap());
        Batch::validate(builder.finish(0, EncodeOptions::PLAIN).unwrap(), schema).unwrap()
    }

    proptest! {
        /// No event by the time asked for is outside of the parts that are told.
        #[test]
        fn nothing_that_is_wanted_is_left_out(
            batches in prop::collection::vec((0_u8..3, prop::collection::vec(0_i64..1_000, 1..4)), 1..80),
            from in 0_usize..40,
            positions in (0_u64..100, 0_u64..200),
            time in 0_i64..1_000,
        ) {
            let names: [DeviceName; 3] = ["a", "b", "c"].map(|name| name.parse().unwrap());
            let (mut position, mut recent, mut events) = (0, None, Vec::new());
            for (number, (device, times)) in batches.iter().enumerate() {
                if number >= from {
                    let recent = recent.get_or_insert_with(|| Recent::new(position));
                    recent.note(&names[*device as usize], position, &batch(times));
                    recent.stretches.back_mut().unwrap().events += EVENTS / 2;
                }
                events.extend(times.iter().enumerate().map(|(row, time)| (*device, position + row as u64, *time)));
                position += times.len() as u64;
            }
            let positions = positions.0..positions.0.max(positions.1);
            let reaches = recent.as_ref().map(|recent| recent.of(&names[0])).unwrap_or_default();
            prop_assert!(reaches.len() <= STRETCHES);
            let parts = parts_up_to(&positions, &reaches, time);
            prop_assert!(parts.is_sorted_by(|a, b| a.end < b.start), "{parts:?}");
            prop_assert!(parts.iter().all(|part| positions.start <= part.start && part.end <= positions.end));
            for (_, position, _) in events.iter().filter(|(device, position, at)| {
                *device == 0 && positions.contains(position) && *at <= time
            }) {
                prop_assert!(parts.iter().any(|part| part.contains(position)), "{position} {parts:?}");
            }
        }
    }

    #[test]
    fn what_is_later_is_left_out() {
        let (device, other) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut recent = Recent::new(10);
        for position in 10..50 {
            let device = if position % 2 == 0 { &device } else { &other };
            recent.note(device, position, &batch(&[position as i64]));
            recent.stretches.back_mut().unwrap().events += EVENTS;
        }
        assert!(recent.stretches.len() <= STRETCHES);
        assert_eq!(parts_up_to(&(10..50), &recent.of(&device), 9), []);
        assert_eq!(parts_up_to(&(5..50), &recent.of(&device), 9), vec![5..10; 1]);
        assert_eq!(parts_up_to(&(10..50), &recent.of(&"c".parse().unwrap()), 49), []);
        let parts = parts_up_to(&(10..50), &recent.of(&device), 20);
        assert!(parts.last().unwrap().end < 50 && parts[0].start == 10, "{parts:?}");
    }
}
