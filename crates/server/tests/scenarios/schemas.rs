//! Schemas in files: what is stored under an old version reads as the newest, and what does not fit is refused.

use std::fs;

use crate::harness::{Site, assert_failure, assert_success, output};

const OLD: &str = "device,timestamp,temp,place\na,2026-03-01T00:00:00Z,32.0,oslo/7\nb,2026-03-01T00:00:00Z,212.0,bergen/1\n";
const NEW: &str = "device,timestamp,temperature,site\na,2026-03-02T00:00:00Z,20.5,oslo\n";

const FILE: &str = r#"
name = "weather"
[[version]]
number = 1
fields = [{ name = "temp", type = "f64", nullable = true }, { name = "place", type = "text", nullable = true }]
[[version]]
number = 2
fields = [{ name = "temperature", type = "f64", nullable = true }, { name = "site", type = "text", nullable = true }]
upcast = { temperature = "(temp - 32) / 1.8", site = "coalesce(split(place, '/', 0), place)" }
"#;

/// Sends `text` as events of version `version` of `schema`.
fn send(site: &Site, server: &str, text: &str, schema: &str, version: &str) -> std::process::Output {
    let file = site.path("events.csv");
    fs::write(&file, text).unwrap();
    let mut command =
        site.command(&["send", file.to_str().unwrap(), "--schema", schema, "--schema-version", version]);
    command.args(["--server", server, "--identity"]).arg(site.path("gw"));
    output(command)
}

#[test]
fn old_events_read_as_the_newest_version() {
    let mut site = Site::new();
    site.enroll_gateway("gw", "*");
    let server = site.serve();
    assert_success(&send(&site, &server.address(), OLD, "weather", "1"));
    assert!(server.stop().success());
    let written = site.expect(&["replay"]);
    assert!(written.starts_with("device,epoch,seq,timestamp,temp,place\n"), "{written}");

    let directory = site.path("schemas");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("weather.toml"), FILE).unwrap();
    let checked = site.expect(&["schemas", "check"]);
    assert!(checked.contains("weather: 2 versions") && checked.contains("the log agrees"), "{checked}");
    site.set("SCHEMAS__MODE", "declared");
    let server = site.serve();
    let address = server.address();
    assert_success(&send(&site, &address, NEW, "weather", "2"));
    let refused = send(&site, &address, NEW, "wether", "1");
    assert_failure(&refused, &["schema_undeclared", "schema wether is not declared; did you mean weather?"]);
    let refused = send(&site, &address, &OLD.replace("a,", "c,"), "weather", "2");
    assert_failure(&refused, &["schema_conflict", "weather v2 (temp f64", "weather v2 (temperature f64"]);

    // While the server runs, and whichever order is asked for.
    let rows = "a,0,0,2026-03-01T00:00:00.000000000Z,0,oslo\n\
                b,0,0,2026-03-01T00:00:00.000000000Z,100,bergen\n\
                a,1,0,2026-03-02T00:00:00.000000000Z,20.5,oslo\n";
    for order in ["log", "time"] {
        let read = site.expect(&["replay", "--order", order]);
        assert_eq!(
            sorted(&read),
            sorted(&format!("device,epoch,seq,timestamp,temperature,site\n{rows}")),
            "{order}"
        );
    }
    let version = site.expect(&["replay", "--format", "ndjson", "--device", "b"]);
    assert!(version.contains(r#""temperature":100"#), "{version}");
    let as_written = site.expect(&["replay", "--as-written", "--device", "b"]);
    assert_eq!(as_written.lines().next(), written.lines().next());
    let listed = site.expect(&["schemas", "list"]);
    let line = listed.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(line[..7], ["weather", "1", "yes", "yes", "version", "2", "temp"], "{listed}");
    assert!(server.stop().success());

    // A changed definition of what is stored is not started with.
    fs::write(
        directory.join("weather.toml"),
        FILE.replace("temp\", type = \"f64\"", "temp\", type = \"f64\", unit = \"K\""),
    )
    .unwrap();
    let said = site.try_serve(&[]).unwrap_err();
    for part in [
        "weather.toml",
        "temp f64 gauge in K nullable",
        "temp f64 gauge nullable",
        "give the changed definition a new version",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert_failure(&site.run(&["replay"]), &["weather.toml", "correct the file"]);
    fs::write(directory.join("weather.toml"), FILE.replace("temp - 32", "temp - thirty_two")).unwrap();
    assert_failure(&site.run(&["schemas", "check"]), &["weather.toml:9:", "has no field thirty_two"]);
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}
