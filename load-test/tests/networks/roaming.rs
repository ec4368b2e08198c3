//! The device changes its address and port in mid-stream, and its port behind the same address.

use crate::scenario::{self, Crash, SOME, Trouble};

const TROUBLE: Trouble = Trouble {
    begin: |path| path.roam().unwrap(),
    endure: |path, pumps| {
        for _ in 0..3 {
            pumps.wait_for_acks(SOME).unwrap();
            path.rebind().unwrap();
            pumps.wait_for_acks(SOME).unwrap();
            path.roam().unwrap();
        }
    },
};

#[test]
fn roaming() {
    scenario::run(Crash::Nobody, &TROUBLE);
}

#[test]
fn roaming_with_a_server_that_crashes() {
    scenario::run(Crash::Server, &TROUBLE);
}

#[test]
fn roaming_with_a_device_that_crashes() {
    scenario::run(Crash::Device, &TROUBLE);
}
