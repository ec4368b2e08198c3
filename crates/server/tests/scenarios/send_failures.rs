//! What can go wrong with `send` is told clearly, with a failing exit code and what was stored.

use std::fs;
use std::process::Output;

use crate::harness::{Server, Site, assert_failure, assert_success, output, testdata};

fn send(site: &Site, file: &str, server: &str, identity: &str, more: &[&str]) -> Output {
    let file = testdata().join("fixtures").join(file);
    let arguments =
        ["send", file.to_str().unwrap(), "--schema", "s", "--server", server, "--identity", identity];
    site.run(&[&arguments, more].concat())
}

/// Nothing of a failed attempt is in the log.
fn assert_nothing_stored(site: &Site, server: Server) {
    assert!(server.stop().success());
    assert_eq!(site.expect(&["replay", "--format", "ndjson"]), "");
}

#[test]
fn a_stopped_server() {
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "*");
    let server = site.serve();
    let address = server.address();
    assert!(server.stop().success());
    let output = send(&site, "january.csv", &address, &identity, &["--wait", "1s"]);
    assert_failure(&output, &["no answer from", &address, "0 of ", "rows are stored", "--wait"]);
}

#[test]
fn a_server_of_another_authority() {
    let (site, other) = (Site::new(), Site::new());
    let identity = other.enroll_gateway("gw", "*");
    let server = site.serve();
    let output = send(&site, "january.csv", &server.address(), &identity, &[]);
    assert_failure(&output, &["certificate is not trusted", "0 of "]);
    assert_nothing_stored(&site, server);
}

#[test]
fn an_identity_that_is_not_enrolled() {
    let site = Site::new();
    let identity = site.path("gw").to_str().unwrap().to_owned();
    let enroll = ["device", "enroll", "gw", "--gateway-for", "*", "--out", &identity];
    let mut elsewhere = site.command(&enroll);
    elsewhere.env("ICECORE__DATA__DIR", site.path("elsewhere"));
    assert_success(&output(elsewhere));
    let server = site.serve();
    let output = send(&site, "january.csv", &server.address(), &identity, &[]);
    assert_failure(&output, &["not_enrolled", "0 of "]);
    assert_nothing_stored(&site, server);
}

#[test]
fn a_device_outside_the_grant() {
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "station/a*");
    let server = site.serve();
    let output = send(&site, "january.csv", &server.address(), &identity, &[]);
    assert_failure(&output, &["station/beta", "not_granted", "rows are stored"]);
    assert!(server.stop().success());
    assert!(!site.expect(&["replay"]).contains("station/beta"));
}

#[test]
fn a_malformed_row() {
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "*");
    let server = site.serve();
    let fields = testdata().join("fields.json");
    let declared: &[&str] = &["--fields", fields.to_str().unwrap()];
    for types in [declared, &[]] {
        let output = send(&site, "malformed.csv", &server.address(), &identity, types);
        let place = "malformed.csv:8: row 7, column temperature: \"2l.50\" is not a number";
        assert_failure(&output, &[place, "nothing was sent"]);
    }
    assert_nothing_stored(&site, server);
}

#[test]
fn a_file_that_is_not_what_was_said() {
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "*");
    let cases = [
        (
            "device,time,v\n",
            "no column timestamp (name it with --time-field); the columns are device, time, v",
        ),
        ("device,timestamp,v\na,1,2,3\n", ":2: row 1: 4 cells, but the header has 3"),
        ("device,timestamp,v\na,yesterday,2\n", ":2: row 1, column timestamp: \"yesterday\" is not a time"),
        ("device,timestamp,v\n,1,2\n", ":2: row 1, column device: \"\" is not a device name"),
        ("device,timestamp,v,V\na,1,2,3\n", "one.csv:1: "),
    ];
    for (content, expected) in cases {
        let file = site.path("one.csv");
        fs::write(&file, content).unwrap();
        let arguments = ["send", file.to_str().unwrap(), "--schema", "s", "--server", "127.0.0.1:1"];
        let output = site.run(&[&arguments, &["--identity", &identity][..]].concat());
        assert_failure(&output, &["nothing was sent", expected]);
    }
}
