//! Devices are found, sorted and paged; what is missing of one is told in ranges.

use serde_json::{Value, json};

use super::{filled_site, json, problem, send};
use crate::harness::Server;

#[test]
fn devices_are_listed_by_what_is_asked_for() {
    let site = filled_site();
    let server = site.serve();
    let names = |query: &str| names(&json(&server, &format!("/v1/devices{query}")));
    let all = names("");
    assert!(all.is_sorted() && all.len() == 21, "{all:?}");
    for name in ["gw", "leaky", "..", "plant 7/line 1/pump-3", "realtime/", "x*?[y]", "センサー/1"] {
        assert!(all.iter().any(|found| found == name), "{name}");
    }
    assert_eq!(names("?name=station%2F*"), ["station/alpha", "station/beta"]);
    assert_eq!(names("?label=site%3Doslo&label=roof"), ["station/alpha"]);
    assert!(names("?label=site%3Dbergen").is_empty());
    assert_eq!(names("?silent_for=1d"), ["gw"], "of it nothing was ever received");
    assert_eq!(names("?sort=-gaps")[0], "leaky");
    assert_eq!(names("?sort=events")[..2], ["gw", "leaky"]);
    for sort in ["name", "-name", "last_received", "-last_received", "events", "-events", "-gaps"] {
        let sorted = names(&format!("?sort={sort}"));
        assert_eq!(paged(&server, sort), sorted, "{sort}");
        assert_eq!(sorted.len(), all.len(), "{sort}");
    }
    let first = json(&server, "/v1/devices?limit=1");
    let cursor = first["next"].as_str().unwrap();
    assert!(
        problem(&server, &format!("/v1/devices?sort=-name&cursor={cursor}"), 400).starts_with("cursor: ")
    );

    // What comes while the server runs is there at once.
    let identity = site.path("gw").to_str().unwrap().to_owned();
    send(&site, &server, &identity, "february.csv", "weather");
    let alpha = json(&server, "/v1/devices/station%2Falpha");
    assert_eq!((&alpha["events"], &alpha["missing"]), (&json!(59), &json!(0)), "{alpha}");
    assert_eq!(alpha["labels"], json!({ "site": "oslo", "roof": "flat" }));
    assert_eq!(alpha["kind"], "behind a gateway");
    assert_eq!(alpha["epochs"].as_array().unwrap().len(), 2, "{alpha}");
    let gateway = json(&server, "/v1/devices/gw");
    assert_eq!((&gateway["kind"], &gateway["grants"]), (&json!("gateway"), &json!(["*"])));
    for path in ["plant%207%2Fline%201%2Fpump-3", "%2E%2E", "a%252Fb", "a%2Fb", "x%2A%3F%5By%5D"] {
        assert_eq!(json(&server, &format!("/v1/devices/{path}"))["events"], 2, "{path}");
    }
}

#[test]
fn gaps_are_told_by_epoch_and_kind() {
    let site = filled_site();
    let server = site.serve();
    let gaps = json(&server, "/v1/devices/leaky/gaps");
    let epoch = &gaps["epochs"][0];
    assert_eq!(epoch["missing"], json!([{ "from": 0, "to": 10 }, { "from": 15, "to": 20 }]));
    assert_eq!(epoch["dropped"], json!([{ "from": 10, "to": 15 }]));
    assert_eq!(epoch["refused"], json!([{ "from": 20, "to": 23, "code": "malformed_batch" }]));
    assert_eq!((&epoch["next"], &epoch["number"]), (&json!(23), &json!(0)));
    let none = json(&server, "/v1/devices/station%2Fbeta/gaps");
    assert_eq!(none["epochs"][0]["missing"], json!([]));
    assert!(problem(&server, "/v1/devices/nobody/gaps", 404).starts_with("nobody is not enrolled"));
    assert!(problem(&server, "/v1/devices/nobody", 404).starts_with("nobody is not enrolled"));
    assert!(problem(&server, "/v1/devices/a%00b", 404).starts_with("no device has such a name: "));
}

fn names(list: &Value) -> Vec<String> {
    let devices = list["devices"].as_array().unwrap().iter();
    devices.map(|device| device["name"].as_str().unwrap().to_owned()).collect()
}

/// The same list in pages of three.
fn paged(server: &Server, sort: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = json(server, &format!("/v1/devices?sort={sort}&limit=3{cursor}"));
        found.extend(names(&page));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}
