//! Mistakes in the configuration are told with their place, and nothing starts.

use std::fs;

use crate::harness::{Site, assert_failure, icecore, output};

#[test]
fn a_mistake_in_the_file_is_told_with_line_and_column() {
    let site = Site::new();
    let file = site.path("icecore.toml");
    fs::write(&file, "[listen]\nquick = \"127.0.0.1:0\"\n").unwrap();
    let place = format!("{}:2:1: unknown key quick in [listen]; did you mean quic?", file.display());
    assert_failure(&site.run(&["serve"]), &[&place]);
}

#[test]
fn a_mistake_in_the_environment_is_told_with_the_variable() {
    let site = Site::new();
    let mut serve = site.command(&["serve"]);
    serve.env("ICECORE__LOG__COMPRESSION", "fast");
    assert_failure(&output(serve), &["ICECORE__LOG__COMPRESSION=fast"]);
}

#[test]
fn a_missing_file_is_told_with_the_way_to_make_one() {
    assert_failure(
        &icecore(&["--config", "/nowhere/ice.toml", "serve"]),
        &["/nowhere/ice.toml", "icecore init"],
    );
}

#[test]
fn init_replaces_nothing() {
    let site = Site::new();
    let before = fs::read(site.path("tls/ca.pem")).unwrap();
    let dir = site.path("").to_str().unwrap().to_owned();
    assert_failure(&icecore(&["init", "--dir", &dir]), &["exists already; nothing was changed"]);
    assert_eq!(fs::read(site.path("tls/ca.pem")).unwrap(), before);
}
