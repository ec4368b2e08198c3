//! The document is served, and the server does what it says: schemathesis tries, where `ICECORE_SCHEMATHESIS` names it.

use std::process::Command;

use super::json;
use crate::harness::{output, workspace};
use crate::sealed::archived_site;

/// Seconds that it goes on trying; the whole of it takes a little longer.
const SECONDS: &str = "40";

#[test]
fn the_server_keeps_to_its_document() {
    let site = archived_site();
    let server = site.serve();
    let document = json(&server, "/v1/openapi.json");
    assert_eq!(document["openapi"], "3.1.0");
    let Ok(schemathesis) = std::env::var("ICECORE_SCHEMATHESIS") else {
        eprintln!("skipped: ICECORE_SCHEMATHESIS does not name a schemathesis");
        return;
    };
    let mut command = Command::new(schemathesis);
    let http = server.http;
    let settings = workspace().join(".ci/schemathesis.toml");
    command.arg("--config-file").arg(settings);
    command.args(["run", &format!("http://{http}/v1/openapi.json"), "--url", &format!("http://{http}")]);
    // A tail has no end: it has tests of its own.
    command.args([
        "--exclude-path",
        "/v1/tail",
        "--max-time",
        SECONDS,
        "--max-examples",
        "50",
        "--seed",
        "1",
    ]);
    command.args(["--request-timeout", "10", "--no-color"]).current_dir(site.path(""));
    let tried = output(command);
    assert!(tried.status.success(), "{}", String::from_utf8_lossy(&tried.stdout));
}
