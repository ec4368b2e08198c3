//! However the same events are cut into batches, blocks and manifests, and in whatever order they come, the rows with the highest
//! revisions are those of one pass over all of them, to the bit.

use icecore_state::fold::Kept;
use proptest::prelude::*;

use super::history::{Event, Log, Row, SECOND, number, rollup};
use super::oracle::{self, Expected};

/// Events of two epochs, in no order of time.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let mode = prop::sample::select(vec!["idle", "run", "fault"]);
    let level = prop::option::weighted(0.9, -1e3..1e3_f64);
    let one = (0_u32..2, -40_i64..120, level, 0_u64..50, mode, 0.0..360.0_f64);
    prop::collection::vec(one, 1..80).prop_map(|all| {
        let mut next = [0; 2];
        let event = |(epoch, tenth, level, count, mode, heading): (u32, i64, _, _, _, _)| {
            let sequence = next[epoch as usize];
            next[epoch as usize] += 1;
            Event { epoch, sequence, time: tenth * SECOND / 10, level, count, mode, heading }
        };
        all.into_iter().map(event).collect()
    })
}

/// The events in batches of one epoch each, as long as `cuts` says, and the batches in the order of `ranks`.
fn batches(events: &[Event], cuts: &[usize], ranks: &[u32]) -> Vec<Vec<Event>> {
    let mut batches: Vec<Vec<Event>> = Vec::new();
    let mut cuts = cuts.iter().cycle();
    for epoch in 0..2 {
        let mut left: Vec<Event> = events.iter().filter(|event| event.epoch == epoch).cloned().collect();
        while !left.is_empty() {
            let rest = left.split_off((*cuts.next().unwrap()).min(left.len()));
            batches.push(std::mem::replace(&mut left, rest));
        }
    }
    let mut ranked: Vec<_> = batches.into_iter().zip(ranks.iter().cycle()).collect();
    ranked.sort_by_key(|(_, rank)| **rank);
    ranked.into_iter().map(|(batch, _)| batch).collect()
}

fn check(start: i64, row: &Row, expected: &Expected) {
    let near = |column: &str, expected: f64| {
        let found = number(row, column);
        assert!(
            (found - expected).abs() <= 1e-6 * expected.abs().max(1.0),
            "{start}: {column} {found} {expected}"
        );
    };
    let Expected { events, levels, increase, resets, changes, states, north, east, last_level, last_mode } =
        expected;
    near("events", *events as f64);
    near("level_count", levels.len() as f64);
    if !levels.is_empty() {
        let mean = levels.iter().sum::<f64>() / levels.len() as f64;
        near("level_mean", mean);
        near("level_min", levels.iter().copied().fold(f64::INFINITY, f64::min));
        near("level_max", levels.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        near("level_last", last_level.unwrap());
        if levels.len() > 1 {
            let spread = levels.iter().map(|level| (level - mean).powi(2)).sum::<f64>();
            near("level_variance", spread / (levels.len() - 1) as f64);
        }
        let mut sorted = levels.clone();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[(0.5 * (sorted.len() - 1) as f64) as usize];
        assert!(
            (number(row, "level_p50") - median).abs() <= 0.0101 * median.abs() + 1e-9,
            "{start}: median {median}"
        );
    }
    near("count_increase", *increase);
    near("count_resets", *resets as f64);
    near("mode_changes", *changes as f64);
    near("heading_length", north.hypot(*east) / *events as f64);
    let Some(Kept::Text { start: text, .. }) = &row["mode_times"] else { panic!() };
    let times: Vec<(String, u64, u64)> = serde_json::from_str(text).unwrap();
    assert_eq!(times.len(), states.len());
    assert!(
        times.iter().all(|(state, events, time)| states[&**state] == (*events, *time)),
        "{start}: {text}"
    );
    let Some(Kept::Text { start: last, .. }) = &row["mode_last"] else { panic!() };
    assert_eq!(last, last_mode);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn highest_revisions_are_those_of_one_pass(
        events in events(),
        cuts in prop::collection::vec(1_usize..20, 1..10),
        ranks in prop::collection::vec(any::<u32>(), 1..20),
        blocks in prop::collection::vec(1_usize..6, 1..10),
        seconds in prop::sample::select(vec![1_i64, 3, 60]),
    ) {
        let rollup = rollup(seconds);
        let mut cut = Log::new();
        let mut left = batches(&events, &cuts, &ranks);
        let mut sizes = blocks.iter().cycle();
        while !left.is_empty() {
            let rest = left.split_off((*sizes.next().unwrap()).min(left.len()));
            cut.block(&left);
            left = rest;
        }
        let mut whole = Log::new();
        whole.block(&batches(&events, &[usize::MAX], &[0]));
        let (cut, whole) = (cut.newest(&rollup), whole.newest(&rollup));
        prop_assert_eq!(&cut, &whole);
        let expected = oracle::windows(events, seconds * SECOND);
        prop_assert_eq!(cut.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        expected.iter().for_each(|(start, expected)| check(*start, &cut[start], expected));
    }
}
