//! Revoking an identity ends its sessions on a running server, and keeps it out.

use std::time::{Duration, Instant};

use icecore_device::{Code, Config, Device, Event, Events, Identity, Spool};
use tokio::time::timeout;

use crate::harness::{Site, assert_failure};

/// More than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server looks at the registry twice a second. On a busy machine a look may come late; twenty do not.
const LOOKS: Duration = Duration::from_millis(20 * 500);

async fn wait_for(events: &mut Events, wanted: impl Fn(&Event) -> bool) {
    let found = timeout(PATIENCE, async { while !wanted(&events.next().await.unwrap()) {} });
    found.await.expect("the event comes in time");
}

#[tokio::test]
async fn a_revoked_device_is_turned_out_and_kept_out() {
    let site = Site::new();
    let server = site.serve();
    let identity = Identity::load(site.enroll_device("pump")).unwrap();
    let config = Config::new(server.address(), identity);
    let device = Device::connect(config, Spool::Memory { max_bytes: 1 << 20 }).unwrap();
    let mut events = device.events(1_000);
    wait_for(&mut events, |event| matches!(event, Event::Attached { .. })).await;
    assert!(server.get("/metrics").contains("icecore_connections 1"));

    assert!(site.expect(&["device", "revoke", "pump"]).contains("revoked pump"));
    let revoked = Instant::now();
    wait_for(&mut events, |event| matches!(event, Event::Refused { device: None, code: Code::Revoked, .. }))
        .await;
    assert!(revoked.elapsed() < LOOKS, "turned out after {:?}", revoked.elapsed());
    assert!(site.expect(&["device", "show", "pump"]).contains("revoked 2"));
    assert!(site.expect(&["device", "list"]).contains("device (revoked)"));
    assert_failure(&site.run(&["device", "revoke", "fan"]), &["`fan` is not enrolled"]);

    // Nobody else is harmed by it.
    let identity = Identity::load(site.enroll_device("fan")).unwrap();
    let other =
        Device::connect(Config::new(server.address(), identity), Spool::Memory { max_bytes: 1 << 20 })
            .unwrap();
    wait_for(&mut other.events(1_000), |event| matches!(event, Event::Attached { .. })).await;
}
