//! Long and uneven ways, on which datagrams overtake each other.

use std::time::Duration;

use icecore_load::network::Conditions;

use crate::scenario::{self, Crash, SOME, Trouble};

const TROUBLE: Trouble = Trouble {
    begin: |path| {
        path.set(Conditions {
            delay: Duration::from_millis(40),
            jitter: Duration::from_millis(20),
            reordering: 0.1,
            held: Duration::from_millis(15),
            ..Conditions::default()
        });
    },
    endure: |_, pumps| pumps.wait_for_acks(SOME).unwrap(),
};

#[test]
fn delay_and_reordering() {
    scenario::run(Crash::Nobody, &TROUBLE);
}

#[test]
fn delay_and_reordering_with_a_server_that_crashes() {
    scenario::run(Crash::Server, &TROUBLE);
}

#[test]
fn delay_and_reordering_with_a_device_that_crashes() {
    scenario::run(Crash::Device, &TROUBLE);
}
