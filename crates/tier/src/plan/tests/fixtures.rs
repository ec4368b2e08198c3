//! The policies of `tests/policies`, carried out.

use super::world::{DAY, HOUR, NOW, World, segment, words};
use crate::plan::Kind;
use crate::policy::PolicySet;

fn fixture(name: &str) -> PolicySet {
    let path = format!("{}/tests/policies/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    PolicySet::parse(name, &std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_vibration_is_deleted_90_days_and_an_undo_window_after_it_came() {
    let policies = fixture("a-vibration");
    let segments = [segment(1, NOW, &[("vibration", 100)]), segment(2, NOW, &[("default", 100)])];
    let mut world = World::new(NOW + 90 * DAY - HOUR, segments);
    let lived = world.live(&policies, 24 * 10);
    let kinds: Vec<_> = lived.iter().map(|(at, action)| ((at - NOW) / DAY, action.kind.clone())).collect();
    assert_eq!(kinds, [(90, Kind::Mark { due: NOW + 97 * DAY }), (97, Kind::Delete)]);
}

#[test]
fn b_alarms_are_never_deleted() {
    let policies = fixture("b-alarms");
    let segments = [segment(1, NOW, &[("alarms", 100)]), segment(2, NOW, &[("default", 100)])];
    let mut world = World::new(NOW + 200 * 365 * DAY, segments);
    assert_eq!(words(&world.settle(&policies)), ["2 mark for deletion: it is older than 1y"]);
}

#[test]
fn d_debug_logs_stay_below_500_gb_and_the_oldest_go() {
    let policies = fixture("d-debug");
    let gb = 1_000_000_000;
    let segments = (1..=6).map(|number| segment(number, NOW + number as i64 * HOUR, &[("debug", 100 * gb)]));
    let mut world = World::new(NOW + DAY, segments);
    assert_eq!(
        words(&world.settle(&policies)),
        ["1 mark for deletion: its policy has more than 500.0 GB, and this is the oldest"]
    );
    world.moment.now += DAY;
    assert_eq!(words(&world.settle(&policies)), ["1 delete: its undo window is over"]);
    assert_eq!(world.plan(&policies), []);
}

#[test]
fn e_archive_moves_to_a_colder_class_in_the_same_store() {
    let policies = fixture("e-archive");
    let mut world = World::new(NOW, [segment(1, NOW, &[("default", 100)])]);
    let lived = world.live(&policies, 24 * 91);
    let told: Vec<_> =
        lived.iter().map(|(at, action)| ((at - NOW) / HOUR, action.kind.to_string())).collect();
    let expected =
        [(6, "upload to archive".to_owned()), (90 * 24, "upload to archive as GLACIER_IR".to_owned())];
    assert_eq!(told, expected);
    assert_eq!(world.segments.values().next().unwrap().copies.len(), 1);
}

#[test]
fn f_local_data_goes_after_2_days_or_when_50_gb_are_left_least_important_first() {
    let policies = fixture("f-local");
    let gb = 1_000_000_000;
    let names = ["alarms", "debug", "default"];
    let segments = (0..9).map(|number| {
        let name = names[number as usize % 3];
        segment(number + 1, NOW + number as i64 * HOUR, &[(name, gb)])
    });
    let mut world = World::new(NOW + 12 * HOUR, segments);
    world.moment.free = 60 * gb;
    let uploaded = world.settle(&policies);
    assert!(uploaded.len() == 9 && uploaded.iter().all(|action| matches!(action.kind, Kind::Upload(_))));

    world.moment.free = 46 * gb; // four are to go: the three of debug (10), the oldest of default (50), no alarm (90)
    assert_eq!(
        words(&world.settle(&policies)),
        [2, 3, 5, 8]
            .map(|number| format!("{number} remove the local copy: less than 50.0 GB is free on the disk"))
    );
    world.moment.now = NOW + 2 * DAY;
    assert_eq!(words(&world.settle(&policies)), ["1 remove the local copy: it is older than 2d"]);
}
