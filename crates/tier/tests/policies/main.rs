//! The policies that the fixtures here stand for, and what they make of a fleet: `NAME.toml` gives `NAME.txt`.

use std::fs;
use std::path::Path;

use icecore_tier::policy::{Known, Labels, PolicySet};

const FIXTURES: [&str; 6] = ["a-vibration", "b-alarms", "c-sites", "d-debug", "e-archive", "f-local"];

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn fixture(name: &str) -> PolicySet {
    PolicySet::parse(name, &read(&format!("{name}.toml"))).unwrap_or_else(|error| panic!("{error}"))
}

fn site(site: &str) -> Labels {
    Labels::from([("site".to_owned(), site.to_owned())])
}

#[test]
fn every_fixture_makes_of_a_fleet_what_is_written_beside_it() {
    let sites = ["oslo", "bergen", "turin"].map(site);
    let devices = [("pump-1", &sites[0]), ("lab-2", &sites[0]), ("pump-3", &sites[1]), ("pump-4", &sites[2])];
    let schemas = [("vibration/x", 6_000, 48_000_000), ("alarm", 10, 900), ("debug", 1_000, 250_000)];
    let known =
        |(schema, rows, bytes)| devices.map(|(device, labels)| Known { schema, device, labels, rows, bytes });
    let known: Vec<Known<'_>> = schemas.into_iter().flat_map(known).collect();
    for name in FIXTURES {
        let check = fixture(name).check(&["archive"], &known);
        assert_eq!(check.to_string(), read(&format!("{name}.txt")), "{name}");
    }
}

#[test]
fn the_first_policy_that_matches_applies_with_the_labels_at_receipt() {
    let sites = fixture("c-sites");
    let of = |device: &str, labels: &Labels| sites.resolve("heat", device, labels).name.clone();
    assert_eq!(of("pump-1", &site("oslo")), "norway");
    assert_eq!(of("pump-1", &site("turin")), "default", "the same device after it moved");
    assert_eq!(of("lab-1", &site("oslo")), "default");
    assert_eq!(of("pump-1", &Labels::new()), "default");
}

#[test]
fn the_file_that_comes_with_icecore_deletes_nothing_and_its_example_is_valid() {
    let text = include_str!("../../../../config/retention.toml");
    let policies = PolicySet::parse("retention.toml", text).unwrap();
    assert_eq!(policies.policies().len(), 1);
    assert_eq!((policies.policies()[0].delete, policies.policies()[0].cold.len()), (None, 0));

    let example = text.lines().filter_map(|line| line.strip_prefix("#   "));
    let example =
        example.map(|line| line.replace("age_by = \"received\"", "age_by = \"event\"\ngrace = \"30d\""));
    let text = format!("{}\n{text}", example.collect::<Vec<_>>().join("\n"));
    let policies = PolicySet::parse("example", &text).unwrap();
    assert_eq!(policies.written().len(), 2);
    assert_eq!(policies.policies()[0].cold.len(), 2);
}

#[test]
fn a_policy_with_everything_reads_as_it_is_meant() {
    let text = r#"
[[policy]]
name   = "vibration"
match  = { schema = "vibration*", labels = { site = ["oslo", "bergen"] }, not = { device = "lab-*" } }
cold   = [{ after = "6h", store = "archive" }, { after = "90d", store = "archive", class = "GLACIER_IR" }]
local  = { drop_after = "2d", max_bytes = "500GB" }
rollup = [{ every = "1m", delete_after = "1y" }, { every = "1h", delete_after = "10y" }]
delete = { after = "90d", undo = "7d" }
age_by = "event"

[[policy]]
name   = "default"
delete = { after = "1y", max_bytes = "1TB" }
"#;
    let check = PolicySet::parse("p", text).unwrap().check(&["archive"], &[]);
    assert_eq!(
        check.to_string(),
        "vibration: 0 devices, 0 events, 0 B
  for schema vibration*, label site oslo or bergen, but not device lab-*; in archive from 6h; in archive as GLACIER_IR \
         from 90d; local until 2d or beyond 500.0 GB; windows of 1m for 1y; windows of 1h for 10y; deleted after 90d, \
         undo for 7d; by event time, but 30d at least
default: 0 devices, 0 events, 0 B
  for everything else; deleted after 1y or beyond 1.0 TB, undo for 7d
vibration@1m: 0 devices, 0 events, 0 B
  for windows of 1m of what vibration is for; in archive from 6h; in archive as GLACIER_IR from 90d; \
         local until 2d or beyond 500.0 GB; deleted after 1y, undo for 7d
vibration@1h: 0 devices, 0 events, 0 B
  for windows of 1h of what vibration is for; in archive from 6h; in archive as GLACIER_IR from 90d; \
         local until 2d or beyond 500.0 GB; deleted after 10y, undo for 7d

2 to look at:
  vibration applies to nothing there is today
  vibration: the cold stage at 90d is never used: the data is deleted at the same age
"
    );
}

#[test]
fn check_names_what_was_perhaps_not_meant() {
    let text = r#"
[[policy]]
name   = "plants"
match  = { device = "pump-*" }
cold   = [{ after = "1d", store = "archiv" }]
delete = { after = "1d" }

[[policy]]
name   = "pump-7"
match  = { device = "pump-7", schema = "heat" }
delete = "never"

[[policy]]
name   = "heat"
match  = { schema = "heat*", labels = { sit = "oslo" } }
delete = "never"

[[policy]]
name   = "flows"
match  = { schema = "flows", not = { device = "lab-*" } }
delete = "never"

[[policy]]
name   = "flow"
match  = { schema = "flow" }
delete = "never"

[[policy]]
name   = "default"
delete = "never"
"#;
    let policies = PolicySet::parse("odd.toml", text).unwrap();
    let oslo = site("oslo");
    let known = [("heat", "pump-7"), ("flow", "pump-8"), ("heat", "lab-1")];
    let known = known.map(|(schema, device)| Known { schema, device, labels: &oslo, rows: 1, bytes: 10 });
    let check = policies.check(&["archive"], &known);
    let remarks: Vec<String> = check.remarks.iter().map(ToString::to_string).collect();
    assert_eq!(
        remarks,
        [
            "pump-7 never applies: plants, before it, selects all that it selects",
            "heat applies to nothing there is today",
            "heat: no device has a label sit; did you mean site?",
            "flows applies to nothing there is today",
            "flows: no schema is called flows; did you mean flow?",
            "flow applies to nothing: all that it selects today goes to policies before it, such as plants",
            "plants: the cold stage at 1d is never used: the data is deleted at the same age",
            "plants: no store is called archiv; did you mean archive?; add [store.archiv] to the server's configuration",
        ]
    );
    assert!(
        check.to_string().ends_with(&format!("\n8 to look at:\n  {}\n", remarks.join("\n  "))),
        "{check}"
    );
    let empty = policies.check(&["archiv"], &[]).remarks;
    assert!(!empty.iter().any(|remark| remark.to_string().contains("no schema")), "{empty:?}");
}
