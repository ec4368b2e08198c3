//! Every fixture comes back as it was sent: same rows per device, in order, as often as they occurred.

use std::path::Path;

use crate::harness::{Server, Site, testdata};
use crate::table::{self, assert_equal};

/// Sends a file under the schema `stem` and compares what is replayed of it.
pub(crate) fn round_trip(site: &Site, server: &Server, identity: &str, file: &Path, fields: &Path) {
    let name = file.file_name().unwrap().to_str().unwrap();
    let stem = name.split('.').next().unwrap();
    let (path, fields_path) = (file.to_str().unwrap(), fields.to_str().unwrap());
    let server = server.address();
    let to = ["--server", &server, "--identity", identity];
    let said = site.expect(&[&["send", path, "--schema", stem, "--fields", fields_path], &to[..]].concat());

    let types = table::types(fields, stem);
    let sent = table::read(file, &types);
    let rows = table::rows(&sent);
    assert!(
        said.replace(',', "").contains(&format!("{rows} rows durable: {rows} new 0 stored before")),
        "{said}"
    );
    let replayed = site.expect(&["replay", "--schema", stem]);
    assert_equal(&sent, &table::parse(replayed.as_bytes(), &types));
}

#[test]
fn every_fixture_comes_back_as_it_was_sent() {
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "*");
    let server = site.serve();
    let fields = testdata().join("fields.json");
    let fixtures = testdata().join("fixtures").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let real = ["nyc_weather.csv.gz", "usgs_quakes.csv.gz"].map(|name| testdata().join(name));
    let mut files: Vec<_> = fixtures.filter(|path| !path.ends_with("malformed.csv")).chain(real).collect();
    files.sort();
    assert!(files.len() >= 12, "{files:?}");
    for file in &files {
        round_trip(&site, &server, &identity, file, &fields);
    }
    assert!(server.stop().success());

    let events = |arguments: &[&str]| site.expect(arguments).lines().count();
    let all = events(&["replay", "--format", "ndjson"]);
    assert_eq!(events(&["replay", "--format", "ndjson", "--order", "time"]), all);
    assert_eq!(events(&["replay", "--format", "ndjson", "--device", "EWR", "--schema", "nyc*"]), 8703);
}
