//! The cases that statistics by kind exist for.

use icecore_state::StatisticsView;

use super::history::{Event, History, fold};

pub(crate) fn event(sequence: u64) -> Event {
    Event {
        epoch: 0,
        sequence,
        time: 1_000 * sequence as i64,
        received: 1_000_000,
        uncertain: false,
        level: None,
        count: 0,
        mode: None,
        heading: 0.0,
        single: 0.0,
        unsigned: 0,
        flag: false,
        revolutions: 0.0,
    }
}

fn statistics(events: Vec<Event>, field: usize) -> StatisticsView {
    let view = fold(&History(vec![events])).view();
    view.schemas[0].fields[field].statistics.clone().unwrap()
}

#[test]
fn a_wind_around_north_comes_from_the_north() {
    let events = [350.0, 10.0, 355.0, 5.0].into_iter().zip(0..);
    let events = events.map(|(heading, sequence)| Event { heading, ..event(sequence) }).collect();
    let StatisticsView::Angle { mean, resultant, .. } = statistics(events, 3) else { panic!() };
    assert!(!(1e-9..=360.0 - 1e-9).contains(&mean), "{mean}");
    assert!(resultant > 0.98, "{resultant}");
}

#[test]
fn a_counter_that_begins_again_has_counted_on() {
    let counts = [90, 95, 3, 10].into_iter().zip(0..);
    let events: Vec<_> = counts.map(|(count, sequence)| Event { count, ..event(sequence) }).collect();
    let expected = StatisticsView::Counter { increase: 15.0, resets: 1, late: 0 };
    assert_eq!(statistics(events.clone(), 1), expected);
    // The first one last is no reset, and one that comes between others makes no difference.
    let between = Event { count: 5, time: 2_500, ..event(9) };
    let mut late = [&events[1..], &[between], &events[..1]].concat();
    late.iter_mut().zip(0..).for_each(|(event, sequence)| event.sequence = sequence);
    assert_eq!(statistics(late, 1), StatisticsView::Counter { increase: 15.0, resets: 1, late: 1 });
}

#[test]
fn states_beyond_the_limit_count_as_one() {
    let events = (0..40).map(|n| Event { mode: Some(format!("state {n}")), ..event(n) }).collect();
    let StatisticsView::States(states) = statistics(events, 2) else { panic!() };
    assert_eq!(states.states().len(), 32);
    assert_eq!(states.other(), (8, 7_000), "the last one has not ended");
}

#[test]
fn a_clock_in_2063_hides_nothing() {
    let rogue = Event { time: 2_934_000_000_000_000_000, level: Some(1e6), ..event(1) };
    let events = vec![Event { level: Some(7.0), ..event(0) }, rogue];
    let view = fold(&History(vec![events])).view();
    assert_eq!((view.events, view.ahead, view.times), (2, 1, Some((0, 0))));
    assert_eq!(view.schemas[0].fields[0].last.as_ref().unwrap().at.time, 0);
}
