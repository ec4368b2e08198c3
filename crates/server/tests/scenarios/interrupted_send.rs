//! A send that loses its server says what is stored; sent again, it adds only the rest.

use std::process::Stdio;

use crate::harness::{Site, assert_failure, assert_success, testdata};
use crate::table::{self, assert_equal};

#[test]
fn what_an_interrupted_send_left_out_is_added_by_the_next() {
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "*");
    let file = testdata().join("nyc_weather.csv.gz");
    let server = site.serve();
    let address = server.address();
    let arguments =
        ["send", file.to_str().unwrap(), "--schema", "weather", "--identity", &identity, "--server"];
    let slowly = site
        .command(&[&arguments, &[address.as_str(), "--rate", "8000", "--wait", "1s"][..]].concat())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    server.wait_for_events(5_000);
    server.kill();
    let output = slowly.wait_with_output().unwrap();
    assert_failure(&output, &[" of 26,115 rows are stored"]);

    let server = site.serve();
    let address = server.address();
    let said = site.expect(&[&arguments, &[address.as_str()][..]].concat());
    assert!(said.contains("26,115 rows durable: ") && !said.contains(": 26,115 new"), "{said}");
    let types = table::types(&testdata().join("fields.json"), "nyc_weather");
    let replayed = site.expect(&["replay"]);
    assert_equal(&table::read(&file, &types), &table::parse(replayed.as_bytes(), &types));
}

#[test]
fn a_send_waits_for_a_server_that_restarts() {
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "*");
    let file = testdata().join("nyc_weather.csv.gz");
    let server = site.serve();
    let address = server.quic;
    let mut slowly = site.command(&["send", file.to_str().unwrap(), "--schema", "weather", "--rate", "8000"]);
    slowly.args(["--identity", &identity, "--server", &address.to_string()]);
    let slowly = slowly.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    server.wait_for_events(5_000);
    assert!(server.stop().success());
    let server = site.serve_at(address);
    let output = slowly.wait_with_output().unwrap();
    assert_success(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("waiting for "));
    assert!(server.stop().success());
    let types = table::types(&testdata().join("fields.json"), "nyc_weather");
    let replayed = site.expect(&["replay"]);
    assert_equal(&table::read(&file, &types), &table::parse(replayed.as_bytes(), &types));
}
