//! Flight SQL answers ADBC and plain Flight clients, says what its answers lack, and goes on whatever clients do.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cold::Cold;
use crate::harness::{Server, Site, assert_success, output, testdata};
use crate::sealed::{SEGMENT, archived_site, delete, sealed_site};

/// The interpreter that has clients; `None`, and the reason printed, where there is none.
fn python() -> Option<String> {
    let python = std::env::var("ICECORE_PANDAS").ok();
    if python.is_none() {
        eprintln!("skipped: ICECORE_PANDAS names no Python with what .ci/pandas.txt lists");
    }
    python
}

/// Runs `part` of the client's script against a server.
fn ask(python: &str, part: &str, site: &Site, server: &Server, more: &[&Path]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/flight.py");
    let mut client = Command::new(python);
    client
        .arg(script)
        .arg(part)
        .arg(server.flight.unwrap().to_string())
        .arg(site.path("tls/ca.pem"))
        .args(more);
    let asked = output(client);
    assert_success(&asked);
    print!("{}", String::from_utf8_lossy(&asked.stdout));
}

#[test]
fn clients_get_tables_and_answers_and_hear_what_is_missing() {
    let Some(python) = python() else { return };
    let mut site = archived_site();
    // January is deleted by policy; February comes in afterwards.
    delete(&site, &Cold::Directory);
    fs::remove_file(SEGMENT.file(&site.path("data"))).unwrap();
    site.set("FLIGHT__LISTEN", "127.0.0.1:0");
    let identity = site.enroll_gateway("gw2", "*");
    let server = site.serve();
    let february = testdata().join("fixtures/february.csv");
    let address = server.address();
    let to = ["--schema", "weather", "--server", &address, "--identity", &identity];
    site.expect(&[&["send", february.to_str().unwrap()], &to[..]].concat());

    let other = Site::new();
    ask(&python, "answers", &site, &server, &[&february, &other.path("tls/ca.pem")]);
    assert!(server.has_said("an answer of Flight SQL is not complete"));
    ask(&python, "clients", &site, &server, &[]);
    assert!(server.stop().success());
}

#[test]
fn damage_is_an_error_that_names_its_place_and_can_be_read_around() {
    let Some(python) = python() else { return };
    let mut site = sealed_site();
    let file = SEGMENT.file(&site.path("data"));
    let mut bytes = fs::read(&file).unwrap();
    let third = bytes.len() / 3;
    bytes[third] ^= 1;
    fs::write(&file, bytes).unwrap();
    site.set("FLIGHT__LISTEN", "127.0.0.1:0");
    let server = site.serve();
    ask(&python, "damage", &site, &server, &[&file]);
    assert!(server.stop().success());
}

#[test]
fn a_client_is_told_that_the_server_stops() {
    let Some(python) = python() else { return };
    let mut site = sealed_site();
    site.set("FLIGHT__LISTEN", "127.0.0.1:0");
    let server = site.serve();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/flight.py");
    let begun = site.path("begun");
    let mut client = Command::new(&python);
    client
        .arg(script)
        .arg("stop")
        .arg(server.flight.unwrap().to_string())
        .arg(site.path("tls/ca.pem"))
        .arg(&begun);
    let client = client.spawn().unwrap();
    crate::harness::wait_until("the first rows", || begun.exists());
    assert!(server.stop().success());
    let ended = client.wait_with_output().unwrap();
    assert!(ended.status.success());
}
