//! What goes into the bucket's journal, and when.

use icecore_tier::catalog::{Catalog, CatalogError, Found, Rebuild};
use icecore_tier::hold::Scope;
use icecore_tier::journal::{Bucket, JournalError, Term};
use icecore_tier::mutants::{Mutant, plant};

use crate::support::{DAY, Fault, FaultyBucket, POLICIES, Site, by_schema};

/// Every line of the journal, in order.
fn lines(site: &Site) -> Vec<String> {
    let objects = site.bucket.list("journal/").unwrap();
    let texts = objects.iter().map(|name| String::from_utf8(site.bucket.get(name).unwrap()).unwrap());
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn says(site: &Site, what: &str) -> bool {
    lines(site).iter().any(|line| line.contains(what))
}

/// Whether a mark waits for a bucket that is away.
fn a_mark_waits() -> bool {
    let site = Site::new();
    let segment = site.seal("heat", "oslo/1");
    site.bucket.set(Fault::Down);
    let refused = matches!(site.mark(segment, DAY), Err(CatalogError::Journal(_)));
    refused && site.entry(segment).segment.deletion.is_none()
}

#[test]
fn what_takes_something_away_is_on_record_before_it_takes_effect() {
    assert!(a_mark_waits());
    let site = Site::new();
    let segment = site.seal("heat", "oslo/1");
    assert_eq!(lines(&site), Vec::<String>::new(), "nothing hurries to be mirrored");
    site.mark(segment, DAY).unwrap();
    assert!(says(&site, r#""what":{"marked":{"segment":"000000000000-000","due":"2023-11-15T22:13:20Z"}}"#));
    assert!(says(&site, r#""registered":{"manifest":0"#), "what came before is there too");
    assert!(site.entry(segment).segment.deletion.is_some());
}

#[test]
fn an_effect_before_its_record_is_noticed() {
    plant(Some(Mutant::EffectBeforeJournal));
    let waits = a_mark_waits();
    plant(None);
    assert!(!waits);
}

#[test]
fn while_the_bucket_is_away_facts_queue_and_are_mirrored_later() {
    let mut site = Site::new();
    site.mirror().unwrap();
    site.bucket.set(Fault::Down);
    let segment = site.seal("heat", "oslo/1");
    let hold = site.catalog().hold_add(&Scope::default(), &site.why("case 17")).unwrap();
    site.catalog().apply_policies(POLICIES, &by_schema, &site.why("first")).unwrap();
    site.catalog().identities("{\"fact\":\"enrolled\"}\n", &site.why("enrolled")).unwrap();
    assert!(site.mirror().is_err());
    assert!(site.catalog().hold_remove(hold, &site.why("closed")).is_err(), "this one waits");
    assert_eq!(site.entry(segment).holds, [hold]);
    site.restart();
    assert_eq!(site.catalog().view().unwrap().unmirrored().unwrap(), 4);
    site.bucket.set(Fault::None);
    site.mirror().unwrap();
    assert_eq!(site.catalog().view().unwrap().unmirrored().unwrap(), 0);
    assert_eq!(lines(&site).len(), 5, "with the taking of the term");
    site.catalog().hold_remove(hold, &site.why("closed")).unwrap();
    assert!(says(&site, r#"{"hold_removed":{"number":1}}"#));
}

#[test]
fn the_local_file_stays_until_its_copy_is_on_record() {
    let site = Site::new();
    let segment = site.seal("heat", "oslo/1");
    site.copy(segment);
    let error = site.catalog().drop_local(segment, &site.why("old")).unwrap_err().to_string();
    assert!(error.contains("until the journal in the bucket has another copy on record"), "{error}");
    site.mirror().unwrap();
    site.catalog().drop_local(segment, &site.why("old")).unwrap();
}

#[test]
fn a_hold_beats_a_deletion_whose_record_is_in_doubt() {
    let site = Site::new();
    let segment = site.seal("heat", "oslo/1");
    site.mark(segment, 0).unwrap();
    site.bucket.set(Fault::AnswerLost);
    let error = site.delete(segment).unwrap_err();
    assert!(matches!(error, CatalogError::Journal(_) | CatalogError::InDoubt { .. }), "{error}");
    let doubt = site.catalog().view().unwrap().explain(segment).unwrap();
    assert!(doubt.to_string().contains("is not known to be there"), "{doubt}");
    let hold = site.catalog().hold_add(&Scope::default(), &site.why("case 17")).unwrap();
    site.bucket.set(Fault::None);
    site.mirror().unwrap();
    assert_eq!(site.entry(segment).holds, [hold], "the events are there");
    let words = site.catalog().view().unwrap().explain(segment).unwrap().to_string();
    assert!(words.contains("never took effect") && words.contains("hold 1 stands on it"), "{words}");
    site.mirror().unwrap();
    assert!(says(&site, r#"{"void":{"decision":"#), "and the journal says so");
}

#[test]
fn two_catalogs_do_not_share_a_bucket_and_who_is_superseded_stops() {
    let site = Site::new();
    let segment = site.seal("heat", "oslo/1");
    site.mark(segment, 0).unwrap();
    site.catalog().check_term().unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    let other = Catalog::open(elsewhere.path(), [8; 16], site.bucket()).unwrap();
    let error = other.mirror("other", 0).unwrap_err();
    assert!(matches!(error, CatalogError::Journal(JournalError::Foreign { term: 1, .. })), "{error}");

    Term::take_over(&*site.bucket, [8; 16], "spare machine", 5).unwrap();
    let error = site.delete(segment).unwrap_err().to_string();
    assert!(error.contains("spare machine took the bucket over with term 2"), "{error}");
    assert!(site.catalog().check_term().is_err());
    assert!(site.live(segment).is_some());
}

#[test]
fn an_edited_journal_is_noticed_by_who_goes_on_writing() {
    let site = Site::new();
    let segment = site.seal("heat", "oslo/1");
    // Somebody put an object where the next one goes.
    site.mirror().unwrap();
    let next = site.catalog().view().unwrap().history(..).unwrap().count();
    site.bucket.create(&format!("journal/0000000001/{next:020}.json"), b"{}\n").unwrap();
    let error = site.mark(segment, 0).unwrap_err().to_string();
    assert!(error.contains("line 1") && error.contains("rebuild the catalog"), "{error}");
}

#[test]
fn who_takes_over_ends_the_right_of_who_was_before() {
    let bucket = FaultyBucket::default();
    let ours = Term::first(&bucket, [1; 16], "here", 1).unwrap();
    assert_eq!(ours.number, 1);
    assert_eq!(Term::first(&bucket, [1; 16], "here", 2).unwrap(), ours, "asked again, still ours");
    ours.check(&bucket).unwrap();
    let error = Term::first(&bucket, [2; 16], "there", 3).unwrap_err().to_string();
    assert!(error.contains("another catalog (here, term 1)"), "{error}");
    bucket.set(Fault::ListsLate);
    assert!(Term::first(&bucket, [2; 16], "there", 3).is_err(), "also where a listing does not show it yet");

    bucket.set(Fault::AnswerLost);
    Term::take_over(&bucket, [2; 16], "there", 4).unwrap_err();
    bucket.set(Fault::None);
    let theirs = Term::take_over(&bucket, [2; 16], "there", 5).unwrap();
    assert_eq!(theirs.number, 2, "the one whose answer was lost");
    theirs.check(&bucket).unwrap();
    let error = ours.check(&bucket).unwrap_err().to_string();
    assert!(error.starts_with("there took the bucket over with term 2"), "{error}");
}

#[test]
fn a_registry_is_mirrored_as_it_grows() {
    let site = Site::new();
    let add = |registry: &str| site.catalog().identities(registry, &site.why("as it grows")).unwrap();
    assert_eq!(add("a\nb\n\nhalf a li"), 2);
    assert_eq!(add("a\nb\n\nc\n"), 1);
    assert_eq!(add("a\nb\n\nc\n"), 0);
    site.mirror().unwrap();
    let rebuild = || Rebuild::begin(site.bucket(), [9; 16], site.why("lost")).unwrap();
    assert_eq!(rebuild().identities().collect::<Vec<_>>(), ["a", "b", "c"]);
    // What is rebuilt goes on where the journal ended.
    let elsewhere = tempfile::tempdir().unwrap();
    let (catalog, _) = rebuild().build(elsewhere.path(), &Found::default(), &by_schema).unwrap();
    assert_eq!(catalog.identities("a\nb\nc\nd\n", &site.why("elsewhere")).unwrap(), 1);
}

#[test]
fn a_registry_that_another_one_replaced_is_mirrored_whole() {
    let site = Site::new();
    let add = |registry: &str| site.catalog().identities(registry, &site.why("replaced")).unwrap();
    assert_eq!(add("a\nb\nc\n"), 3);
    assert_eq!(add("a\nb\n"), 2, "it was cut");
    assert_eq!(add("a\nx\ny\n"), 3, "it was edited");
    assert_eq!(add("a\nx\ny\nz\n"), 1);
}
