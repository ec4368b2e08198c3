//! Clocks that are wrong, at devices and here: nobody's data is wiped or pinned by surprise.

use super::world::{DAY, HOUR, NOW, World, segment};
use crate::plan::Kind;
use crate::policy::PolicySet;
use crate::segment::{Segment, Span};

fn policies(more: &str) -> PolicySet {
    let text = format!("[[policy]]\nname = \"all\"\ndelete = {{ after = \"3d\", undo = \"1d\" }}\n{more}");
    PolicySet::parse("p", &text).unwrap()
}

/// A segment that was received at [`NOW`], of events at `event`.
fn received_now(number: u64, event: i64) -> Segment {
    let events = Span { first: event, last: event };
    Segment { events, ..segment(number, NOW, &[("all", 100)]) }
}

/// Days after receipt on which the segment is marked and deleted.
fn end(policies: &PolicySet, event: i64) -> (Option<i64>, Option<i64>) {
    let mut world = World::new(NOW, [received_now(1, event)]);
    let lived = world.live(policies, 24 * 60);
    let day = |wanted: fn(&Kind) -> bool| {
        lived.iter().find(|(_, action)| wanted(&action.kind)).map(|(at, _)| (at - NOW) / DAY)
    };
    (day(|kind| matches!(kind, Kind::Mark { .. })), day(|kind| *kind == Kind::Delete))
}

const IN_2063: i64 = 34_000 * DAY;
const IN_2013: i64 = 15_800 * DAY;

#[test]
fn by_received_time_devices_in_1970_and_2063_and_a_backfill_of_2013_end_like_all_others() {
    for event in [0, IN_2063, IN_2013, NOW] {
        assert_eq!(end(&policies(""), event), (Some(3), Some(4)), "events at {event}");
    }
}

#[test]
fn by_event_time_a_device_in_1970_and_a_backfill_of_2013_have_their_grace() {
    let by_event = policies("age_by = \"event\"\ngrace = \"2d\"\n");
    assert_eq!(end(&by_event, 0), (Some(2), Some(3)));
    assert_eq!(end(&by_event, IN_2013), (Some(2), Some(3)));
    let by_default = policies("age_by = \"event\"\n");
    assert_eq!(
        end(&by_default, IN_2013),
        (Some(30), Some(31)),
        "a grace of 30 days if the policy says nothing"
    );
}

#[test]
fn by_event_time_a_device_in_2063_is_not_pinned() {
    let by_event = policies("age_by = \"event\"\ngrace = \"2d\"\n");
    assert_eq!(end(&by_event, IN_2063), (Some(3), Some(4)), "as if its events were of when they came");
    assert_eq!(end(&by_event, NOW), (Some(3), Some(4)));
}

#[test]
fn while_this_machines_clock_is_not_trusted_nothing_is_marked_or_deleted() {
    let policies = policies("");
    let marked = {
        let mut world = World::new(NOW + 3 * DAY, [received_now(1, NOW)]);
        world.settle(&policies);
        world
    };
    for stepped_to in [0, IN_2063] {
        let mut world = marked.clone();
        world.moment.now = stepped_to;
        world.moment.suspended = Some("the clock stepped".to_owned());
        assert_eq!(world.live(&policies, 48), [], "at {stepped_to}");
    }
    let mut set_right = marked;
    set_right.moment.now += DAY;
    assert_eq!(set_right.settle(&policies).len(), 1);
}

#[test]
fn a_clock_that_is_not_trusted_makes_first_copies_only() {
    let text = "[[policy]]\nname = \"all\"\ndelete = \"never\"\nlocal = { drop_after = \"2d\" }\n\
                cold = [{ after = \"1d\", store = \"s\" }, { after = \"9d\", store = \"s\", class = \"DEEP\" }]\n";
    let policies = PolicySet::parse("p", text).unwrap();
    let mut world = World::new(NOW + 2 * DAY, [received_now(1, NOW), received_now(2, NOW)]);
    world.segments.values_mut().next().unwrap().copies.push(super::world::copy("s", None));
    world.moment.now = IN_2063;
    world.moment.suspended = Some("the clock stepped".to_owned());
    let actions = world.settle(&policies);
    assert_eq!(actions.len(), 1, "{actions:?}");
    assert_eq!(actions[0].segment.manifest, 2);
    assert!(matches!(actions[0].kind, Kind::Upload(_)));
}

#[test]
fn bytes_are_deleted_off_peak_only() {
    let policies = policies("");
    let mut world = World::new(NOW, [received_now(1, NOW)]);
    world.moment.off_peak = Some("05:00-06:00".parse().unwrap());
    let lived = world.live(&policies, 24 * 6);
    let deleted = lived.iter().find(|(_, action)| action.kind == Kind::Delete).unwrap().0;
    assert_eq!(deleted, NOW + 4 * DAY + 5 * HOUR);
}
