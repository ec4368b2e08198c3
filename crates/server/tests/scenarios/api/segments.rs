//! Segments are listed by tier, content and time, with why they are where they are; and the plan for them is told.

use std::fs;

use serde_json::json;

use super::{json, problem};
use crate::cold::Cold;
use crate::sealed::{SEGMENT, archived_site, delete};

#[test]
fn segments_are_found_and_explained() {
    let site = archived_site();
    let server = site.serve();
    let all = json(&server, "/v1/segments");
    let segment = &all["segments"][0];
    assert_eq!((&segment["id"], &segment["tier"]), (&json!(SEGMENT.to_string()), &json!("warm")), "{all}");
    assert_eq!((&segment["events"], &segment["copies"][0]["store"]), (&json!(62), &json!("archive")));
    assert!(all["next"].is_null());
    let found =
        |query: &str| json(&server, &format!("/v1/segments?{query}"))["segments"].as_array().unwrap().len();
    for query in ["tier=warm", "device=station%2F*", "schema=weather&start=2026-01-31T00:00:00Z", "limit=1"] {
        assert_eq!(found(query), 1, "{query}");
    }
    for query in ["tier=cold", "device=other", "schema=heat", "start=2026-02-01T00:00:00Z", "end=0"] {
        assert_eq!(found(query), 0, "{query}");
    }
    let one = json(&server, &format!("/v1/segments/{SEGMENT}"));
    assert_eq!(one["root"], segment["root"]);
    assert_eq!(one["contents"][0]["device"], "station/alpha");
    assert!(one["standing"].as_str().unwrap().starts_with("is local, and copied to"), "{one}");
    let what = one["decisions"][0]["what"].as_str().unwrap();
    assert!(what.starts_with("sealed: "), "{what}");
    let unknown = problem(&server, "/v1/segments/000000000009-000", 404);
    assert!(unknown.contains("000000000009-000"), "{unknown}");
    assert!(problem(&server, "/v1/segments/9", 404).starts_with("no segment has such a name: "));

    let plan = json(&server, "/v1/retention/plan");
    assert_eq!(plan["actions"], json!([]));
    let days = json(&server, "/v1/retention/plan?days=3");
    assert_eq!(days["policies"][0]["days"].as_array().unwrap().len(), 3, "{days}");
    assert!(problem(&server, "/v1/retention/plan?days=0", 400).starts_with("days: "));
}

#[test]
fn what_is_gone_is_known_and_so_is_why() {
    let mut site = archived_site();
    site.set("TIER__INTERVAL", "1h");
    delete(&site, &Cold::Directory);
    fs::remove_file(SEGMENT.file(&site.path("data"))).unwrap();
    let server = site.serve();
    assert_eq!(json(&server, "/v1/segments")["segments"], json!([]));
    let one = json(&server, &format!("/v1/segments/{SEGMENT}"));
    assert!(one["standing"].as_str().unwrap().starts_with("was deleted on"), "{one}");
    assert_eq!(one["contents"][0]["events"], 31);
    let coverage = json(&server, "/v1/coverage?device=station%2Falpha");
    assert_eq!((&coverage["present"], &coverage["complete"]), (&json!(0), &json!(false)));
    assert_eq!(coverage["deleted"][0]["why"], "default");
}
