//! What holds of every plan, whatever the policies and segments.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::world::{DAY, HOUR, NOW, World, copy, segment};
use crate::plan::rehearsal::{Event, Run};
use crate::plan::{Action, Arrivals, Kind};
use crate::policy::PolicySet;
use crate::segment::{Deletion, Segment, SegmentId};

const NAMES: [&str; 3] = ["a", "b", "rest"];

fn policy() -> impl Strategy<Value = String> {
    let local = (option::of(9_u8..20), option::of(0_u32..400), option::of(999_000_u32..1_001_000));
    let local = local.prop_map(|(drop_after, max_bytes, min_free)| {
        let parts = [
            drop_after.map(|hours| format!("drop_after = \"{hours}h\"")),
            max_bytes.map(|bytes| format!("max_bytes = {bytes}")),
            min_free.map(|bytes| format!("min_free = {bytes}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { String::new() } else { format!("local = {{ {} }}\n", parts.join(", ")) }
    });
    let cold =
        (1_u8..9, option::of((9_u8..24, select(vec!["store = \"s\", class = \"C\"", "store = \"t\""]))));
    let cold = (cold, local).prop_map(|((first, second), local)| {
        let second = second.map(|(after, place)| format!(", {{ after = \"{after}h\", {place} }}"));
        format!("cold = [{{ after = \"{first}h\", store = \"s\" }}{}]\n{local}", second.unwrap_or_default())
    });
    let delete = (option::of(24_u8..40), option::of(0_u32..600), 0_u8..6).prop_map(|delete| match delete {
        (None, None, _) => "delete = \"never\"\n".to_owned(),
        (after, max_bytes, undo) => {
            let after = after.map(|hours| format!("after = \"{hours}h\", ")).unwrap_or_default();
            let max_bytes = max_bytes.map(|bytes| format!("max_bytes = {bytes}, ")).unwrap_or_default();
            format!("delete = {{ {after}{max_bytes}undo = \"{undo}h\" }}\n")
        }
    });
    let age =
        select(vec!["", "age_by = \"event\"\ngrace = \"10h\"\n", "importance = 10\n", "importance = 90\n"]);
    (option::of(cold), delete, age)
        .prop_map(|(cold, delete, age)| format!("{}{delete}{age}", cold.unwrap_or_default()))
}

fn policies() -> impl Strategy<Value = PolicySet> {
    [policy(), policy(), policy()].prop_map(|policies| {
        let text = NAMES.iter().zip(policies).map(|(name, policy)| {
            let selector =
                if *name == "rest" { String::new() } else { format!("match = {{ schema = \"{name}\" }}\n") };
            format!("[[policy]]\nname = \"{name}\"\n{selector}{policy}")
        });
        PolicySet::parse("p", &text.collect::<String>()).unwrap()
    })
}

fn segments() -> impl Strategy<Value = Vec<(Segment, bool)>> {
    let shares = vec((0_usize..3, 1_u64..200), 1..3);
    let copies =
        select(vec![vec![], vec![], vec![copy("s", None)], vec![copy("s", Some("C")), copy("t", None)]]);
    let time = (0_i64..50, select(vec![0, 0, 0, -19_800 * DAY, -3_000 * DAY, 14_000 * DAY]));
    let mark = option::weighted(0.2, -5_i64..5);
    let make = (shares, copies, time, mark, any::<bool>(), 0..8_u8);
    let make = make.prop_map(|(shares, copies, (hours, skew), mark, local, held)| {
        let time = NOW - hours * HOUR;
        let mut shares: Vec<(&str, u64)> = shares.into_iter().map(|(at, bytes)| (NAMES[at], bytes)).collect();
        shares.dedup_by_key(|share| share.0);
        let mut segment = segment(0, time, &shares);
        (segment.events.first, segment.events.last) = (time + skew, time + skew);
        segment.local = local || copies.is_empty();
        segment.copies = copies;
        let due = |hours| NOW + hours * HOUR;
        segment.deletion =
            mark.map(|hours| Deletion { marked: due(hours), due: due(hours), policy: "a".to_owned() });
        (segment, held == 0)
    });
    vec(make, 0..12)
}

fn world() -> impl Strategy<Value = World> {
    (segments(), 998_000_u64..1_002_000, option::weighted(0.2, Just("the clock stepped".to_owned())))
        .prop_map(|(segments, free, suspended)| {
            let numbered = segments.into_iter().zip(1..).map(|((segment, held), number)| {
                (Segment { id: SegmentId { manifest: number, child: 0 }, ..segment }, held)
            });
            let numbered: Vec<_> = numbered.collect();
            let held = numbered.iter().filter(|(_, held)| *held).map(|(segment, _)| segment.id).collect();
            let mut world = World::new(NOW, numbered.into_iter().map(|(segment, _)| segment));
            (world.held, world.moment.free, world.moment.suspended) = (held, free, suspended);
            world
        })
}

/// Whether all shares of the segment are to be deleted now, by the definition.
fn is_to_be_deleted(world: &World, policies: &PolicySet, segment: &Segment) -> bool {
    segment.shares.iter().all(|share| {
        let policy = policies.get(&share.policy).unwrap();
        let due = policy.deletion(segment.received.last, segment.events.last);
        if due.is_some_and(|due| due <= world.moment.now) {
            return true;
        }
        let Some(limit) = policy.delete.and_then(|delete| delete.max_bytes) else { return false };
        let age = |segment: &Segment| (segment.received.last, segment.id);
        let counts = |other: &&Segment| age(other) >= age(segment) && !world.held.contains(&other.id);
        let shares = world.segments.values().filter(counts).flat_map(|other| &other.shares);
        shares.filter(|other| other.policy == share.policy).map(|other| other.bytes).sum::<u64>() > limit
    })
}

/// Panics if the action harms anything, in the world as it is before it.
fn assert_harmless(before: &World, policies: &PolicySet, action: &Action) {
    let segment = &before.segments[&action.segment];
    let held = before.held.contains(&action.segment);
    let trusted = before.moment.suspended.is_none();
    match &action.kind {
        Kind::Mark { due } => {
            assert!(!held && trusted && segment.deletion.is_none() && *due >= before.moment.now);
            assert!(is_to_be_deleted(before, policies, segment), "{action:?}");
        }
        Kind::Delete => {
            assert!(!held && trusted);
            assert!(segment.deletion.as_ref().is_some_and(|mark| mark.due <= before.moment.now));
            assert!(is_to_be_deleted(before, policies, segment), "{action:?}");
        }
        Kind::DropLocal => assert!(segment.local && !segment.copies.is_empty()),
        Kind::DropCopy(from) => {
            assert!(!held && trusted && segment.copies.iter().any(|copy| copy.store != from.store));
            assert!(segment.copies.iter().any(|copy| copy.store == from.store));
        }
        Kind::Upload(_) => assert!(segment.local || !segment.copies.is_empty()),
        Kind::Split => assert!(!held && trusted && segment.shares.len() > 1),
        Kind::Unmark => assert!(segment.deletion.is_some()),
    }
}

proptest! {
    #[test]
    fn no_action_loses_what_is_not_due(mut world in world(), policies in policies()) {
        for _ in 0..48 {
            // Of one plan, all actions are about the world as it was then.
            let planned = world.clone();
            let actions = world.plan(&policies);
            for action in &actions {
                assert_harmless(&planned, &policies, action);
                // And one after another, they do not take the last copy away.
                world.execute(action);
            }
            let somewhere = |segment: &Segment| segment.local || !segment.copies.is_empty();
            prop_assert!(world.segments.values().all(somewhere));
            prop_assert!(world.held.iter().all(|held| world.segments.contains_key(held)), "held is never deleted");
            if actions.is_empty() {
                world.moment.now += HOUR;
            }
        }
    }

    #[test]
    fn the_same_segments_in_any_order_give_the_same_plan(world in world(), policies in policies()) {
        let mut backwards = crate::plan::Books::new(&policies).rolled_up_to(u64::MAX);
        for segment in world.segments.values().rev() {
            backwards.add(segment, world.held.contains(&segment.id)).unwrap();
        }
        prop_assert_eq!(backwards.plan(&world.moment).actions, world.plan(&policies));
    }

    #[test]
    fn a_rehearsal_is_planning_hour_by_hour(mut world in world(), policies in policies()) {
        let mut run = Run::new(world.books(&policies), world.moment.clone(), 1, &Arrivals::default()).unwrap();
        for hour in 0..48 {
            let mut rehearsed = Vec::new();
            run.turn(&mut |books, event| {
                if let Event::Before(step) = event {
                    rehearsed.push(books.action(*step));
                }
            });
            let happened = world.settle(&policies);
            prop_assert_eq!(rehearsed, happened, "in hour {}", hour);
            world.moment.now += HOUR;
        }
    }

    #[test]
    fn what_is_beyond_a_size_is_on_its_way_out(mut world in world(), policies in policies()) {
        world.moment.suspended = None;
        world.settle(&policies);
        for policy in policies.policies() {
            let Some(limit) = policy.delete.and_then(|delete| delete.max_bytes) else { continue };
            let stays = |segment: &&Segment| segment.deletion.is_none() && !world.held.contains(&segment.id);
            let shares = world.segments.values().filter(stays).flat_map(|segment| &segment.shares);
            let bytes: u64 = shares.filter(|share| share.policy == policy.name).map(|share| share.bytes).sum();
            prop_assert!(bytes <= limit, "{} of {limit} in {}", bytes, policy.name);
        }
    }
}
