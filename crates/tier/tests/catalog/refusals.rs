//! What the catalog refuses: each invariant by its name, with nothing changed.

use icecore_tier::catalog::{CatalogError, Deletions};
use icecore_tier::hold::Scope;

use crate::support::{DAY, POLICIES, Site, by_schema, id};

/// The name of the invariant that a refusal names.
fn invariant(result: Result<(), CatalogError>) -> &'static str {
    match result {
        Err(CatalogError::Broken(violation)) => violation.invariant,
        other => panic!("expected a broken invariant, not {other:?}"),
    }
}

fn decisions(site: &Site) -> usize {
    site.catalog().view().unwrap().history(..).unwrap().count()
}

#[test]
fn the_last_place_of_a_segment_is_not_given_up() {
    let site = Site::without_bucket();
    let segment = site.seal("heat", "oslo/1");
    let before = decisions(&site);
    let error = site.catalog().drop_local(segment, &site.why("full")).unwrap_err();
    let text = error.to_string();
    assert_eq!(invariant(Err(error)), "somewhere");
    assert!(
        text.contains("`somewhere` is broken by segment 000000000000-000: it would be nowhere"),
        "{text}"
    );
    assert!(text.contains("Verify a copy in object storage first"), "{text}");
    assert!(site.entry(segment).segment.local);
    assert_eq!(decisions(&site), before, "what is refused leaves no trace");
}

#[test]
fn what_is_lost_is_missing_and_found_again() {
    let site = Site::without_bucket();
    let segment = site.seal("heat", "oslo/1");
    site.catalog().local_lost(segment, &site.why("the file is damaged")).unwrap();
    assert!(site.entry(segment).missing);
    let words = site.catalog().view().unwrap().explain(segment).unwrap().standing;
    assert!(words.starts_with("is missing"), "{words}");
    site.copy(segment);
    assert!(!site.entry(segment).missing, "an object was found after all");
    site.catalog().copy_lost(segment, "archive", &site.why("gone")).unwrap();
    assert!(site.entry(segment).missing);
    site.catalog().local_found(segment, &site.why("brought back")).unwrap();
    assert!(site.entry(segment).segment.local && !site.entry(segment).missing);
}

#[test]
fn nothing_is_deleted_early_unmarked_or_held() {
    let site = Site::without_bucket();
    let segment = site.seal("heat", "oslo/1");
    assert_eq!(invariant(site.delete(segment)), "no_early_delete");
    assert_eq!(invariant(site.mark(segment, -1)), "undo_window");
    site.mark(segment, 7 * DAY).unwrap();
    let error = site.mark(segment, DAY).unwrap_err().to_string();
    assert_eq!(error, "segment 000000000000-000: it is already marked for deletion");
    site.pass(7 * DAY - 1_000_000_000);
    let error = site.delete(segment).unwrap_err();
    assert!(error.to_string().contains("it is due 1 s later"), "{error}");
    let hold = site.catalog().hold_add(&Scope::default(), &site.why("case 17")).unwrap();
    site.pass(DAY);
    let error = site.delete(segment).unwrap_err().to_string();
    assert!(error.contains("hold 1 stands on it") && error.contains("remove the hold"), "{error}");
    site.catalog().hold_remove(hold, &site.why("closed")).unwrap();
    site.catalog().unmark(segment, &site.why("kept after all")).unwrap();
    assert_eq!(invariant(site.delete(segment)), "no_early_delete");
    let error = site.catalog().unmark(segment, &site.why("again")).unwrap_err().to_string();
    assert!(error.contains("it is not marked"), "{error}");
    site.mark(segment, 0).unwrap();
    site.delete(segment).unwrap();
    let error = site.delete(segment).unwrap_err().to_string();
    assert!(error.contains("any more; `segments explain` says why"), "{error}");
}

#[test]
fn of_many_deletions_one_that_is_refused_keeps_all() {
    let site = Site::without_bucket();
    let (due, not_due) = (site.seal("heat", "a"), site.seal("heat", "b"));
    site.mark(due, 0).unwrap();
    let why = site.why("both");
    assert_eq!(invariant(site.catalog().delete(&[(due, why.clone()), (not_due, why)])), "no_early_delete");
    assert!(site.live(due).is_some());
}

#[test]
fn while_deletions_are_off_nothing_is_marked_or_deleted() {
    let site = Site::without_bucket();
    let segment = site.seal("heat", "oslo/1");
    site.mark(segment, 0).unwrap();
    site.catalog().deletions_off(&site.why("the clock stepped by 40 years")).unwrap();
    let reason = "the clock stepped by 40 years".to_owned();
    assert_eq!(*site.catalog().view().unwrap().deletions(), Deletions::Off { reason });
    let error = site.delete(segment).unwrap_err().to_string();
    assert!(error.ends_with("confirms it: the clock stepped by 40 years"), "{error}");
    site.catalog().deletions_on(&site.why("checked")).unwrap();
    site.delete(segment).unwrap();
}

#[test]
fn manifests_come_in_order_and_a_split_has_the_events_of_what_it_splits() {
    let site = Site::without_bucket();
    let _skipped = site.sealing(&[&[("heat", "a", 10)]]);
    let second = site.sealing(&[&[("heat", "a", 10)]]);
    assert_eq!(invariant(site.register(&second)), "positions_once");

    let site = Site::without_bucket();
    let segment = site.seal("heat", "a");
    let short = site.splitting(segment, &[&[("heat", "a", 9)]]);
    assert_eq!(invariant(site.register(&short)), "children_once");
    let mut other = site.sealing(&[&[("heat", "a", 5)]]);
    other.segments[0].contents.clear();
    assert_eq!(invariant(site.register(&other)), "share_rows");
    other.segments[0].sealed.id.child = 1;
    assert_eq!(invariant(site.register(&other)), "children_numbered");
    let mut again = site.sealing(&[&[("heat", "a", 10)]]);
    (again.number, again.segments[0].sealed.id) = (0, id(0, 0));
    again.segments[0].sealed.root = [9; 32];
    assert_eq!(invariant(site.register(&again)), "manifests_stay");
}

#[test]
fn events_that_were_lost_before_they_were_sealed_are_counted() {
    let mut site = Site::without_bucket();
    let mut sealing = site.sealing(&[&[("heat", "a", 10)]]);
    sealing.segments[0].sealed.rows = 7;
    sealing.segments[0].contents[0].rows = 7;
    assert_eq!(invariant(site.register(&sealing)), "children_once");
    sealing.lost = 3;
    site.register(&sealing).unwrap();
    site.seal("heat", "a");
    site.restart();
    assert_eq!(site.catalog().view().unwrap().sealed_to(), 20);
}

#[test]
fn strangers_are_named() {
    let site = Site::without_bucket();
    let error = site.catalog().record_copy(id(9, 9), "archive", None, &site.why("")).unwrap_err();
    assert_eq!(error.to_string(), "there is no segment 000000000009-009 in the catalog");
    let error = site.catalog().hold_remove(4, &site.why("")).unwrap_err();
    assert!(error.to_string().contains("there is no hold 4"), "{error}");
    let error = site.catalog().cleared(site.seal("heat", "a"), None, &site.why("")).unwrap_err();
    assert!(error.to_string().contains("it is live"), "{error}");
    let long = "#".repeat(2 << 20);
    assert!(site.catalog().apply_policies(&long, &by_schema, &site.why("")).is_err());
}

#[test]
fn a_damaged_file_is_named_when_it_is_opened() {
    let mut site = Site::without_bucket();
    for _ in 0..20 {
        site.seal("heat", "oslo/1");
    }
    site.close();
    let file = site.data.path().join("catalog.redb");
    let whole = std::fs::read(&file).unwrap();
    let mut noticed = 0;
    // Wherever the bit is, the catalog opens whole or says that it is damaged.
    for offset in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[offset] ^= 4;
        std::fs::write(&file, bytes).unwrap();
        match site.open() {
            Ok(catalog) => assert_eq!(catalog.view().unwrap().count().unwrap(), 20),
            Err(error) => {
                noticed += 1;
                assert!(error.to_string().starts_with("catalog.redb"), "{error}");
            }
        }
    }
    assert!(noticed > 0);
}

#[test]
fn what_was_shared_out_by_policies_that_were_replaced_is_not_registered() {
    let site = Site::without_bucket();
    let sealing = site.sealing(&[&[("heat", "oslo/1", 10)]]);
    site.catalog().apply_policies(POLICIES, &by_schema, &site.why("in between")).unwrap();
    let error = site.catalog().register(&sealing, 0, &by_schema, &site.why("sealed")).unwrap_err();
    assert!(error.to_string().contains("by policies 0, and 1 apply by now"), "{error}");
    site.register(&sealing).unwrap();
}
