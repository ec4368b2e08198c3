//! Single rules: where copies go, what holds, marks and splits do.

use super::world::{DAY, HOUR, NOW, World, copy, segment, words};
use crate::plan::{Books, Moment, Plan};
use crate::policy::PolicySet;
use crate::segment::Deletion;

fn set(lines: &str) -> PolicySet {
    PolicySet::parse("p", &format!("[[policy]]\nname = \"all\"\n{lines}\n")).unwrap()
}

/// One segment of policy `all`, received `hours` ago.
fn aged(hours: i64) -> World {
    World::new(NOW, [segment(1, NOW - hours * HOUR, &[("all", 100)])])
}

const NINETY: &str = "delete = { after = \"90d\", undo = \"7d\" }";

#[test]
fn an_old_segment_goes_straight_to_the_last_stage_it_has_reached() {
    let policies = set("delete = \"never\"\nlocal = { drop_after = \"1d\" }\n\
                        cold = [{ after = \"1h\", store = \"near\" }, { after = \"1d\", store = \"far\" }]");
    assert_eq!(
        words(&aged(100).settle(&policies)),
        ["1 upload to far: it is older than 1d", "1 remove the local copy: it is older than 1d"]
    );
    let mut stored = aged(100);
    stored.segments.values_mut().for_each(|segment| segment.copies.push(copy("near", None)));
    assert_eq!(
        words(&stored.settle(&policies)),
        [
            "1 upload to far: it is older than 1d",
            "1 remove the copy in near: it is verified where it belongs now",
            "1 remove the local copy: it is older than 1d",
        ]
    );
    let mut ahead = aged(2);
    ahead.segments.values_mut().for_each(|segment| segment.copies.push(copy("far", None)));
    assert_eq!(ahead.settle(&policies), [], "what is in a later stage already does not come back");
}

#[test]
fn a_segment_without_any_bytes_is_left_alone() {
    let policies = set(
        "delete = \"never\"\nlocal = { drop_after = \"1d\" }\ncold = [{ after = \"1h\", store = \"s\" }]",
    );
    let mut world = aged(100);
    world.segments.values_mut().for_each(|segment| segment.local = false);
    assert_eq!(world.settle(&policies), []);
}

#[test]
fn local_copies_beyond_a_size_are_uploaded_early_and_the_oldest_go() {
    let policies =
        set("delete = \"never\"\nlocal = { max_bytes = 250 }\ncold = [{ after = \"1d\", store = \"s\" }]");
    let segments = (1..=4).map(|number| segment(number, NOW + number as i64, &[("all", 100)]));
    let mut world = World::new(NOW + HOUR, segments);
    let why = "its policy has more than 250 B, and this is the oldest";
    assert_eq!(
        words(&world.settle(&policies)),
        ["1 upload to s", "2 upload to s", "1 remove the local copy", "2 remove the local copy"]
            .map(|what| format!("{what}: {why}"))
    );
}

#[test]
fn what_waits_for_a_store_that_is_down_makes_no_room_yet() {
    let policies =
        set("delete = \"never\"\nlocal = { min_free = 200 }\ncold = [{ after = \"1d\", store = \"s\" }]");
    let segments = (1..=4).map(|number| segment(number, NOW + number as i64, &[("all", 100)]));
    let mut world = World::new(NOW + HOUR, segments);
    world.moment.free = 50;
    for number in [2, 4] {
        let segment = world.segments.values_mut().nth(number - 1).unwrap();
        segment.copies.push(copy("s", None));
    }
    let first: Vec<u64> = world.plan(&policies).iter().map(|action| action.segment.manifest).collect();
    assert_eq!(first, [1, 2], "the oldest, of which one is to be uploaded");
    world.moment.unreachable = vec!["s".to_owned()];
    let first: Vec<u64> = world.plan(&policies).iter().map(|action| action.segment.manifest).collect();
    assert_eq!(first, [2, 4], "those that can go");
}

#[test]
fn a_hold_takes_the_mark_away_and_a_new_undo_window_follows_it() {
    let policies = set(NINETY);
    let mut world = aged(90 * 24);
    assert_eq!(words(&world.settle(&policies)), ["1 mark for deletion: it is older than 90d"]);
    let id = *world.segments.keys().next().unwrap();
    world.held.insert(id);
    world.moment.now += 8 * DAY;
    assert_eq!(words(&world.settle(&policies)), ["1 take the mark for deletion away: a hold freezes it"]);
    world.moment.now += 100 * DAY;
    assert_eq!(world.settle(&policies), []);
    world.held.clear();
    assert_eq!(words(&world.settle(&policies)), ["1 mark for deletion: it is older than 90d"]);
    assert_eq!(world.segments[&id].deletion.as_ref().unwrap().due, world.moment.now + 7 * DAY);
}

#[test]
fn what_is_held_is_uploaded_and_leaves_the_disk_and_does_not_count() {
    let policies = set("delete = { max_bytes = 100 }\nlocal = { drop_after = \"1d\" }\n\
                        cold = [{ after = \"1h\", store = \"s\" }]");
    let segments = [1, 2].map(|number| segment(number, NOW - 2 * DAY + number as i64, &[("all", 100)]));
    let mut world = World::new(NOW, segments);
    world.held.extend(world.segments.keys().next().copied());
    let held: Vec<_> =
        words(&world.settle(&policies)).into_iter().filter(|told| told.starts_with('1')).collect();
    assert_eq!(held, ["1 upload to s: it is older than 1h", "1 remove the local copy: it is older than 1d"]);
    assert!(world.segments.values().all(|segment| segment.deletion.is_none()), "100 bytes are not too many");
}

#[test]
fn a_policy_that_keeps_longer_takes_the_mark_away() {
    let mut world = aged(90 * 24);
    world.settle(&set(NINETY));
    world.moment.now += 30 * DAY;
    let longer = set("delete = { after = \"1y\" }");
    assert_eq!(
        words(&world.settle(&longer)),
        ["1 take the mark for deletion away: the policies that apply now keep it"]
    );
    assert_eq!(world.settle(&longer), []);
}

#[test]
fn a_narrowed_policy_marks_first_and_deletes_after_its_undo_window() {
    let mut world = aged(40 * 24);
    assert_eq!(world.settle(&set(NINETY)), []);
    let narrowed = set("delete = { after = \"30d\", undo = \"7d\" }");
    assert_eq!(words(&world.settle(&narrowed)), ["1 mark for deletion: it is older than 30d"]);
    let deletion: Deletion = world.segments.values().next().unwrap().deletion.clone().unwrap();
    assert_eq!((deletion.due, deletion.policy.as_str()), (NOW + 7 * DAY, "all"));
    world.moment.now = deletion.due - 1;
    assert_eq!(world.settle(&narrowed), []);
    world.moment.now += 1;
    assert_eq!(words(&world.settle(&narrowed)), ["1 delete: its undo window is over"]);
}

#[test]
fn rows_of_a_relabelled_device_are_split_off_when_the_first_is_due_and_none_goes_early() {
    let text = "[[policy]]\nname = \"short\"\nmatch = { labels = { site = \"oslo\" } }\n\
                delete = { after = \"30d\", undo = \"1d\" }\n\
                [[policy]]\nname = \"long\"\ndelete = { after = \"90d\", undo = \"1d\" }\n";
    let policies = PolicySet::parse("p", text).unwrap();
    let mut world = World::new(NOW, [segment(1, NOW, &[("long", 60), ("short", 40)])]);
    let lived = world.live(&policies, 24 * 95);
    let told: Vec<_> = lived
        .iter()
        .map(|(at, action)| ((at - NOW) / DAY, &*action.policy, action.kind.to_string()))
        .collect();
    assert_eq!(
        told,
        [
            (30, "long", "split".to_owned()),
            (30, "short", "mark for deletion".to_owned()),
            (31, "short", "delete".to_owned()),
            (90, "long", "mark for deletion".to_owned()),
            (91, "long", "delete".to_owned()),
        ]
    );
}

#[test]
fn a_segment_of_several_policies_that_are_all_due_is_not_split() {
    let text = "[[policy]]\nname = \"short\"\nmatch = { schema = \"s\" }\ndelete = { after = \"30d\", undo = \"1d\" }\n\
                [[policy]]\nname = \"long\"\ndelete = { after = \"90d\", undo = \"5d\" }\n";
    let policies = PolicySet::parse("p", text).unwrap();
    let mut world = World::new(NOW + 100 * DAY, [segment(1, NOW, &[("long", 60), ("short", 40)])]);
    assert_eq!(words(&world.settle(&policies)), ["1 mark for deletion: it is older than 90d"]);
    let due = world.segments.values().next().unwrap().deletion.as_ref().unwrap().due;
    assert_eq!(due, NOW + 105 * DAY, "the longest undo window");
}

#[test]
fn shares_of_other_policies_are_an_error() {
    let policies = set(NINETY);
    let error = Books::new(&policies).add(&segment(7, NOW, &[("other", 1)]), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "segment 000000000007-000 belongs to policy other, which these policies do not have: its shares are those of other \
         ones"
    );
}

#[test]
fn what_is_to_be_rolled_up_is_not_marked_before_it_is() {
    let text = "[[policy]]\nname = \"all\"\nrollup = [{ every = \"1m\", delete_after = \"1y\" }]\n\
                delete = { after = \"90d\" }\n";
    let policies = PolicySet::parse("p", text).unwrap();
    let moment = Moment { now: NOW + 91 * DAY, free: 1_000_000, ..Moment::default() };
    let raw = segment(7, NOW, &[("all", 10)]);
    let windows = segment(8, NOW - 400 * DAY, &[("all@1m", 10)]);
    let plan = |to: u64| {
        let mut books = Books::new(&policies).rolled_up_to(to);
        [&raw, &windows].into_iter().for_each(|segment| books.add(segment, false).unwrap());
        books.plan(&moment)
    };
    let marked = |plan: &Plan| plan.actions.iter().map(|action| action.segment).collect::<Vec<_>>();
    let (early, late) = (plan(9), plan(10));
    assert_eq!((marked(&early), early.unrolled.len()), (vec![windows.id], 1));
    assert!(
        early.to_string().ends_with(
            "all: the deletion of 1 segment (000000000007-000, …) waits until they are rolled up\n"
        ),
        "{early}"
    );
    assert_eq!((marked(&late), late.unrolled.len()), (vec![raw.id, windows.id], 0));
}
