//! One fault at one request of a life, for every fault and request: nothing is lost, nothing is there twice or left over.

use std::collections::BTreeMap;

use crate::faulty::{FAULTS, Fault, Faulty};
use crate::life::memory;
use crate::site::{DAY, HOUR, Site};

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

/// The requests of a life, by their kind.
fn requests() -> BTreeMap<String, Vec<usize>> {
    let (mut site, archive) = site();
    let first = archive.requests();
    live(&mut site, &archive);
    let mut requests: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (number, kind) in archive.kinds().into_iter().enumerate().skip(first) {
        requests.entry(kind).or_default().push(number);
    }
    requests
}

/// Every fault at a request of every kind, whichever of the kind, or at all if `ICECORE_FAULTS` is `all`.
#[test]
fn any_fault_at_any_request_is_made_good() {
    let requests = requests();
    let kinds: Vec<_> = requests.keys().map(String::as_str).collect();
    let expected = [
        "delete segments",
        "get manifests",
        "get segments",
        "get snapshots",
        "get terms",
        "list manifests",
        "list segments",
        "list snapshots",
        "list terms",
        "put journal",
        "put manifests",
        "put segments",
        "put snapshots",
        "put terms",
    ];
    assert_eq!(kinds, expected, "what a life consists of");
    for (kind, numbers) in requests {
        for fault in FAULTS.into_iter().filter(|fault| fault.concerns(&kind)) {
            let all = std::env::var("ICECORE_FAULTS").as_deref() == Ok("all");
            let one = [numbers[fastrand::usize(..numbers.len())]];
            for number in if all { &numbers[..] } else { &one } {
                eprintln!("{fault:?} at {kind}, request {number}");
                let (mut site, archive) = site();
                archive.plant(*number, fault);
                live(&mut site, &archive);
            }
        }
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
