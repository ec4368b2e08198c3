//! The HTTP API of the real server.

mod devices;
mod events;
mod open_api;
mod refusals;
mod segments;
mod tail;

use std::sync::Arc;

use icecore_log::{Encoder, HotLog, Options, RealDisk, Source};
use icecore_wire::{Code, Digest, Epoch};
use serde_json::Value;

use crate::harness::{Server, Site, testdata};
use crate::sealed::now;

/// A site with events of a few devices, and gaps, before the server starts.
pub(crate) fn filled_site() -> Site {
    let site = Site::new();
    fill(&site);
    site
}

fn fill(site: &Site) {
    let identity = site.enroll_gateway("gw", "*");
    let server = site.serve();
    send(site, &server, &identity, "january.csv", "weather");
    send(site, &server, &identity, "device_names.csv", "level");
    assert!(server.stop().success());
    leave_gaps(site);
    site.expect(&["device", "label", "station/alpha", "site=oslo", "roof=flat"]);
}

/// Sends one of the fixtures.
pub(crate) fn send(site: &Site, server: &Server, identity: &str, file: &str, schema: &str) {
    let (file, address) = (testdata().join("fixtures").join(file), server.address());
    let file = file.to_str().unwrap();
    site.expect(&["send", file, "--schema", schema, "--server", &address, "--identity", identity]);
}

/// Puts on record that a device dropped sequences and that some of another were refused; some in between never came.
fn leave_gaps(site: &Site) {
    let opened = HotLog::open(Arc::new(RealDisk), &site.path("data"), Options::default(), now(), &mut |_| ());
    let (mut appender, mut committer, _) = opened.unwrap();
    let device = "leaky".parse().unwrap();
    let source = Arc::new(Source { device, epoch: Epoch::from_bytes([7; 16]), number: 0 });
    appender.dropped(&source, 10..15);
    appender.refused(&source, 20..23, Code::MalformedBatch.number(), Digest::of(b"x"), "no");
    committer.commit(&mut Encoder::new().encode(appender.finish(now()), 1)).unwrap();
    committer.close().unwrap();
}

/// The JSON at a path that is there.
pub(crate) fn json(server: &Server, path: &str) -> Value {
    let (head, body) = split(&server.get(path));
    assert!(head.starts_with("HTTP/1.0 200 OK"), "{path}: {head}{body}");
    serde_json::from_str(&body).unwrap()
}

/// What is wrong with a request, by its status.
pub(crate) fn problem(server: &Server, path: &str, status: u16) -> String {
    let (head, body) = split(&server.get(path));
    assert!(head.starts_with(&format!("HTTP/1.0 {status} ")), "{path}: {head}{body}");
    assert!(head.contains("content-type: application/problem+json"), "{path}: {head}");
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["status"], status);
    assert!(problem["type"].as_str().unwrap().starts_with("urn:icecore:problem:"), "{problem}");
    problem["detail"].as_str().unwrap().to_owned()
}

fn split(answer: &str) -> (String, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned() + "\r\n", body.to_owned())
}
