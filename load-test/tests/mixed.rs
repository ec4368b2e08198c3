//! A small fleet of all kinds of devices for some seconds: the run proves by itself what each kind is promised.

use std::fs;
use std::process::Command;

use serde_json::Value;

#[test]
fn a_mixed_fleet_is_kept_its_promises() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let run = Command::new(env!("CARGO_BIN_EXE_icecore-load"))
        .args(["mixed", "--devices", "40", "--seconds", "8", "--rate", "40", "--batch-every", "250ms"])
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));

    // What was to happen has happened.
    let figures = serde_json::from_slice::<Value>(&fs::read(json).unwrap()).unwrap();
    let kind = |name: &str, figure: &str| {
        let kinds = figures["kinds"].as_array().unwrap();
        kinds.iter().find(|kind| kind["kind"] == name).unwrap()[figure].as_u64().unwrap()
    };
    for name in ["steady", "sleepy", "roaming", "flapping", "slow", "cloned"] {
        assert!(kind(name, "events_stored") > 0, "{name}");
        assert_eq!(kind(name, "events_stored"), kind(name, "events_cut"), "{name}");
    }
    assert!(kind("sleepy", "reconnects") > 0, "it has slept");
    assert!((1..kind("revoked", "events_cut")).contains(&kind("revoked", "events_stored")));
    assert_eq!(kind("cloned", "clients"), 2);
    assert_eq!(figures["told"]["sequence_conflicts"], 1, "a clone that took no care was refused");
    assert!(figures["told"]["takeovers"].as_u64().unwrap() > 0);
}
