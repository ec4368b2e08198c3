//! A file of more devices than one connection carries at once.

use std::fmt::Write;
use std::fs;

use crate::harness::Site;
use crate::table::{self, Types, assert_equal};

#[test]
fn every_device_of_a_large_fleet_is_sent() {
    let mut content = "device,timestamp,value\n".to_owned();
    for time in 0..3 {
        for device in 0..1_500 {
            writeln!(content, "line/{device},{time},{}", device * time).unwrap();
        }
    }
    let site = Site::new();
    let file = site.path("fleet.csv");
    fs::write(&file, &content).unwrap();
    let identity = site.enroll_gateway("gw", "line/*");
    let server = site.serve();
    let to = ["--schema", "fleet", "--server", &server.address(), "--identity", &identity];
    let said = site.expect(&[&["send", file.to_str().unwrap()], &to[..]].concat());
    assert!(said.contains("4,500 rows durable: 4,500 new"), "{said}");
    let types = Types::from([("value".to_owned(), "int".to_owned())]);
    let replayed = site.expect(&["replay"]);
    assert_equal(&table::read(&file, &types), &table::parse(replayed.as_bytes(), &types));
}
