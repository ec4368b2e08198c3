//! A server on its own: one per data directory, HTTP, status, a graceful stop.

use crate::harness::{Site, assert_failure, output};

#[test]
fn health_readiness_and_metrics_are_served() {
    let site = Site::new();
    let server = site.serve();
    assert!(server.get("/healthz").ends_with("ok\n"));
    assert!(server.get("/readyz").starts_with("HTTP/1.0 200 OK"));
    assert!(server.get("/metrics").contains("icecore_durable_position 0"));
    assert!(server.get("/elsewhere").starts_with("HTTP/1.0 404"));

    let http = server.http.to_string();
    let status = |site: &Site| {
        let mut status = site.command(&["status"]);
        status.env("ICECORE__LISTEN__HTTP", &http);
        String::from_utf8(output(status).stdout).unwrap()
    };
    let up = status(&site);
    assert!(up.contains("server       ready") && up.contains("durable      position 0"), "{up}");
    assert!(server.stop().success());
    let down = status(&site);
    assert!(down.contains("server       down") && down.contains("durable      position 0"), "{down}");
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let site = Site::new();
    let server = site.serve();
    assert_failure(&site.run(&["serve"]), &["locked"]);
    assert!(server.stop().success());
    assert!(site.serve().stop().success(), "the lock went with the process");
}
