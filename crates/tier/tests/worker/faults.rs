//! One fault at one request of a life, for every fault and request: nothing is lost, nothing is there twice or left over.

use crate::faulty::{FAULTS, Fault, Faulty};
use crate::life::memory;
use crate::site::{DAY, HOUR, Site};

/// One of so many combinations of fault and request is tried, or all if `ICECORE_FAULTS` is `all`.
const SAMPLE: usize = 11;

/// A short life: copied to two classes, dropped, split from nothing, deleted.
const POLICIES: &str = r#"
[[policy]]
name   = "rest"
cold   = [{ after = "1h", store = "archive" }, { after = "10h", store = "archive", class = "STANDARD_IA" }]
local  = { drop_after = "1h" }
delete = { after = "2d", undo = "1h" }
"#;

fn site() -> (Site, Faulty) {
    let (archive, _, open) = memory();
    let site = Site::new(open);
    site.apply(POLICIES);
    (site, archive)
}

fn live(site: &mut Site, archive: &Faulty) {
    site.fill();
    for time in [0, 2 * HOUR, 9 * HOUR, 2 * DAY, 12 * HOUR] {
        site.pass_time(time);
        site.settle();
        archive.aside(|| site.check_rows());
    }
    archive.aside(|| {
        site.check_places();
        assert!(site.objects("archive", "segments").is_empty(), "deleted in the end");
    });
}

fn requests() -> (usize, usize) {
    let (mut site, archive) = site();
    let first = archive.requests();
    live(&mut site, &archive);
    (first, archive.requests())
}

#[test]
fn any_fault_at_any_request_is_made_good() {
    let sample = if std::env::var("ICECORE_FAULTS").as_deref() == Ok("all") { 1 } else { SAMPLE };
    let (first, last) = requests();
    let combinations = (first..last).flat_map(|request| FAULTS.map(|fault| (request, fault)));
    let begin = if sample == 1 { 0 } else { fastrand::usize(..sample) };
    for (request, fault) in combinations.skip(begin).step_by(sample) {
        eprintln!("{fault:?} at {request} of {first}..{last}");
        let (mut site, archive) = site();
        archive.plant(request, fault);
        live(&mut site, &archive);
    }
}

#[test]
fn a_copy_that_was_cut_short_does_not_count() {
    let (mut site, archive) = site();
    site.fill();
    site.settle();
    site.pass_time(2 * HOUR);
    for request in archive.requests()..archive.requests() + 12 {
        archive.plant(request, Fault::Truncated);
    }
    let pass = site.pass();
    assert!(pass.failed > 0 && pass.uploaded == 0, "{pass:?}");
    assert!(
        pass.failures.iter().any(|failure| failure.what.contains("is not what was sent to it")),
        "{pass:?}"
    );
    assert!(site.pass().failed == 0, "it is not tried again at once");
    archive.heal();
    site.settle();
    archive.aside(|| site.check_rows());
}
