//! A tenth of all datagrams is lost, and a few are damaged.

use icecore_load::network::Conditions;

use crate::scenario::{self, Crash, NEAR, SOME, Trouble};

const TROUBLE: Trouble = Trouble {
    begin: |path| path.set(Conditions { loss: 0.1, corruption: 0.01, ..NEAR }),
    endure: |_, pumps| pumps.wait_for_acks(SOME).unwrap(),
};

#[test]
fn losses() {
    scenario::run(Crash::Nobody, &TROUBLE);
}

#[test]
fn losses_with_a_server_that_crashes() {
    scenario::run(Crash::Server, &TROUBLE);
}

#[test]
fn losses_with_a_device_that_crashes() {
    scenario::run(Crash::Device, &TROUBLE);
}
