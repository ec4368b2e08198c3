//! Nothing arrives for longer than the idle timeout.

use std::thread;
use std::time::Duration;

use icecore_device::transport::IDLE_TIMEOUT;

use crate::scenario::{self, Crash, Trouble};

const TROUBLE: Trouble = Trouble {
    begin: |path| path.cut(None),
    endure: |_, _| thread::sleep(IDLE_TIMEOUT + Duration::from_secs(1)),
};

/// Together, because an outage is mostly waiting.
#[test]
fn outages_whoever_crashes() {
    thread::scope(|scope| {
        for crash in [Crash::Nobody, Crash::Server, Crash::Device] {
            scope.spawn(move || scenario::run(crash, &TROUBLE));
        }
    });
}
