//! What a device looked like, from what is hot, warm and cold: the command and the API say the same, and what a policy deleted is
//! told.

use std::fs;

use serde_json::Value;

use crate::api::{json, problem, send};
use crate::cold::Cold;
use crate::harness::{Server, Site, assert_failure};
use crate::sealed::{SEGMENT, archived_site, catalog, delete, now, seal, why};

const DEVICE: &str = "station/alpha";
const PATH: &str = "/v1/devices/station%2Falpha/state";

/// January in object storage only, February sealed, a few rows of other devices hot; and when each had come.
fn three_tiers() -> (Site, [i64; 2]) {
    let site = archived_site();
    let after_january = now();
    catalog(&site).drop_local(SEGMENT, &why()).unwrap();
    fs::remove_file(SEGMENT.file(&site.path("data"))).unwrap();
    let identity = site.path("gw").to_str().unwrap().to_owned();
    let server = site.serve();
    send(&site, &server, &identity, "february.csv", "weather");
    assert!(server.stop().success());
    seal(&site);
    let after_february = now();
    (site, [after_january, after_february])
}

/// What the command says; the API has to say the same.
fn state(site: &Site, server: &Server, at: Option<&str>, known_at: Option<i64>) -> Value {
    let known_at = known_at.map(|time| time.to_string());
    let (mut arguments, mut query) = (vec!["state", DEVICE, "--json"], Vec::new());
    for (flag, name, value) in [("--at", "at", at), ("--known-at", "known_at", known_at.as_deref())] {
        if let Some(value) = value {
            arguments.extend([flag, value]);
            query.push(format!("{name}={value}"));
        }
    }
    let said: Value = serde_json::from_str(&site.expect(&arguments)).unwrap();
    assert_eq!(said, json(server, &format!("{PATH}?{}", query.join("&"))), "{arguments:?}");
    said
}

/// The events of the device before an event time, by replay.
fn replayed(site: &Site, before: &str) -> u64 {
    let count = site.expect(&["replay", "--device", DEVICE, "--to", before, "--format", "count"]);
    serde_json::from_str::<Value>(&count).unwrap()["events"].as_u64().unwrap()
}

#[test]
fn the_command_and_the_api_say_the_same_of_any_instant() {
    let (site, [after_january, after_february]) = three_tiers();
    let server = site.serve();
    let identity = site.path("gw").to_str().unwrap().to_owned();
    send(&site, &server, &identity, "device_names.csv", "level");

    let whole = state(&site, &server, None, None);
    assert_eq!(whole["events"], 59);
    assert_eq!((&whole["at"], &whole["known_at"]), (&Value::Null, &Value::Null));
    assert_eq!(whole["schemas"][0]["schema"], "weather");
    assert_eq!(state(&site, &server, None, Some(after_february))["events"], 59);
    let january = state(&site, &server, None, Some(after_january));
    assert!(january["events"].as_u64().unwrap() < 59 && january["events"].as_u64().unwrap() > 0, "{january}");
    for (at, before) in [
        ("2026-01-10T00:00:00Z", "2026-01-10T00:00:00.000000001Z"),
        ("2026-01-31T23:59:59Z", "2026-02-01T00:00:00Z"),
        ("2026-02-14T12:00:00Z", "2026-02-14T12:00:00.000000001Z"),
    ] {
        let known_now = state(&site, &server, Some(at), None);
        assert_eq!(known_now["events"], replayed(&site, before), "{at}");
        assert_eq!(known_now["epochs"], whole["epochs"], "what is settled is no matter of event time");
        let known_then = state(&site, &server, Some(at), Some(after_january));
        let expected = replayed(&site, before).min(january["events"].as_u64().unwrap());
        assert_eq!(known_then["events"], expected, "{at}");
    }
    let text = site.expect(&["state", DEVICE, "--at", "2026-02-14T12:00:00Z", "--explain"]);
    assert!(text.contains("weather version 1: ") && text.contains("sealed segments ("), "{text}");
    let all = site.expect(&["state", "--all"]);
    assert!(all.lines().any(|line| line.starts_with(DEVICE)), "{all}");

    // What nobody has heard of.
    let nothing = problem(&server, "/v1/devices/nobody/state", 404);
    assert!(nothing.starts_with("nobody is not enrolled"), "{nothing}");
    assert_failure(&site.run(&["state", "nobody"]), &["nothing was ever received of nobody"]);
    assert_failure(
        &site.run(&["state", DEVICE, "--known-at", "0"]),
        &["nothing was received of station/alpha by 1970"],
    );
    assert_eq!(json(&server, &format!("{PATH}?known_at=0"))["events"], 0);
    assert!(problem(&server, &format!("{PATH}?at=noon"), 400).starts_with("at: "));
}

#[test]
fn what_a_policy_deleted_is_refused_with_the_instant_from_which_on_it_is_exact() {
    let (site, [after_january, _]) = three_tiers();
    delete(&site, &Cold::Directory);
    let server = site.serve();
    let at = "2026-01-10T00:00:00Z";
    let asked = ["state", DEVICE, "--at", at];
    assert_failure(
        &site.run(&asked),
        &["deleted by policy `default`", &SEGMENT.to_string(), "exact from 2026-01-31T"],
    );
    let refused = problem(&server, &format!("{PATH}?at={at}"), 410);
    assert!(refused.contains("exact from 2026-01-31T"), "{refused}");
    // The snapshot that was written when the server stopped has January.
    assert_eq!(state(&site, &server, None, None)["events"], 59);
    assert!(state(&site, &server, Some("2026-01-31T23:59:59Z"), None)["events"].as_u64().unwrap() > 20);
    assert_eq!(state(&site, &server, None, Some(after_january))["known_at"].as_str().map(str::len), Some(30));
}
