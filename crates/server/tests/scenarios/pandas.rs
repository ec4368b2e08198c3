//! The states of the devices of the real data sets are what pandas says of the files, finally and at random event times.

use std::path::Path;
use std::process::Command;

use crate::harness::{Site, assert_success, crash_seed, output, workspace};
use crate::shared_data::FILES;

#[test]
fn states_are_what_pandas_says_of_the_files() {
    let data = workspace().join("../shared/data");
    let Ok(python) = std::env::var("ICECORE_PANDAS") else {
        eprintln!("skipped: ICECORE_PANDAS names no interpreter with .ci/pandas.txt installed");
        return;
    };
    if !data.is_dir() {
        eprintln!("skipped: {} is absent", data.display());
        return;
    }
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "*");
    let server = site.serve();
    let fields = data.join("fields.json");
    for name in FILES {
        let file = data.join(format!("{name}.csv.gz"));
        let (file, fields, address) = (file.to_str().unwrap(), fields.to_str().unwrap(), server.address());
        let to = ["--schema", name, "--fields", fields, "--server", &address, "--identity", &identity];
        site.expect(&[&["send", file], &to[..]].concat());
    }
    // Before the last snapshot is written, and behind it.
    compare(&python, &site, &data);
    assert!(server.stop().success());
    compare(&python, &site, &data);
}

fn compare(python: &str, site: &Site, data: &Path) {
    let script = workspace().join("crates/server/tests/scenarios/states.py");
    let seed = crash_seed().to_string();
    for name in FILES {
        let mut command = Command::new(python);
        command.arg(&script).arg(env!("CARGO_BIN_EXE_icecore")).arg(site.path("icecore.toml")).arg(data);
        command.args([&seed, name]);
        let compared = output(command);
        assert_success(&compared);
        print!("{}", String::from_utf8_lossy(&compared.stdout));
    }
}
