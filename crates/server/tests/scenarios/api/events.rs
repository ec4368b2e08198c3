//! Events come as lines, as replay writes them, and the last line says what they cover; from object storage too.

use std::fs;

use serde_json::{Value, json};

use super::{filled_site, json, problem, split};
use crate::harness::Server;
use crate::sealed::{SEGMENT, archived_site, catalog, why};

const ALPHA: &str = "/v1/devices/station%2Falpha/events";

#[test]
fn events_of_a_device_come_as_replay_writes_them() {
    let site = filled_site();
    let server = site.serve();
    let replayed = site.expect(&["replay", "--format", "ndjson", "--device", "station/alpha"]);
    let (events, end) = events(&server, ALPHA);
    assert_eq!(events.join("\n") + "\n", replayed);
    assert_eq!((&end["events"], &end["more"]), (&json!(31), &json!(false)));
    assert_eq!((&end["coverage"]["complete"], &end["coverage"]["present"]), (&json!(true), &json!(31)));

    let range = "start=2026-01-05T00:00:00Z&end=2026-01-09T00:00:00Z";
    let (some, _) = self::events(&server, &format!("{ALPHA}?{range}&schema=wea*&order=time&as_written=true"));
    assert_eq!(some.len(), 4);
    assert!(some.iter().all(|event| events.contains(event)));
    let (none, end) = self::events(&server, &format!("{ALPHA}?schema=level"));
    assert!(none.is_empty() && end["coverage"]["present"] == 0, "{end}");

    let mut pages = Vec::new();
    let mut after = String::new();
    loop {
        let (page, end) = self::events(&server, &format!("{ALPHA}?limit=10{after}"));
        pages.extend(page);
        match end["next"].as_u64() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
        assert!(end["coverage"].is_null(), "not all was looked at");
    }
    assert_eq!(pages, events);
    assert!(problem(&server, "/v1/devices/nobody/events", 404).starts_with("nobody "));
    assert!(
        problem(&server, &format!("{ALPHA}?start=noon"), 400).starts_with("start: \"noon\" is not a time")
    );
    let gaps = json(&server, "/v1/coverage?device=leaky");
    assert_eq!(gaps["unstored"], json!({ "not_arrived": 15, "dropped": 5, "refused": 3 }), "{gaps}");
    assert_eq!(json(&server, "/v1/coverage?schema=weather")["present"], 62);
}

#[test]
fn a_name_with_wildcards_is_that_name() {
    let site = filled_site();
    site.expect(&["device", "label", "station/*", "a=b"]);
    let server = site.serve();
    let (events, end) = events(&server, "/v1/devices/station%2F%2A/events");
    assert!(events.is_empty() && end["coverage"]["unstored"]["not_arrived"] == 0, "{end}");
}

#[test]
fn cold_events_are_read_and_what_cannot_be_is_a_problem() {
    let site = archived_site();
    let cold = catalog(&site);
    cold.drop_local(SEGMENT, &why()).unwrap();
    drop(cold);
    fs::remove_file(SEGMENT.file(&site.path("data"))).unwrap();
    let server = site.serve();
    let (events, end) = events(&server, ALPHA);
    assert_eq!((events.len(), &end["coverage"]["complete"]), (31, &json!(true)));

    fs::rename(site.path("bucket"), site.path("away")).unwrap();
    fs::remove_dir_all(site.path("data/cache")).unwrap();
    assert!(server.stop().success());
    let server = site.serve();
    assert!(problem(&server, ALPHA, 500).contains("archive"));
    assert!(problem(&server, "/v1/coverage", 500).contains("archive"));
    let around = json(&server, "/v1/coverage?damaged=skip");
    assert_eq!(around["complete"], false);
    assert_eq!(around["absent"][0]["segment"], SEGMENT.to_string());
}

/// Events, and the last line.
fn events(server: &Server, path: &str) -> (Vec<String>, Value) {
    let (head, body) = split(&server.get(path));
    assert!(head.starts_with("HTTP/1.0 200 OK") && head.contains("application/x-ndjson"), "{head}{body}");
    let mut lines: Vec<String> = body.lines().map(ToOwned::to_owned).collect();
    let mut end: Value = serde_json::from_str(&lines.pop().unwrap()).unwrap();
    (lines, end["end"].take())
}
