//! A sealed segment that is damaged before the catalog hears of it: it is told, kept in mind, and keeps nothing else from moving.

use icecore_tier::hold::Scope;

use crate::life::memory;
use crate::site::{HOUR, Site};

/// Flips a bit of the footer, without which nobody knows what is in the segment.
fn spoil(file: &std::path::Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let place = bytes.len() - 80;
    bytes[place] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn one_damaged_segment_does_not_hold_up_the_others() {
    let (_, _, open) = memory();
    let mut site = Site::new(open);
    site.fill();
    let segments: Vec<_> = site.files().into_iter().collect();
    assert_eq!(segments.len(), 3, "one for each policy");
    spoil(&site.file(segments[0]));

    let pass = site.pass();
    assert_eq!(pass.registered, 3, "{pass:?}");
    let told = &pass.failures[0];
    assert!(told.segment == Some(segments[0]) && told.what.contains("footer"), "{told:?}");
    let entry =
        |site: &Site| site.entries().into_iter().find(|entry| entry.segment.id == segments[0]).unwrap();
    assert!(entry(&site).missing);
    assert!(entry(&site).segment.shares.len() > 1, "it may belong to any of them");
    let scope = Scope { device: Some("pump/logs".to_owned()), ..Scope::default() };
    let hold = site.catalog().hold_add(&scope, &site.why()).unwrap();
    assert!(entry(&site).holds.contains(&hold), "and a hold on what it may have is on it");

    site.pass_time(25 * HOUR);
    for _ in 0..3 {
        site.pass();
    }
    assert_eq!(site.objects("archive", "segments").len(), 2, "the others are copied");
    assert!(site.files().contains(&segments[0]), "what is left of it stays");
}
