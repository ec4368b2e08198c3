//! A damaged log is told by place, is not written to, and is read around only on request.

use std::fs;

use crate::harness::{Site, assert_failure, assert_success, testdata};

#[test]
fn damage_blocks_writing_until_it_is_accepted_by_name() {
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "*");
    let server = site.serve();
    let file = testdata().join("nyc_weather.csv.gz");
    let to = ["--schema", "weather", "--server", &server.address(), "--identity", &identity];
    site.expect(&[&["send", file.to_str().unwrap()], &to[..]].concat());
    assert!(server.stop().success());

    let segment = site.path("data/hot/00000000000000000000.hot");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[20_000] ^= 1;
    fs::write(&segment, bytes).unwrap();

    let refused = site.run(&["serve"]);
    assert_failure(&refused, &["00000000000000000000.hot at offset", "--accept-damage"]);
    assert_failure(&site.run(&["replay"]), &["00000000000000000000.hot at offset"]);
    let around = site.run(&["replay", "--skip-damaged"]);
    assert_success(&around);
    assert!(String::from_utf8_lossy(&around.stderr).contains("skipped: "));

    // What a lost block announced is told when that block is accepted: place by place.
    let mut arguments = Vec::new();
    let server = loop {
        match site.try_serve(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
            Ok(server) => break server,
            Err(said) => {
                let (_, place) = said.rsplit_once("--accept-damage ").expect("damage is told with its name");
                assert!(arguments.len() < 20 && !arguments.contains(&place.to_owned()), "{said}");
                arguments.extend(["--accept-damage".to_owned(), place.to_owned()]);
            }
        }
    };
    assert!(server.stop().success());
}
