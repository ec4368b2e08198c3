//! January's file, then February's, for the same devices: both are kept, in epochs of their own.

use crate::harness::{Site, testdata};
use crate::table::{self, Table, assert_equal};

#[test]
fn january_and_february_are_both_there() {
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "station/*");
    let server = site.serve();
    let months = ["january", "february"].map(|month| testdata().join(format!("fixtures/{month}.csv")));
    for month in &months {
        let file = month.to_str().unwrap();
        let to = ["--server", &server.address(), "--identity", &identity];
        site.expect(&[&["send", file, "--schema", "station"], &to[..]].concat());
    }
    let types = table::types(&testdata().join("fields.json"), "january");
    let mut both = Table::new();
    for month in &months {
        for (device, rows) in table::read(month, &types) {
            both.entry(device).or_default().extend(rows);
        }
    }
    let replayed = site.expect(&["replay", "--schema", "station"]);
    assert_equal(&both, &table::parse(replayed.as_bytes(), &types));
    assert!(replayed.contains("\nstation/alpha,0,0,2026-01-01T06:00:00.000000000Z,"), "{replayed}");
    assert!(replayed.contains("\nstation/alpha,1,0,2026-02-01T06:00:00.000000000Z,"), "{replayed}");

    let since = site.expect(&["replay", "--from", "2026-02-01T00:00:00Z", "--order", "time"]);
    assert_equal(&table::read(&months[1], &types), &table::parse(since.as_bytes(), &types));
}

#[test]
fn several_files_of_one_call_are_sent_one_after_the_other() {
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "station/*");
    let server = site.serve();
    let months = ["january", "february"].map(|month| testdata().join(format!("fixtures/{month}.csv")));
    let [january, february] = [0, 1].map(|month: usize| months[month].to_str().unwrap());
    let to = ["--schema", "station", "--server", &server.address(), "--identity", &identity];
    let said = site.expect(&[&["send", january, february], &to[..]].concat());
    assert!(said.contains("0 stored before"), "{said}");
    let again = site.expect(&[&["send", february], &to[..]].concat());
    assert!(again.contains(" 0 new"), "a file is the same file whatever it is sent with: {again}");
}
