//! A plain fold over a vector of events: what the state promises, said in another way.

use std::collections::BTreeMap;

use icecore_state::fold::{Kept, States};
use icecore_state::{DeviceState, FieldView, StatisticsView};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::history::Event;

type Check = Result<(), TestCaseError>;
type Key = (i64, u32, u64);

const HOUR: i64 = 3_600_000_000_000;

fn key(event: &Event) -> Key {
    (event.time, event.epoch, event.sequence)
}

fn is_ahead(event: &Event) -> bool {
    event.time > event.received.saturating_add(HOUR)
}

/// Checks every part of what readers see.
pub(crate) fn check(events: &[Event], state: &DeviceState) -> Check {
    let view = state.view();
    let (ahead, present): (Vec<Event>, Vec<Event>) = events.iter().cloned().partition(is_ahead);
    prop_assert_eq!(view.events, events.len() as u64);
    prop_assert_eq!(view.ahead, ahead.len() as u64);
    let times = || present.iter().map(|event| event.time);
    prop_assert_eq!(view.times, times().min().zip(times().max()));
    prop_assert_eq!(view.skew, skew(events));
    if events.is_empty() {
        prop_assert!(view.schemas.is_empty());
        return Ok(());
    }

    let parts = [present, ahead];
    let fields = &view.schemas[0].fields;
    check_last(&fields[0], &parts, |event| Some(Kept::F64(event.level?.to_bits())))?;
    check_last(&fields[1], &parts, |event| Some(Kept::I64(event.count)))?;
    check_last(&fields[2], &parts, |event| {
        let start = event.mode.clone()?;
        Some(Kept::Text { bytes: start.len() as u32, start })
    })?;
    check_gauge(&fields[0], &parts, |event| event.level)?;
    check_gauge(&fields[4], &parts, |event| Some(event.single.into()))?;
    check_gauge(&fields[5], &parts, |event| Some(event.unsigned as f64))?;
    check_gauge(&fields[6], &parts, |event| Some(if event.flag { 1.0 } else { 0.0 }))?;
    check_counter(&fields[1], &parts, |event| event.count as f64)?;
    check_counter(&fields[7], &parts, |event| event.revolutions)?;
    check_states(&fields[2], &parts)?;
    check_angle(&fields[3], events)
}

/// The least delay in the newest hour of received time with a certain clock, and the hour before it.
fn skew(events: &[Event]) -> Option<i64> {
    let certain: Vec<&Event> = events.iter().filter(|event| !event.uncertain).collect();
    let newest = certain.iter().map(|event| event.received.div_euclid(HOUR)).max()?;
    let recent = certain.iter().filter(|event| newest - event.received.div_euclid(HOUR) <= 1);
    recent.map(|event| event.received.saturating_sub(event.time)).min()
}

fn check_last(field: &FieldView, parts: &[Vec<Event>; 2], value: impl Fn(&Event) -> Option<Kept>) -> Check {
    let latest = |events: &[Event]| {
        let valued = events.iter().filter_map(|event| Some((key(event), value(event)?)));
        valued.max_by_key(|(key, _)| *key)
    };
    let expected = latest(&parts[0]).or_else(|| latest(&parts[1]));
    let found = field.last.clone().map(|last| ((last.at.time, last.at.epoch, last.at.sequence), last.value));
    prop_assert_eq!(found, expected);
    Ok(())
}

fn check_gauge(field: &FieldView, parts: &[Vec<Event>; 2], value: impl Fn(&Event) -> Option<f64>) -> Check {
    let all: Vec<f64> = parts.iter().flatten().filter_map(value).collect();
    let values: Vec<f64> = all.iter().copied().filter(|value| value.is_finite()).collect();
    prop_assert_eq!(field.values, all.len() as u64);
    prop_assert_eq!(field.not_finite, (all.len() - values.len()) as u64);
    let Some(StatisticsView::Gauge { count, min, max, mean, variance }) = &field.statistics else {
        prop_assert!(values.is_empty(), "{field:?}");
        return Ok(());
    };
    let n = values.len() as f64;
    let expected = values.iter().sum::<f64>() / n;
    let spread: f64 = values.iter().map(|value| (value - expected).powi(2)).sum();
    let range = values.iter().fold(0.0_f64, |range, value| range.max(value.abs()));
    prop_assert_eq!(*count, values.len() as u64);
    prop_assert_eq!(number(min), values.iter().copied().reduce(f64::min).unwrap());
    prop_assert_eq!(number(max), values.iter().copied().reduce(f64::max).unwrap());
    prop_assert!((mean - expected).abs() <= 1e-12 * range, "mean {mean}, not {expected}");
    match variance {
        None => prop_assert_eq!(values.len(), 1),
        Some(variance) => {
            let expected = spread / (n - 1.0);
            let error = (variance - expected).abs();
            prop_assert!(error <= 1e-9 * expected + 1e-14 * range * range, "{variance}, not {expected}");
        }
    }
    Ok(())
}

fn number(kept: &Kept) -> f64 {
    match kept {
        Kept::F64(bits) => f64::from_bits(*bits),
        Kept::F32(bits) => f32::from_bits(*bits).into(),
        Kept::I64(value) => *value as f64,
        Kept::U64(value) => *value as f64,
        Kept::Bool(value) => f64::from(u8::from(*value)),
        other => panic!("{other:?} is no number"),
    }
}

/// The events that extend what is known at either end, in the order of their times, and the number of the others.
fn chain<V>(events: impl Iterator<Item = (Key, V)>) -> (Vec<(Key, V)>, u64) {
    let (mut chain, mut late): (Vec<(Key, V)>, u64) = (Vec::new(), 0);
    for event in events {
        if chain.last().is_none_or(|last| event.0 > last.0) {
            chain.push(event);
        } else if event.0 < chain[0].0 {
            chain.insert(0, event);
        } else {
            late += 1;
        }
    }
    (chain, late)
}

fn check_counter(field: &FieldView, parts: &[Vec<Event>; 2], value: impl Fn(&Event) -> f64) -> Check {
    let Some(StatisticsView::Counter { increase, resets, late }) = field.statistics else {
        return Err(TestCaseError::fail("no counter"));
    };
    let (mut expected, mut began_again, mut between) = (0.0, 0, 0);
    for events in parts {
        let finite = events.iter().filter(|event| value(event).is_finite());
        let (chain, late) = chain(finite.map(|event| (key(event), value(event))));
        for pair in chain.windows(2) {
            let (from, to) = (pair[0].1, pair[1].1);
            expected += if to < from { to.max(0.0) } else { to - from };
            began_again += u64::from(to < from);
        }
        between += late;
    }
    prop_assert!((increase - expected).abs() <= 1e-9 * expected, "{increase}, not {expected}");
    prop_assert_eq!((resets, late), (began_again, between));
    Ok(())
}

fn check_states(field: &FieldView, parts: &[Vec<Event>; 2]) -> Check {
    let Some(StatisticsView::States(states)) = &field.statistics else {
        return Err(TestCaseError::fail("no states"));
    };
    let mut expected: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut between = 0;
    for events in parts {
        let valued = || events.iter().filter_map(|event| Some((key(event), event.mode.clone()?)));
        valued().for_each(|(_, mode)| expected.entry(mode).or_default().0 += 1);
        let (chain, late) = chain(valued());
        for pair in chain.windows(2) {
            expected.get_mut(&pair[0].1).unwrap().1 += pair[1].0.0.abs_diff(pair[0].0.0);
        }
        between += late;
    }
    prop_assert_eq!(told_apart(states), expected);
    prop_assert_eq!((states.late(), states.other()), (between, (0, 0)));
    Ok(())
}

fn told_apart(states: &States) -> BTreeMap<String, (u64, u64)> {
    let text = |kept: &Kept| match kept {
        Kept::Text { start, .. } => start.clone(),
        other => panic!("{other:?} is no text"),
    };
    states.states().iter().map(|state| (text(state.value()), (state.events(), state.time()))).collect()
}

fn check_angle(field: &FieldView, events: &[Event]) -> Check {
    let Some(StatisticsView::Angle { count, mean, resultant }) = field.statistics else {
        return Err(TestCaseError::fail("no angle"));
    };
    let n = events.len() as f64;
    let sine = events.iter().map(|event| event.heading.to_radians().sin()).sum::<f64>() / n;
    let cosine = events.iter().map(|event| event.heading.to_radians().cos()).sum::<f64>() / n;
    prop_assert_eq!(count, events.len() as u64);
    prop_assert!((resultant - sine.hypot(cosine)).abs() < 1e-9);
    prop_assert!((0.0..360.0).contains(&mean), "{mean}");
    let apart = (mean.to_radians().sin() * resultant - sine).abs()
        + (mean.to_radians().cos() * resultant - cosine).abs();
    prop_assert!(apart < 1e-9, "{mean} {resultant}, not ({sine}, {cosine})");
    Ok(())
}
