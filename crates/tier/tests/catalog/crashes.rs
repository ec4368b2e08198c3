//! Crashes between the steps of a decision that is to be on record first: before the record, after it, and with an answer lost.

use icecore_tier::journal::Bucket;

use crate::support::{Fault, Site};

fn objects(site: &Site) -> usize {
    site.bucket.list("journal/").unwrap().len()
}

/// A site with a marked segment that is due, everything mirrored.
fn site() -> (Site, icecore_tier::segment::SegmentId) {
    let site = Site::new();
    let segment = site.seal("heat", "oslo/1");
    site.mark(segment, 0).unwrap();
    site.mirror().unwrap();
    (site, segment)
}

#[test]
fn a_crash_after_the_record_and_before_the_effect_goes_on_from_there() {
    let (mut site, segment) = site();
    let before = objects(&site);
    site.bucket.set(Fault::AnswerLost);
    site.delete(segment).unwrap_err();
    assert_eq!(objects(&site), before + 1, "on record, but nobody heard of it");
    site.restart();
    assert!(site.live(segment).is_some(), "not in force");
    site.bucket.set(Fault::None);
    site.mirror().unwrap();
    assert!(site.live(segment).is_none(), "now it is");
    assert_eq!(objects(&site), before + 1, "it was not written twice");
    site.mirror().unwrap();
    assert_eq!(objects(&site), before + 1);
}

#[test]
fn a_crash_before_the_record_goes_on_from_there() {
    let (mut site, segment) = site();
    let before = objects(&site);
    // The bucket goes away between the decision and its record.
    site.bucket.set(Fault::CreateFails);
    site.delete(segment).unwrap_err();
    assert_eq!(objects(&site), before);
    site.restart();
    let second = site.seal("flow", "oslo/1");
    assert!(site.live(segment).is_some());
    site.bucket.set(Fault::None);
    site.mirror().unwrap();
    assert!(site.live(segment).is_none());
    assert!(site.live(second).is_some(), "what was decided meanwhile stands");
    assert_eq!(site.catalog().view().unwrap().unmirrored().unwrap(), 0);
}

#[test]
fn a_batch_that_got_through_unheard_is_not_written_again_with_more() {
    let mut site = Site::new();
    site.mirror().unwrap();
    let before = objects(&site);
    site.seal("heat", "oslo/1");
    site.bucket.set(Fault::AnswerLost);
    site.mirror().unwrap_err();
    site.restart();
    site.seal("heat", "oslo/1");
    site.bucket.set(Fault::None);
    site.mirror().unwrap();
    assert_eq!(objects(&site), before + 2, "the first object stays as it is, the rest comes behind it");
    assert_eq!(site.catalog().view().unwrap().unmirrored().unwrap(), 0);
}
