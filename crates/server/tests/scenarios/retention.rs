//! Policies are read, checked against what is stored, and planned with, before any of it applies.

use std::fs;

use crate::harness::{Site, assert_failure};
use crate::sealed::{january, sealed_site};

const POLICIES: &str = "\
[[policy]]
name   = \"weather\"
match  = { schema = \"weather\" }
cold   = [{ after = \"1h\", store = \"archive\" }]
delete = { after = \"90d\" }

[[policy]]
name   = \"default\"
delete = \"never\"
";

#[test]
fn a_check_tells_what_policies_apply_to_and_what_is_odd() {
    let site = Site::new();
    let file = site.path("p.toml");
    let path = file.to_str().unwrap();
    fs::write(&file, "[[policy]]\nname = \"all\"\ndelete = { aftr = \"1d\" }\n").unwrap();
    assert_failure(&site.run(&["retention", "check", path]), &["p.toml:3:12: unknown key aftr"]);

    fs::write(&file, POLICIES).unwrap();
    let nothing = site.expect(&["retention", "check", path]);
    assert!(nothing.starts_with("weather: 0 devices, 0 events, 0 B\n"), "{nothing}");
    let identity = site.enroll_gateway("gw", "*");
    let server = site.serve();
    let january = january();
    let address = server.address();
    let to = ["--schema", "weather", "--server", &address, "--identity", &identity];
    site.expect(&[&["send", january.to_str().unwrap()], &to[..]].concat());
    let hot = site.expect(&["retention", "check", path]);
    assert!(hot.starts_with("weather: ") && !hot.starts_with("weather: 0"), "{hot}");
    assert!(hot.contains("no store is called archive; none are configured"), "{hot}");
}

#[test]
fn a_check_counts_sealed_and_hot_data_alike() {
    let mut site = sealed_site();
    let file = site.path("p.toml");
    fs::write(&file, POLICIES).unwrap();
    site.set("STORE__ARCHIVE__URL", format!("file://{}", site.path("bucket").display()));
    let said = site.expect(&["retention", "check", file.to_str().unwrap()]);
    assert!(said.starts_with("weather: ") && !said.starts_with("weather: 0"), "{said}");
    assert!(!said.contains("to look at"), "{said}");
}

#[test]
fn init_writes_policies_that_keep_everything() {
    let site = Site::new();
    let file = site.path("retention.toml");
    let said = site.expect(&["retention", "check", file.to_str().unwrap()]);
    assert!(said.starts_with("default: "), "{said}");
    assert_failure(&site.run(&["retention", "plan"]), &["catalog.redb does not exist"]);
}
