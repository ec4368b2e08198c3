//! The statistics of windows in the plainest way there is: it imports nothing of what it judges.

use std::collections::BTreeMap;

use super::history::Event;

/// What is to be in a row.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) events: u64,
    pub(crate) levels: Vec<f64>,
    pub(crate) increase: f64,
    pub(crate) resets: u64,
    pub(crate) changes: u64,
    /// By state: events, and time in nanoseconds.
    pub(crate) states: BTreeMap<&'static str, (u64, u64)>,
    pub(crate) north: f64,
    pub(crate) east: f64,
    pub(crate) last_level: Option<f64>,
    pub(crate) last_mode: &'static str,
}

/// By where the windows begin.
pub(crate) fn windows(mut events: Vec<Event>, every: i64) -> BTreeMap<i64, Expected> {
    events.sort_by_key(|event| (event.time, event.epoch, event.sequence));
    let mut windows: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
    for event in events {
        windows.entry(event.time.div_euclid(every) * every).or_default().push(event);
    }
    windows.into_iter().map(|(start, events)| (start, expected(&events))).collect()
}

fn expected(events: &[Event]) -> Expected {
    let mut window = Expected { events: events.len() as u64, ..Expected::default() };
    for event in events {
        window.levels.extend(event.level);
        window.last_level = event.level.or(window.last_level);
        window.last_mode = event.mode;
        window.states.entry(event.mode).or_default().0 += 1;
        window.north += event.heading.to_radians().cos();
        window.east += event.heading.to_radians().sin();
    }
    for pair in events.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let is_reset = after.count < before.count;
        window.resets += u64::from(is_reset);
        window.increase += (after.count - if is_reset { 0 } else { before.count }) as f64;
        window.changes += u64::from(before.mode != after.mode);
        window.states.get_mut(before.mode).unwrap().1 += (after.time - before.time) as u64;
    }
    window
}
