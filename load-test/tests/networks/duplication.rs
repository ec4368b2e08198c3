//! Datagrams arrive twice, and the second ones late.

use std::time::Duration;

use icecore_load::network::Conditions;

use crate::scenario::{self, Crash, NEAR, SOME, Trouble};

const TROUBLE: Trouble = Trouble {
    begin: |path| {
        let held = Duration::from_millis(20);
        path.set(Conditions { duplication: 0.3, reordering: 0.2, held, ..NEAR });
    },
    endure: |_, pumps| pumps.wait_for_acks(SOME).unwrap(),
};

#[test]
fn duplication() {
    scenario::run(Crash::Nobody, &TROUBLE);
}

#[test]
fn duplication_with_a_server_that_crashes() {
    scenario::run(Crash::Server, &TROUBLE);
}

#[test]
fn duplication_with_a_device_that_crashes() {
    scenario::run(Crash::Device, &TROUBLE);
}
