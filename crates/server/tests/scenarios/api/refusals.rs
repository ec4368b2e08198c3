//! Who may ask, and what is said to what is not understood.

use super::{filled_site, json, problem, split};
use crate::harness::Site;

#[test]
fn mistakes_are_problems_that_name_them() {
    let site = Site::new();
    let server = site.serve();
    assert!(problem(&server, "/v1/nowhere", 404).starts_with("nothing is at /v1/nowhere"));
    assert!(problem(&server, "/v1", 404).contains("openapi.json"));
    assert!(problem(&server, "/v1/devices?nmae=x", 400).starts_with("nmae: there is no such parameter"));
    assert!(
        problem(&server, "/v1/devices?limit=0", 400).starts_with("limit: expected a number from 1 to 1000")
    );
    assert!(problem(&server, "/v1/devices?name=%ff", 400).contains("is not UTF-8"));
    assert!(problem(&server, "/v1/devices/%ff", 400).contains("is not UTF-8"));
    assert!(problem(&server, "/v1/coverage?start=noon", 400).starts_with("start: "));
    assert!(problem(&server, "/v1/tail?from=1:x", 400).starts_with("from: expected the id of an event"));
    assert!(problem(&server, "/v1/tail?from=9:3", 410).contains("there is no 9:3 in this log"));
    let (head, body) = split(&server.request("POST /v1/devices HTTP/1.0\r\n\r\n"));
    assert!(head.starts_with("HTTP/1.0 405 ") && head.contains("allow: GET,HEAD"), "{head}");
    assert!(body.contains("POST does nothing here"), "{body}");
}

#[test]
fn only_this_machine_is_answered() {
    let mut site = filled_site();
    let server = site.serve();
    let ask = |host: &str| server.request(&format!("GET /v1/server HTTP/1.0\r\nHost: {host}\r\n\r\n"));
    assert!(ask("localhost:1").starts_with("HTTP/1.0 200 "));
    let other = ask("rebound.example.org");
    assert!(other.starts_with("HTTP/1.0 403 ") && other.contains("rebound.example.org"), "{other}");
    let described = json(&server, "/v1/server");
    assert_eq!(described["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&described["term"], &described["position"]), (&2.into(), &96.into()), "{described}");
    assert!(server.stop().success());

    site.set("LISTEN__HTTP", "0.0.0.0:0");
    let mut server = site.serve();
    server.http.set_ip([127, 0, 0, 1].into());
    assert!(problem(&server, "/v1/server", 403).contains("loopback addresses only, not on 0.0.0.0:"));
    assert!(server.get("/readyz").starts_with("HTTP/1.0 200 OK"));
}
