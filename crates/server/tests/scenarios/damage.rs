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

    let refused = site.try_serve(&[]).unwrap_err();
    assert!(refused.contains("00000000000000000000.hot at offset"), "{refused}");
    assert_failure(&site.run(&["replay"]), &["00000000000000000000.hot at offset", "--skip-damaged"]);
    let around = site.run(&["replay", "--skip-damaged"]);
    assert_success(&around);
    assert!(String::from_utf8_lossy(&around.stderr).contains("skipped: "));

    // The block announced what others refer to: accepted by place they are told next, by file they are included.
    let place = refused.trim_end().rsplit(' ').next().unwrap();
    if let Err(next) = site.try_serve(&["--accept-damage", place]) {
        assert!(next.contains("announced in a block that cannot be read"), "{next}");
    }
    let server = site.try_serve(&["--accept-damage", "00000000000000000000.hot"]).unwrap();
    assert!(server.stop().success());

    let listed = site.run(&["device", "list"]);
    assert_success(&listed);
    assert!(String::from_utf8_lossy(&listed.stderr).contains("this leaves out what is damaged"));
}
