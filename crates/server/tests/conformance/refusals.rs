//! What a real server refuses, and what becomes of it.

use std::fs;
use std::path::Path;
use std::time::Instant;

use icecore_device::Code;
use serde_json::{Value as Json, json};

use crate::client::{BACKOFF, Client, Sdk};
use crate::harness::Site;
use crate::stored::{sequences, stored};

/// Attempts to watch before something is changed: enough to tell patience from a busy loop, though each wait is random
/// between nothing and `BACKOFF.end`: only one run in a billion waits less than twice that in all.
const ATTEMPTS: u32 = 20;

pub(crate) fn an_identity_that_is_not_enrolled_hears_that(sdk: Sdk) {
    let site = Site::new();
    let identity = site.enroll_device("pump");
    fs::write(site.path("data/registry.jsonl"), "").unwrap();
    let server = site.serve();
    let mut client = Client::connect(sdk, server.quic, &identity);
    client.attach("pump", None);
    client.record("pump", 0..20);
    client.wait("refused", |event| event["code"] == Code::NotEnrolled.number());
    client.close();
    assert!(stored(&site, server).is_empty());
}

pub(crate) fn a_device_that_is_not_granted_harms_no_other(sdk: Sdk) {
    let site = Site::new();
    let identity = site.enroll_gateway("gateway", "granted/*");
    let server = site.serve();
    let mut client = Client::connect(sdk, server.quic, identity.as_ref());
    for device in ["other/b", "granted/a"] {
        client.attach(device, None);
        client.record(device, 0..20);
    }
    client
        .wait("refused", |event| event["device"] == "other/b" && event["code"] == Code::NotGranted.number());
    client.record("granted/a", 20..40);
    client.wait_for_acks("granted/a", 20..40);
    client.close();
    let stored = stored(&site, server);
    assert_eq!(sequences(&stored[&("granted/a".to_owned(), 0)]), (0..40).into());
    assert_eq!(stored.len(), 1);
}

pub(crate) fn who_is_revoked_is_turned_out_and_kept_out(sdk: Sdk) {
    let site = Site::new();
    let (revoked, other) = (site.enroll_device("revoked"), site.enroll_device("other"));
    let server = site.serve();
    let connect = |name: &str, identity: &Path| {
        let mut client = Client::connect(sdk, server.quic, identity);
        client.attach(name, None);
        client.record(name, 0..20);
        client
    };
    let (mut thief, mut other) = (connect("revoked", &revoked), connect("other", &other));
    thief.flush();
    other.flush();
    site.expect(&["device", "revoke", "revoked"]);
    let is_why = |event: &Json| event["device"].is_null() && event["code"] == Code::Revoked.number();
    thief.wait("refused", is_why);
    thief.wait("disconnected", |_| true);
    thief.record("revoked", 20..40);
    assert_eq!(thief.count("rejected"), 0, "what it has recorded stays with it");
    thief.close();
    let mut again = connect("revoked", &revoked);
    again.wait("refused", is_why);
    again.close();
    other.record("other", 20..40);
    other.flush();
    assert_eq!(other.count("disconnected"), 0);
    other.close();
    let stored = stored(&site, server);
    assert_eq!(sequences(&stored[&("revoked".to_owned(), 0)]), (0..20).into());
    assert_eq!(sequences(&stored[&("other".to_owned(), 0)]), (0..40).into());
}

pub(crate) fn a_server_of_another_authority_is_left_alone(sdk: Sdk) {
    let (site, elsewhere) = (Site::new(), Site::new());
    let identity = elsewhere.enroll_device("pump");
    let server = site.serve();
    // Before the first attempt: by the time that its end is read, others may have been made.
    let began = Instant::now();
    let mut client = Client::connect(sdk, server.quic, &identity);
    client.attach("pump", None);
    client.record("pump", 0..20);
    for _ in 0..ATTEMPTS {
        client.wait("disconnected", |_| true);
    }
    assert!(began.elapsed() >= 2 * BACKOFF.end, "{ATTEMPTS} attempts in {:?}", began.elapsed());
    assert_eq!(client.count("connected"), 0);
    client.close();
    assert!(stored(&site, server).is_empty());
}

pub(crate) fn a_conflicting_batch_is_given_up_and_the_next_goes_on(sdk: Sdk) {
    let site = Site::new();
    let identity = site.enroll_gateway("gateway", "*");
    let server = site.serve();
    for (rows, length) in [(10, 10), (15, 45)] {
        // The second cuts otherwise: its first batch covers what is stored, and more.
        let mut client = Client::connect_with(sdk, server.quic, identity.as_ref(), rows);
        client.attach("clone", Some([1; 16]));
        client.record("clone", 0..length);
        client.flush();
        if rows == 15 {
            let rejected = client.wait("rejected", |_| true);
            assert_eq!([&rejected["start"], &rejected["end"]], [0, 15]);
            assert_eq!(rejected["code"], Code::SequenceConflict.number());
            assert_eq!(client.count("rejected"), 0);
        }
        client.close();
    }
    let stored = stored(&site, server);
    assert_eq!(sequences(&stored[&("clone".to_owned(), 0)]), [0..10, 15..45].into_iter().collect());
}

pub(crate) fn a_schema_conflict_is_given_up_and_the_next_goes_on(sdk: Sdk) {
    let site = Site::new();
    let identity = site.enroll_gateway("gateway", "*");
    let server = site.serve();
    for (device, ty) in [("first", "f64"), ("second", "text")] {
        let mut client = Client::connect(sdk, server.quic, identity.as_ref());
        client.attach(device, None);
        client
            .schema("s", &json!([{"name": "x", "type": ty, "kind": "gauge", "unit": "", "nullable": true}]));
        client.rows(device, "s", &[json!([0, null])]);
        client.flush();
        client.record(device, 0..10);
        client.flush();
        if device == "second" {
            let rejected = client.wait("rejected", |_| true);
            assert_eq!(rejected["code"], Code::SchemaConflict.number());
        }
        client.close();
    }
    let stored = stored(&site, server);
    assert_eq!(sequences(&stored[&("first".to_owned(), 0)]), (0..11).into());
    assert_eq!(sequences(&stored[&("second".to_owned(), 0)]), (1..11).into());
}
