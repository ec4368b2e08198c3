//! The fold against a naive one over a plain vector of events and against itself with other batches; snapshots against the fold.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod damage;
mod golden;
mod history;
mod oracle;
mod pages;
mod saved;
mod snapshots;
mod statistics;

use proptest::prelude::*;

use history::{History, fold};

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_device_is_what_a_plain_fold_of_its_events_says(history in history::histories()) {
        let state = fold(&history);
        oracle::check(&history.events(), &state)?;
        prop_assert_eq!(state.ledger().events(), history.events().len() as u64);
    }

    #[test]
    fn not_a_bit_depends_on_how_batches_were_cut(
        history in history::histories(),
        cuts in prop::collection::vec(1_usize..9, 1..20),
    ) {
        let cut: History = history.cut_again(&cuts);
        prop_assert_eq!(history.events().len(), cut.events().len());
        prop_assert_eq!(format!("{:?}", fold(&history)), format!("{:?}", fold(&cut)));
    }
}
