//! What is replayed or exported as a table is what analysts' tools read, from a data directory and from a bucket.

use std::fs;
use std::process::Command;

use crate::cold::Cold;
use crate::harness::{Site, assert_failure, assert_success, output};
use crate::sealed::{archived_site, january};

#[test]
fn tables_are_what_analysts_tools_read() {
    let site = archived_site();
    let text = |path: &str| site.path(path).to_str().unwrap().to_owned();
    let (parquet, arrow, part) = (text("all.parquet"), text("all.arrow"), text("part.parquet"));
    site.expect(&["replay", "--format", "parquet", "--order", "stored", "--out", &parquet]);
    site.expect(&["replay", "--format", "arrow", "--order", "time", "--out", &arrow]);
    let columns =
        ["--columns", "Temperature,event_time", "--where", "temperature>=2", "--where", "pressure<1025"];
    site.expect(&[&["replay", "--format", "parquet", "--out", &part], &columns[..]].concat());
    let piped = site.run(&["replay", "--format", "parquet", "--order", "stored"]);
    assert_success(&piped);
    assert_eq!(piped.stdout, fs::read(&parquet).unwrap(), "a pipe takes what a file does");
    let (lake, cold_lake) = (text("lake"), text("cold lake"));
    let said = site.expect(&["export", "--out", &lake]);
    assert!(said.contains("events added to") && !said.starts_with("0 files"), "{said}");
    assert!(site.expect(&["export", "--out", &lake]).starts_with("0 files with 0 events"));
    let by = ["export", "--partition-by", "date,device", "--out", &cold_lake];
    assert_success(&output(Cold::Directory.command(&site, &by)));

    let Ok(python) = std::env::var("ICECORE_PANDAS") else {
        eprintln!("skipped: ICECORE_PANDAS names no Python with what .ci/pandas.txt lists");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/tables.py");
    let mut read = Command::new(python);
    read.arg(script).arg(january()).args([&parquet, &arrow, &part, &lake, &cold_lake]);
    assert_success(&output(read));
}

#[test]
fn mistakes_are_named_and_leave_no_file() {
    let site = archived_site();
    let out = site.path("out.parquet").to_str().unwrap().to_owned();
    let refused = |arguments: &[&str], expected: &[&str]| {
        assert_failure(&site.run(&[&["replay", "--out", &out], arguments].concat()), expected);
        assert!(!site.path("out.parquet").exists());
    };
    refused(
        &["--format", "parquet", "--columns", "temprature"],
        &["no column temprature", "did you mean temperature?"],
    );
    refused(&["--format", "arrow", "--where", "device>3"], &["device holds no numbers"]);
    refused(&["--format", "arrow", "--schema", "whether"], &["no events of such devices and schemas"]);
    refused(&["--format", "csv", "--columns", "temperature"], &["--columns and --where are for"]);
    refused(&["--format", "parquet", "--speed", "2x"], &["--speed is for"]);
    let lake = site.path("lake").to_str().unwrap().to_owned();
    site.expect(&["export", "--out", &lake]);
    let other = ["export", "--out", &lake, "--device", "station/*"];
    assert_failure(&site.run(&other), &["it was made for", "station/*"]);
}

#[test]
fn a_replay_by_device_is_in_order_of_sequences_and_a_paced_one_is_whole() {
    let site: Site = archived_site();
    let key = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let number = |key: &str| event[key].as_u64().unwrap();
        (event["device"].as_str().unwrap().to_owned(), number("epoch_number"), number("seq"))
    };
    let lines = |arguments: &[&str]| {
        let text = site.expect(&[&["replay", "--format", "ndjson"], arguments].concat());
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let by_device: Vec<_> = lines(&["--order", "device"]).iter().map(|line| key(line)).collect();
    assert!(by_device.is_sorted() && by_device.len() == 62, "{by_device:?}");
    // A month in a moment, by the virtual clock.
    assert_eq!(lines(&["--order", "time", "--speed", "100000000x"]), lines(&["--order", "time"]));
}
