//! History streamed into another server is there as it was: same devices, epochs and sequences, once.

use serde_json::Value;

use crate::harness::Site;
use crate::sealed::archived_site;

/// Every event with what both servers have to agree on, in the order of devices.
fn events(site: &Site) -> Vec<Value> {
    let lines = site.expect(&["replay", "--format", "ndjson", "--order", "device"]);
    let event = |line: &str| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        for own in ["position", "received_time"] {
            event.as_object_mut().unwrap().remove(own).unwrap();
        }
        event
    };
    lines.lines().map(event).collect()
}

#[test]
fn a_second_replay_into_another_server_adds_nothing() {
    let (site, staging) = (archived_site(), Site::new());
    let gateway = staging.enroll_gateway("replay", "*");
    let server = staging.serve();
    let address = server.address();
    let into = ["replay", "--into", &address, "--identity", &gateway];
    let half = ["--device", "station/alpha", "--speed", "1000000x"];
    site.expect(&[&into[..], &half].concat());
    let said = site.expect(&into);
    assert!(said.contains("62 rows durable") && said.contains(" stored before"), "{said}");
    let again = site.expect(&into);
    assert!(again.contains("nothing was stored twice"), "{again}");
    assert_eq!(events(&staging), events(&site));
    assert!(server.stop().success());
}
