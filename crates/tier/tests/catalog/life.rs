//! A segment's whole life, and what can be read of it.

use icecore_tier::catalog::{Catalog, End, Upload};
use icecore_tier::hold::Scope;
use icecore_tier::store::Parts;

use crate::support::{DAY, POLICIES, Site, all_keep, by_schema, id};

#[test]
fn a_life_from_seal_to_tombstone_is_explained_in_words() {
    let site = Site::without_bucket();
    let catalog = site.catalog();
    assert_eq!(catalog.apply_policies(POLICIES, &by_schema, &site.why("first")).unwrap(), 1);
    let segment = site.seal("heat", "oslo/1");
    let shares = site.entry(segment).segment.shares;
    assert_eq!((shares.len(), &*shares[0].policy, shares[0].rows), (1, "heat", 10));
    site.pass(DAY);
    site.copy(segment);
    catalog.drop_local(segment, &site.why("older than 2 days")).unwrap();
    site.mark(segment, 7 * DAY).unwrap();
    let words = catalog.view().unwrap().explain(segment).unwrap().to_string();
    assert!(words.contains("is in object storage only: `archive`; 10 events, 150 bytes"), "{words}");
    assert!(words.contains("to be deleted from 2023-11-22T22:13:20Z on by `heat`"), "{words}");
    site.pass(7 * DAY);
    site.delete(segment).unwrap();
    assert_eq!(site.live(segment), None);

    let view = catalog.view().unwrap();
    let garbage = view.garbage().unwrap();
    assert_eq!(garbage.len(), 1);
    assert!(matches!(garbage[0].end, End::Deleted { .. }) && !garbage[0].local);
    assert_eq!(view.contents(segment).unwrap()[0].device, "oslo/1", "of whom it was stays known");
    catalog.cleared(segment, Some("archive"), &site.why("deleted")).unwrap();
    let view = catalog.view().unwrap();
    assert_eq!(view.garbage().unwrap(), []);
    let words = view.explain(segment).unwrap().to_string();
    let lines: Vec<_> = words.lines().collect();
    assert_eq!(lines[0], "000000000000-000 was deleted on 2023-11-22T22:13:20Z by `heat`");
    assert_eq!(
        lines[2],
        "  2  2023-11-15T22:13:20Z  copied to `archive`, read back and found the same: older than 6 hours \
         (policy `heat`, policies 1; worker)"
    );
    assert_eq!(lines.len(), 7, "{words}");
    let numbers: Vec<_> = view.history(..).unwrap().map(|decision| decision.unwrap().number).collect();
    assert_eq!(numbers, (0..7).collect::<Vec<_>>(), "dense, from 0");
}

#[test]
fn a_change_of_policies_shares_segments_out_anew_and_a_split_loses_no_event() {
    let site = Site::without_bucket();
    let catalog = site.catalog();
    let sealing =
        site.sealing(&[&[("heat", "oslo/1", 10), ("heat", "bergen/1", 30), ("flow", "oslo/2", 60)]]);
    catalog.register(&sealing, 0, &all_keep, &site.why("sealed")).unwrap();
    site.register(&sealing).unwrap();
    let segment = id(0, 0);
    assert_eq!(site.entry(segment).segment.shares.len(), 1, "a second registration changes nothing");
    let version = catalog.apply_policies(POLICIES, &by_schema, &site.why("narrowed")).unwrap();
    assert_eq!(version, 1);
    let entry = site.entry(segment);
    let shares: Vec<_> =
        entry.segment.shares.iter().map(|share| (&*share.policy, share.rows, share.bytes)).collect();
    assert_eq!(shares, [("flow", 60, 360), ("heat", 40, 240)]);

    site.copy(segment);
    let split = site.splitting(
        segment,
        &[&[("flow", "oslo/2", 60)], &[("heat", "oslo/1", 10), ("heat", "bergen/1", 30)]],
    );
    site.register(&split).unwrap();
    assert_eq!(site.live(segment), None);
    assert_eq!(site.entry(id(1, 1)).segment.rows, 40);
    let view = catalog.view().unwrap();
    assert_eq!(view.garbage().unwrap(), [], "the copy stays while the parts have none");
    for child in [id(1, 0), id(1, 1)] {
        site.copy(child);
    }
    assert_eq!(catalog.view().unwrap().garbage().unwrap()[0].id, segment);
    let words = catalog.view().unwrap().explain(segment).unwrap().to_string();
    assert!(words.contains("its events are in the segments 000000000001-…"), "{words}");
}

#[test]
fn holds_stand_on_what_is_there_and_on_what_comes() {
    let site = Site::without_bucket();
    let catalog = site.catalog();
    let (oslo, bergen) = (site.seal("heat", "oslo/1"), site.seal("heat", "bergen/1"));
    let scope = Scope { device: Some("oslo/*".to_owned()), ..Scope::default() };
    assert_eq!(catalog.hold_add(&scope, &site.why("case 17")).unwrap(), 1);
    let later = site.seal("heat", "oslo/2");
    assert_eq!([oslo, bergen, later].map(|id| site.entry(id).holds), [vec![1], vec![], vec![1]]);
    assert_eq!(catalog.view().unwrap().holds().unwrap()[0].scope, scope);
    catalog.hold_remove(1, &site.why("case closed")).unwrap();
    assert!(site.entry(oslo).holds.is_empty());
    assert_eq!(
        catalog.hold_add(&Scope::default(), &site.why("all")).unwrap(),
        2,
        "numbers are not given twice"
    );
}

#[test]
fn readers_follow_a_writer_and_read_what_a_killed_one_left() {
    let mut site = Site::without_bucket();
    let error = Catalog::read(&site.data.path().join("nowhere")).err().unwrap().to_string();
    assert!(error.contains("does not exist"), "{error}");
    let segment = site.seal("heat", "oslo/1");
    let reader = Catalog::read(site.data.path()).unwrap();
    assert!(reader.view().unwrap().segment(segment).unwrap().is_some());
    let second = site.seal("heat", "oslo/1");
    assert!(reader.view().unwrap().segment(second).unwrap().is_some(), "it follows");
    let error = site.open().err().unwrap().to_string();
    assert!(error.contains("is in use by another process"), "{error}");

    // What a kill leaves is the file as it is between two transactions.
    let killed = tempfile::tempdir().unwrap();
    std::fs::copy(site.data.path().join("catalog.redb"), killed.path().join("catalog.redb")).unwrap();
    assert_eq!(Catalog::read(killed.path()).unwrap().view().unwrap().count().unwrap(), 2);
    let catalog = Catalog::open(killed.path(), [0; 16], None).unwrap();
    assert_eq!(catalog.view().unwrap().count().unwrap(), 2);
    site.close();
    assert_eq!(reader.view().unwrap().count().unwrap(), 2, "and reads on when the writer has gone");
}

#[test]
fn uploads_in_flight_survive_a_restart() {
    let mut site = Site::without_bucket();
    let mut parts = Parts {
        object: "segments/x.ice".to_owned(),
        id: "multipart-7".to_owned(),
        part_bytes: 16 << 20,
        arrived: Vec::new(),
    };
    let upload =
        |parts: &Parts| Upload { segment: id(3, 1), store: "archive".to_owned(), parts: parts.clone() };
    site.catalog().keep_upload(&upload(&parts)).unwrap();
    parts.arrived.push("part-1".to_owned());
    site.catalog().keep_upload(&upload(&parts)).unwrap();
    site.restart();
    assert_eq!(site.catalog().view().unwrap().uploads().unwrap(), [upload(&parts)]);
    site.catalog().upload_ended(id(3, 1), "archive").unwrap();
    assert_eq!(site.catalog().view().unwrap().uploads().unwrap(), []);
}

#[test]
fn a_segment_moves_from_one_store_to_another() {
    let site = Site::without_bucket();
    let segment = site.seal("heat", "oslo/1");
    let (catalog, why) = (site.catalog(), site.why("older than 90 days"));
    site.copy(segment);
    catalog.drop_local(segment, &why).unwrap();
    let error = catalog.drop_copy(segment, "archive", &why).unwrap_err().to_string();
    assert!(error.contains("`somewhere`"), "{error}");
    catalog.record_copy(segment, "vault", Some("DEEP"), &why).unwrap();
    catalog.drop_copy(segment, "archive", &why).unwrap();
    let error = catalog.drop_copy(segment, "archive", &why).unwrap_err().to_string();
    assert!(error.ends_with("it has no copy in `archive`"), "{error}");
    let dropped = || catalog.view().unwrap().dropped_copies().unwrap();
    assert_eq!(dropped(), [(segment, "archive".to_owned())], "its object is still to go");
    let words = catalog.view().unwrap().explain(segment).unwrap().standing;
    assert!(words.starts_with("is in object storage only: `vault` (DEEP)"), "{words}");
    catalog.cleared(segment, Some("archive"), &why).unwrap();
    assert_eq!(dropped(), []);
    assert!(catalog.cleared(segment, Some("vault"), &why).is_err());
}
