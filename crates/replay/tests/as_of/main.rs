//! States as they were, against a naive fold of a plain vector of events: over hot, warm and cold, from any snapshots, with deletions.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

#[path = "../../../state/tests/state/history.rs"]
#[expect(dead_code, reason = "it is shared with the tests of the fold")]
mod history;
#[path = "../../../state/tests/state/oracle.rs"]
mod oracle;

mod deletions;
mod histories;
mod site;
mod table;
