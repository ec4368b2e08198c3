//! What the tests claim to catch, planted.

use std::panic::{AssertUnwindSafe, catch_unwind};

use icecore_tier::mutants::{Mutant, plant};

use crate::faulty::Fault;
use crate::life::memory;
use crate::site::{DAY, HOUR, Site};

/// Whether a scenario passes with a bug, and that it does without.
fn caught(mutant: Mutant, scenario: impl Fn()) -> bool {
    scenario();
    plant(Some(mutant));
    let result = catch_unwind(AssertUnwindSafe(scenario));
    plant(None);
    result.is_err()
}

#[test]
fn a_copy_that_was_not_read_back_is_caught() {
    assert!(caught(Mutant::CopyNotCompared, || {
        let (archive, _, open) = memory();
        let mut site = Site::new(open);
        site.fill();
        site.settle();
        site.pass_time(7 * HOUR);
        for request in archive.requests()..archive.requests() + 12 {
            archive.plant(request, Fault::Truncated);
        }
        site.pass();
        archive.heal();
        site.settle();
        site.pass_time(2 * DAY);
        site.settle();
        site.check_rows();
    }));
}

#[test]
fn a_snapshot_that_was_not_read_back_is_caught() {
    assert!(caught(Mutant::SnapshotNotCompared, || {
        let (archive, _, open) = memory();
        let mut site = Site::new(open);
        site.write("alarm", "other", 1);
        for request in archive.requests()..archive.requests() + 12 {
            archive.plant(request, Fault::Truncated);
        }
        site.pass();
        archive.heal();
        site.settle();
        site.check_snapshots();
    }));
}

#[test]
fn a_file_that_goes_too_early_is_caught() {
    assert!(caught(Mutant::FileBeforeDecision, || {
        let (archive, _, open) = memory();
        let mut site = Site::new(open);
        site.fill();
        site.settle();
        site.pass_time(2 * HOUR);
        archive.refuse(Some("journal"));
        assert_eq!(site.pass().uploaded, 1);
        let pass = site.pass();
        assert!(pass.failed > 0, "not dropped before the journal has it: {pass:?}");
        site.check_rows();
        archive.refuse(None);
        site.settle();
        site.check_places();
    }));
}

#[test]
fn bytes_that_go_before_the_undo_window_is_over_are_caught() {
    assert!(caught(Mutant::DeleteAtMark, || {
        let (_, _, open) = memory();
        let mut site = Site::new(open);
        site.fill();
        site.settle();
        site.pass_time(7 * HOUR);
        site.settle();
        site.pass_time(91 * DAY);
        site.settle();
        site.check_rows();
    }));
}
