//! Enrolling works before, beside and without a server, with a key made here or elsewhere, and shows in the lists.

use std::fs;

use rcgen::{CertificateParams, KeyPair};

use crate::harness::{Site, assert_failure, testdata};

#[test]
fn a_gateway_enrolled_beside_the_running_server_may_send_at_once() {
    let site = Site::new();
    let server = site.serve();
    let identity = site.enroll_gateway("gw", "*");
    let file = testdata().join("fixtures/january.csv");
    let file = file.to_str().unwrap();
    site.expect(&["send", file, "--schema", "s", "--server", &server.address(), "--identity", &identity]);

    let beside = site.expect(&["device", "list"]);
    assert!(beside.contains("station/alpha  behind a gateway"), "{beside}");
    assert!(server.stop().success());
    assert_eq!(site.expect(&["device", "gaps", "station/alpha"]).lines().count(), 1);
    assert!(site.expect(&["device", "show", "station/alpha"]).contains("its events came through a gateway"));
    let silent = site.expect(&["device", "list", "--silent-for", "1h"]);
    assert!(silent.contains("gw") && !silent.contains("station/alpha"), "{silent}");
}

#[test]
fn enrolling_twice_is_refused() {
    let site = Site::new();
    let out = |name: &str| site.path(name).to_str().unwrap().to_owned();
    site.expect(&["device", "enroll", "pump/1", "--label", "site=oslo", "--out", &out("a")]);
    let again = site.run(&["device", "enroll", "pump/1", "--out", &out("b")]);
    assert_failure(&again, &["pump/1 is enrolled already"]);
    assert!(!site.path("b").exists());
    assert!(site.expect(&["device", "show", "pump/1"]).contains("site=oslo"));
    assert_failure(&site.run(&["device", "show", "pump/2"]), &["not enrolled and has no events"]);
}

#[test]
fn labels_change_and_show_for_enrolled_devices_and_others() {
    let site = Site::new();
    site.enroll_device("pump/1");
    let label = |arguments: &[&str]| site.run(&[&["device", "label"], arguments].concat());
    let first = site.expect(&["device", "label", "pump/1", "site=oslo", "hall=3"]);
    assert_eq!(first, "pump/1: hall=3 site=oslo; what was received before keeps: no labels\n");
    site.expect(&["device", "label", "pump/1", "site=bergen", "--remove", "hall"]);
    site.expect(&["device", "label", "behind/7", "site=oslo"]);
    let list = site.expect(&["device", "list"]);
    assert!(list.contains("site=bergen") && list.contains("behind/7") && !list.contains("hall"), "{list}");
    assert!(site.expect(&["device", "show", "pump/1"]).contains("label site=bergen"));
    assert_failure(
        &label(&["pump/1", "--remove", "hall"]),
        &["pump/1 has no label hall; it has: site=bergen"],
    );
    assert_eq!(label(&["pump/1", "oslo"]).status.code(), Some(2), "no KEY=VALUE");
    assert_eq!(label(&["pump/1"]).status.code(), Some(2), "nothing to change");
}

#[test]
fn a_key_that_was_made_elsewhere_is_signed_where_it_is() {
    let site = Site::new();
    let server = site.serve();
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    fs::write(site.path("gw.csr"), &request).unwrap();
    let (csr, out) = (site.path("gw.csr"), site.path("gw"));
    let (csr, out) = (csr.to_str().unwrap(), out.to_str().unwrap());
    site.expect(&["device", "enroll", "gw", "--gateway-for", "*", "--csr", csr, "--out", out]);
    assert!(!site.path("gw/key.pem").exists());

    fs::write(site.path("gw/key.pem"), key.serialize_pem()).unwrap();
    let file = testdata().join("fixtures/january.csv");
    let file = file.to_str().unwrap();
    site.expect(&["send", file, "--schema", "s", "--server", &server.address(), "--identity", out]);
}

#[test]
fn a_request_that_cannot_be_read_enrolls_nothing() {
    let site = Site::new();
    fs::write(
        site.path("bad.csr"),
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    )
    .unwrap();
    let (csr, out) = (site.path("bad.csr"), site.path("x"));
    let arguments = ["device", "enroll", "x", "--csr", csr.to_str().unwrap(), "--out", out.to_str().unwrap()];
    assert_failure(&site.run(&arguments), &["bad.csr: no usable certificate signing request"]);
    assert!(!out.exists());
    assert_failure(&site.run(&["device", "show", "x"]), &["not enrolled"]);
}
