//! Snapshots of the state: kept before what they outlive is deleted, and as long as they serve.

use icecore_tier::segment::SegmentId;
use icecore_tier::snapshot::{self, KeptSnapshot};

use crate::faulty::{Fault, Faulty};
use crate::life::memory;
use crate::site::{DAY, HOUR, Site};

/// A site whose logs are marked, and due an hour later.
fn site() -> (Site, Faulty, SegmentId) {
    let (archive, _, open) = memory();
    let mut site = Site::new(open);
    site.fill();
    site.settle();
    let logs = site.of_policy("logs")[0];
    site.pass_time(30 * DAY);
    site.settle();
    site.pass_time(25 * HOUR);
    (site, archive, logs)
}

fn kept(site: &Site) -> Vec<KeptSnapshot> {
    site.catalog().view().unwrap().snapshots().unwrap()
}

fn is_there(site: &Site, segment: SegmentId) -> bool {
    site.catalog().view().unwrap().segment(segment).unwrap().is_some()
}

#[test]
fn a_deletion_waits_for_a_snapshot_that_goes_past_it() {
    let (archive, _, open) = memory();
    let mut site = Site::new(open);
    archive.refuse(Some("snapshots"));
    site.fill();
    site.pass();
    let logs = site.of_policy("logs")[0];
    for days in [30, 2, 1] {
        site.pass_time(days * DAY);
        for _ in 0..4 {
            site.pass();
        }
    }
    let pass = site.pass();
    assert!(pass.failures.iter().any(|failure| failure.what.contains("keep a snapshot")), "{pass:?}");
    assert!(
        pass.waits.iter().any(|wait| wait.contains("to delete 1 segment waits for a snapshot")),
        "{pass:?}"
    );
    let why = site.why();
    let explained = site.catalog().view().unwrap().explain(logs).unwrap().to_string();
    assert!(explained.contains("waits for a snapshot"), "{explained}");
    assert!(is_there(&site, logs));

    archive.refuse(None);
    site.settle();
    assert!(!is_there(&site, logs), "a snapshot is kept, and it goes");
    let [only] = &kept(&site)[..] else { panic!("one is kept: {:?}", kept(&site)) };
    let refused = site.catalog().drop_snapshot(only.block, &why).unwrap_err().to_string();
    assert!(refused.contains("snapshot_stays_behind_deletions"), "{refused}");
    site.check_places();
    site.check_rows();
}

#[test]
fn a_snapshot_that_does_not_go_far_enough_lets_nothing_go() {
    let (archive, _, open) = memory();
    let mut site = Site::new(open);
    site.fill();
    // The state was saved once, long ago.
    site.state.set(1, 1, site.now());
    site.settle();
    let logs = site.of_policy("logs")[0];
    for days in [30, 2] {
        site.pass_time(days * DAY);
        for _ in 0..4 {
            site.pass();
        }
    }
    assert_eq!(kept(&site).len(), 1);
    assert!(is_there(&site, logs) && site.pass().failed == 0);
    assert!(site.files().contains(&logs), "a start would read it here");
    let delete = site.catalog().delete(&[(logs, site.why())]).unwrap_err().to_string();
    assert!(delete.contains("deleted_is_in_a_snapshot"), "{delete}");

    site.write_block();
    site.settle();
    assert!(!is_there(&site, logs));
    archive.aside(|| site.check_rows());
}

#[test]
fn a_snapshot_is_kept_a_day_and_the_middle_is_thinned_out() {
    let (_, _, open) = memory();
    let mut site = Site::new(open);
    for day in 0..100 {
        site.write("alarm", &format!("pump/{day}"), 1);
        site.pass_time(DAY);
        site.settle();
    }
    let all = kept(&site);
    assert_eq!(all.len(), 24, "{all:?}");
    let gaps: Vec<i64> = all.windows(2).map(|pair| (pair[1].received - pair[0].received) / DAY).collect();
    assert!(gaps.iter().all(|days| (1..=9).contains(days)), "{gaps:?}");
    assert_eq!(site.objects("archive", "snapshots").len(), 24);
    site.check_places();
}

#[test]
fn those_that_deletions_have_passed_go() {
    let (mut site, _, logs) = site();
    let before = kept(&site);
    site.write("logs", "pump/logs", 1);
    site.pass_time(2 * DAY);
    site.settle();
    assert!(!is_there(&site, logs));
    let after = kept(&site);
    assert_eq!((before.len(), after.len()), (1, 2), "the first one goes past the logs: {after:?}");
    // The new logs are sealed, archived and deleted in their turn.
    site.write("alarm", "other", 1);
    site.write("alarm", "other", 1);
    site.seal();
    for _ in 0..40 {
        site.pass_time(DAY);
        site.settle();
    }
    let last = kept(&site);
    assert!(!last.contains(&before[0]), "{last:?}");
    site.check_places();
    site.check_rows();
}

#[test]
fn one_that_is_gone_or_cut_short_is_noticed_and_another_one_kept() {
    let (mut site, _, _) = site();
    let lost = kept(&site)[0].clone();
    site.wait(site.store("archive").delete(&lost.object())).unwrap();
    site.restart();
    site.write("alarm", "other", 1);
    site.settle();
    let now = kept(&site);
    assert!(now.len() == 1 && now[0].block > lost.block, "{now:?}");
    let history = site.catalog().view().unwrap();
    let lost =
        history.history(..).unwrap().map(Result::unwrap).find(|decision| decision.reason == "it is gone");
    assert!(lost.unwrap().to_string().contains("does not count any more"));
    site.check_places();
}

#[test]
fn one_that_is_not_what_was_sent_does_not_count() {
    let (archive, _, open) = memory();
    let mut site = Site::new(open);
    site.write("alarm", "other", 1);
    for request in archive.requests()..archive.requests() + 12 {
        archive.plant(request, Fault::Truncated);
    }
    let pass = site.pass();
    assert!(
        pass.failures.iter().any(|failure| failure.what.contains("is not what was sent to it")),
        "{pass:?}"
    );
    assert_eq!(kept(&site), []);
    archive.heal();
    site.settle();
    assert_eq!(kept(&site).len(), 1);
    site.check_places();
    site.check_snapshots();
}

#[test]
fn without_a_store_they_are_kept_here() {
    let (_, _, open) = memory();
    let mut site = Site::new(open);
    site.keeps_here = true;
    site.restart();
    site.fill();
    site.settle();
    let [only] = &kept(&site)[..] else { panic!("{:?}", kept(&site)) };
    assert_eq!((only.store.clone(), only.file(site.data()).exists()), (None, true));
    std::fs::write(snapshot::directory(site.data()).join("00000000000000000007.full"), "of a crash").unwrap();
    site.pass_time(2 * HOUR);
    site.settle();
    assert_eq!(std::fs::read_dir(snapshot::directory(site.data())).unwrap().count(), 1);

    std::fs::remove_file(only.file(site.data())).unwrap();
    site.pass_time(2 * HOUR);
    site.settle();
    assert!(only.file(site.data()).exists(), "it is made anew");
}

/// A site with a state of three parts, and what a pass that sends it asks of the store.
fn large() -> (Site, Faulty, Vec<String>) {
    let (archive, _, open) = memory();
    let mut site = Site::new(open);
    site.state.bytes = 33 << 20;
    site.restart();
    site.write("alarm", "other", 1);
    let before = archive.requests();
    site.pass_or_crash();
    let asked = archive.kinds().split_off(before);
    (site, archive, asked)
}

#[test]
fn one_in_parts_goes_on_after_a_crash_between_two_parts() {
    let (site, archive, asked) = large();
    let parts: Vec<usize> =
        asked.iter().enumerate().filter(|(_, kind)| *kind == "part snapshots").map(|at| at.0).collect();
    assert_eq!((parts.len(), kept(&site).len()), (3, 1), "{asked:?}");
    archive.aside(|| site.check_snapshots());

    let (archive, _, open) = memory();
    let mut site = Site::new(open);
    site.state.bytes = 33 << 20;
    site.restart();
    site.write("alarm", "other", 1);
    archive.plant(archive.requests() + parts[1], Fault::CrashAfter);
    assert_eq!(site.pass_or_crash(), None);
    let outgoing = site.catalog().view().unwrap().outgoing().unwrap().unwrap();
    let arrived = outgoing.parts.unwrap().arrived.len();
    assert!((1..=2).contains(&arrived), "{arrived}");
    assert_eq!(kept(&site), []);
    let before = archive.requests();
    site.settle();
    let sent = archive.kinds()[before..].iter().filter(|kind| *kind == "part snapshots").count();
    assert_eq!(sent, 3 - arrived, "what has arrived is not sent again");
    assert_eq!(kept(&site), [outgoing.snapshot]);
    site.check_places();
    site.check_snapshots();
}
