//! Operators apply policies, hold data and take deletions back, with a server and without; every decision is in the history.

use std::fs;

use crate::harness::{Site, assert_failure};
use crate::sealed::{SEGMENT, archived_site, catalog, now, why};

/// Longer than a test.
const UNDO: i64 = 3_600_000_000_000;

fn policies(site: &Site, delete: &str) -> String {
    let file = site.path("p.toml");
    let text = format!(
        "[[policy]]\nname = \"default\"\ncold = [{{ after = \"1h\", store = \"archive\" }}]\ndelete = {delete}\n"
    );
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn policies_that_delete_sooner_want_a_yes() {
    let site = archived_site();
    let file = policies(&site, "\"never\"");
    let said = site.expect(&["retention", "apply", &file, "--reason", "the audit"]);
    assert_eq!(said, "version 2 applies from now on: 1 policy\n");
    assert!(site.expect(&["retention", "apply", &file]).contains("already, as version 2"));

    let file = policies(&site, "{ after = \"30d\" }");
    let refused = site.run(&["retention", "apply", &file]);
    assert_failure(&refused, &["--yes"]);
    assert!(String::from_utf8(refused.stdout).unwrap().contains("would be deleted sooner"));
    let planned = site.expect(&["retention", "plan", "--policy", &file]);
    assert!(planned.contains("nothing to do") && planned.contains("would be deleted sooner"), "{planned}");
    assert!(site.expect(&["retention", "apply", &file, "--yes"]).contains("\nversion 3 applies from now on"));
    let history = site.expect(&["retention", "history"]);
    assert!(history.lines().count() == 4 && history.contains("the audit"), "{history}");
    assert!(site.expect(&["retention", "history", "2"]).contains("delete = \"never\""));

    let later = site.expect(&["retention", "plan", "--at", "+31d", "--json"]);
    let later: serde_json::Value = serde_json::from_str(&later).unwrap();
    assert_eq!(later["actions"][0]["do"], "mark for deletion", "{later}");
    assert_eq!(later["actions"][0]["segment"], SEGMENT.to_string());
    let days = site.expect(&["retention", "plan", "--days", "40"]);
    assert!(days.contains("\ndefault\n") && days.contains("\ncosts "), "{days}");

    let other = policies(&site, "\"never\"");
    fs::write(&other, fs::read_to_string(&other).unwrap().replace("archive", "glacier")).unwrap();
    assert_failure(&site.run(&["retention", "apply", &other]), &["no store is called glacier"]);
}

#[test]
fn what_was_undeleted_is_held() {
    let site = archived_site();
    let id = SEGMENT.to_string();
    let not_marked = site.run(&["segments", "undelete", &id]);
    assert_failure(&not_marked, &["is not marked for deletion"]);
    let marked = catalog(&site);
    marked.mark(&[(SEGMENT, now() + UNDO, why())]).unwrap();
    drop(marked);
    assert!(site.expect(&["segments", "list"]).contains("deleted from "));
    let said = site.expect(&["segments", "undelete", &id, "--reason", "needed"]);
    assert!(said.contains("hold 1 keeps it"), "{said}");
    let list = site.expect(&["segments", "list"]);
    assert!(!list.contains("deleted from ") && list.contains("held by 1"), "{list}");
    let explained = site.expect(&["segments", "explain", &id]);
    assert!(explained.contains("needed") && explained.contains("held by 1"), "{explained}");
}

#[test]
fn holds_come_and_go() {
    let site = archived_site();
    assert!(site.expect(&["hold", "list"]).starts_with("nothing is held"));
    let added = site.expect(&["hold", "add", "--schema", "weather", "--from", "2000-01-01T00:00:00Z"]);
    assert!(added.starts_with("hold 1 stands on ") && added.contains(": 1 sealed segments"), "{added}");
    let list = site.expect(&["hold", "list"]);
    assert!(list.contains("`weather`") && list.lines().count() == 2, "{list}");
    let plan = site.expect(&["retention", "plan", "--at", "+3650d"]);
    assert!(plan.contains("nothing to do"), "{plan}");
    site.expect(&["hold", "remove", "1"]);
    assert_failure(&site.run(&["hold", "remove", "1"]), &["there is no hold 1"]);
}

#[test]
fn decisions_go_through_the_server_and_outlive_it() {
    let site = archived_site();
    let server = site.serve();
    let first = site.expect(&["retention", "history"]);
    assert!(first.contains("server") && first.contains("retention.toml is new"), "{first}");
    let file = policies(&site, "{ after = \"30d\" }");
    assert_failure(&site.run(&["retention", "apply", &file]), &["--yes"]);
    assert!(site.expect(&["retention", "apply", &file, "--yes"]).contains("version 2 applies"));
    assert!(site.expect(&["hold", "add", "--schema", "w*"]).starts_with("hold 1 stands on "));
    assert_failure(&site.run(&["hold", "remove", "2"]), &["there is no hold 2"]);
    server.kill();

    assert!(site.expect(&["hold", "list"]).contains("`w*`"));
    assert!(site.expect(&["hold", "add", "--device", "x"]).starts_with("hold 2 stands on "));
    let server = site.serve();
    site.expect(&["hold", "remove", "2"]);
    let history = site.expect(&["retention", "history"]);
    assert_eq!(history.lines().count(), 3, "a restart does not bring the file back: {history}");
    assert!(server.stop().success());
}

#[test]
fn a_policy_file_that_deletes_sooner_is_not_applied_by_a_start() {
    let site = archived_site();
    let file = policies(&site, "{ after = \"30d\" }");
    fs::copy(file, site.path("retention.toml")).unwrap();
    assert!(site.serve().stop().success());
    assert_eq!(site.expect(&["retention", "history"]).lines().count(), 2, "the first start's, and no others");
}
