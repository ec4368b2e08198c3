//! Random histories of two devices, random places of snapshots, seals, moves and deletions, random questions.

use std::ops::Range;

use icecore_replay::{AsOf, AsOfError, Bases, States};
use icecore_wire::DeviceName;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseError;

use super::history::{Event, History, Told, histories};
use super::oracle;
use super::site::Site;

/// What happens between two blocks.
#[derive(Debug, Clone, Copy)]
enum Step {
    Nothing,
    Snapshot { full: bool },
    Seal,
    MakeCold,
    Delete,
    Tidy,
    Start,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Nothing),
        4 => any::<bool>().prop_map(|full| Step::Snapshot { full }),
        2 => Just(Step::Seal),
        2 => Just(Step::MakeCold),
        1 => Just(Step::Delete),
        1 => Just(Step::Tidy),
        1 => Just(Step::Start),
    ]
}

/// Which instants are asked for: by the event whose event time or received time they are, and how far from it.
#[derive(Debug, Clone)]
struct Question {
    at: Option<(Index, i64)>,
    known_at: Option<(Index, i64)>,
}

fn question() -> impl Strategy<Value = Question> {
    let instant = || prop::option::weighted(0.7, (any::<Index>(), -1_i64..2));
    (instant(), instant()).prop_map(|(at, known_at)| Question { at, known_at })
}

/// The batches of two devices in the order of their received times; each with its events and, once committed, its position.
struct Timeline {
    names: [DeviceName; 2],
    told: Vec<(usize, Told, Vec<Event>)>,
    positions: Vec<u64>,
    deleted: Vec<Range<u64>>,
}

impl Timeline {
    fn of(histories: &[History; 2]) -> Self {
        let names = ["hall/press", "hall/pump"].map(|name| name.parse::<DeviceName>().unwrap());
        let mut told = Vec::new();
        for (device, history) in histories.iter().enumerate() {
            let batches = history.told_of(names[device].as_str());
            told.extend(
                batches.into_iter().zip(&history.0).map(|(told, events)| (device, told, events.clone())),
            );
        }
        told.sort_by_key(|(_, told, _)| told.received);
        Self { names, told, positions: Vec::new(), deleted: Vec::new() }
    }

    /// The events of a device that are asked for.
    fn events(&self, device: usize, as_of: AsOf) -> Vec<Event> {
        let batches = self.told.iter().filter(|(of, ..)| *of == device);
        let wanted = |event: &&Event| {
            as_of.at.is_none_or(|at| event.time <= at) && as_of.known_at.is_none_or(|at| event.received <= at)
        };
        batches.flat_map(|(.., events)| events).filter(wanted).cloned().collect()
    }

    /// Whether any event of a device was deleted that was received by then.
    fn lacks(&self, device: usize, as_of: AsOf) -> bool {
        let batches = self.told.iter().zip(&self.positions);
        let is_gone = |position: &u64| self.deleted.iter().any(|range| range.contains(position));
        batches.filter(|((of, ..), _)| *of == device).any(|((_, told, _), position)| {
            is_gone(position) && as_of.known_at.is_none_or(|at| told.received <= at)
        })
    }

    fn instant(&self, question: &Question) -> AsOf {
        let events: Vec<Event> = self.told.iter().flat_map(|(.., events)| events.clone()).collect();
        let pick = |asked: &Option<(Index, i64)>, of: fn(&Event) -> i64| {
            asked.as_ref().map(|(index, off)| of(index.get(&events)).saturating_add(*off))
        };
        AsOf {
            at: pick(&question.at, |event| event.time),
            known_at: pick(&question.known_at, |event| event.received),
        }
    }
}

fn shown(states: &States, device: &DeviceName) -> String {
    format!("{:?}", states.devices.get(device))
}

/// A state that was told is the one that the events say; one that was refused cannot be told.
fn check(
    timeline: &Timeline,
    device: usize,
    as_of: AsOf,
    answer: Result<States, AsOfError>,
) -> Result<Option<States>, TestCaseError> {
    let events = timeline.events(device, as_of);
    match answer {
        Ok(states) => {
            match states.devices.get(&timeline.names[device]) {
                Some(state) => oracle::check(&events, state)?,
                None => prop_assert!(events.is_empty(), "{as_of:?} {events:?}"),
            }
            Ok(Some(states))
        }
        Err(AsOfError::Refused(refusal)) => {
            prop_assert!(timeline.lacks(device, as_of), "{refusal}");
            Ok(None)
        }
        Err(error) => Err(TestCaseError::fail(error.to_string())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_state_is_what_a_plain_fold_of_the_events_by_then_says(
        histories in [histories(), histories()],
        steps in prop::collection::vec((step(), any::<bool>()), 40),
        questions in prop::collection::vec(question(), 6),
    ) {
        let mut site = Site::new();
        let mut timeline = Timeline::of(&histories);
        let told: Vec<&Told> = timeline.told.iter().map(|(_, told, _)| told).collect();
        let mut committed = 0;
        for (step, together) in &steps {
            let Some(first) = told.get(committed) else { break };
            let at_once = if *together { 8 } else { 1 };
            let batches: Vec<&Told> =
                told[committed..].iter().copied().take(at_once).take_while(|told| told.received == first.received).collect();
            timeline.positions.extend(site.commit(&batches));
            committed += batches.len();
            match step {
                Step::Nothing => {}
                Step::Snapshot { full } => site.snapshot(*full),
                Step::Seal => site.seal(),
                Step::MakeCold => site.local().first().into_iter().for_each(|id| site.make_cold(*id)),
                Step::Delete => {
                    let gone = site.local().first().map(|id| site.delete(*id));
                    timeline.deleted.extend(gone.into_iter().flatten());
                }
                Step::Start => site.start(),
                Step::Tidy => site.snapshots().tidy(0).unwrap(),
            }
        }
        drop(told);
        for question in &questions {
            let as_of = timeline.instant(question);
            let all = site.states(as_of);
            for device in 0..2 {
                let name = &timeline.names[device];
                let answer = check(&timeline, device, as_of, site.state(name, as_of))?;
                // Without snapshots it is the same, to the bit, or cannot be told.
                let plain = site.replay().state(name, as_of, &Bases::default());
                let plain = check(&timeline, device, as_of, plain)?;
                if let (Some(answer), Some(plain)) = (&answer, &plain) {
                    prop_assert_eq!(shown(answer, name), shown(plain, name), "{:?}", as_of);
                }
                if let (Some(answer), Ok(all)) = (&answer, &all) {
                    prop_assert_eq!(shown(answer, name), shown(all, name), "{:?}", as_of);
                }
                let is_now = AsOf { known_at: None, ..as_of };
                let live = check(&timeline, device, is_now, site.live(name, as_of.at))?;
                if let (Some(answer), Some(live), None) = (&answer, &live, as_of.known_at) {
                    prop_assert_eq!(shown(answer, name), shown(live, name), "{:?}", as_of);
                }
            }
            // One that is refused is enough.
            prop_assert!(all.is_ok() || (0..2).any(|device| timeline.lacks(device, as_of)), "{:?}", all.err());
        }
    }
}
