//! Which snapshots are kept, whatever comes and goes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::world::{DAY, HOUR, NOW, World, segment};
use crate::plan::{Books, Moment, Need, Saved, SnapshotPlan};
use crate::policy::PolicySet;
use crate::snapshot::KeptSnapshot;

fn policies(delete: &str) -> PolicySet {
    PolicySet::parse("p", &format!("[[policy]]\nname = \"heat\"\ndelete = {delete}\n")).unwrap()
}

fn kept(position: u64, received: i64) -> KeptSnapshot {
    KeptSnapshot { block: position, position, received, devices: 1, bytes: 10, hash: [0; 32], store: None }
}

fn plan(kept: &[KeptSnapshot], deleted_to: u64, saved: Saved, delete: &str) -> SnapshotPlan {
    let policies = policies(delete);
    let mut books = Books::new(&policies);
    books.keep_snapshots(kept.to_vec(), deleted_to);
    books.plan(&Moment { now: NOW, saved: Some(saved), ..Moment::default() }).snapshots
}

#[test]
fn one_is_kept_at_first_each_day_and_after_many_events() {
    let travels = |position, received| Saved { position, received, travels: true, ..Saved::default() };
    let need = |kept: &[KeptSnapshot], saved| plan(kept, 0, saved, "\"never\"").keep;
    assert_eq!(need(&[], travels(0, 0)), None, "there is nothing");
    assert_eq!(need(&[], travels(1, 0)), Some(Need::First));
    assert_eq!(need(&[kept(9, 0)], travels(9, DAY)), None, "nothing has come");
    assert_eq!(need(&[kept(9, 0)], travels(10, DAY - 1)), None);
    assert_eq!(need(&[kept(9, 0)], travels(10, DAY)), Some(Need::Age));
    assert_eq!(need(&[kept(9, 0)], travels(50_000_009, 1)), Some(Need::Events(50_000_000)));
    let here = Saved { travels: false, ..travels(1, 0) };
    assert_eq!(need(&[], here), None, "nothing is ever deleted, and here is the state anyway");
    assert_eq!(plan(&[], 0, here, "{ after = \"1d\" }").keep, Some(Need::First));
}

#[test]
fn what_is_due_waits_for_a_kept_snapshot() {
    let policies = policies("{ after = \"1d\", undo = \"0s\" }");
    let mut world = World::new(NOW + 2 * DAY, [segment(1, NOW, &[("heat", 100)])]);
    let saved = |position| Some(Saved { position, received: NOW, bytes: 1, travels: true });
    world.moment.saved = saved(99);
    assert_eq!(world.settle(&policies).len(), 1, "it is marked");
    let plan = |world: &World, kept: &[KeptSnapshot]| {
        let mut books = world.books(&policies);
        books.keep_snapshots(kept.to_vec(), 0);
        books.plan(&world.moment)
    };
    let waits = plan(&world, &[kept(99, NOW)]);
    let waiting = waits.snapshots.waiting.unwrap();
    assert!(waits.actions.is_empty() && (waiting.segments, waiting.position) == (1, 100));
    assert_eq!((waits.snapshots.keep, waits.snapshots.save), (None, true), "there is no better one yet");
    assert_eq!(
        waits.to_string(),
        "snapshots: the state is to be saved anew, something waits for that\n\
         to delete 1 segment, 100 B, waits for a snapshot up to position 100 or beyond\n"
    );
    world.moment.saved = saved(100);
    let waits = plan(&world, &[kept(99, NOW)]).snapshots;
    assert_eq!((waits.keep, waits.save), (Some(Need::Deletions), false));
    assert_eq!(plan(&world, &[kept(100, NOW)]).actions.len(), 1);
}

proptest! {
    /// The oldest behind all deletions stays, and so does the newest; those between are as evenly spread as can be.
    #[test]
    fn the_oldest_that_serves_and_the_newest_stay(
        steps in vec((1_i64..40, 0_u64..3), 1..120),
    ) {
        let (mut all, mut deleted_to, mut now): (Vec<KeptSnapshot>, u64, i64) = (Vec::new(), 0, NOW);
        for (number, (hours, deleted)) in steps.into_iter().enumerate() {
            now += hours * HOUR;
            let position = 10 * (number as u64 + 1);
            all.push(kept(position, now));
            deleted_to = (deleted_to + 8 * deleted).min(position);
            let saved = Saved { position, received: now, travels: true, ..Saved::default() };
            let base = all.iter().find(|kept| kept.position >= deleted_to).unwrap().block;
            let drop = plan(&all, deleted_to, saved, "\"never\"").drop;
            all.retain(|kept| !drop.contains(&kept.block));
            prop_assert!(all.len() <= 24);
            prop_assert_eq!((all[0].block, all.last().unwrap().block), (base, position));
            prop_assert_eq!(plan(&all, deleted_to, saved, "\"never\"").drop, Vec::<u64>::new());
        }
    }
}
