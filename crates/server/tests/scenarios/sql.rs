//! SQL on the command line: the same answers wherever events lie and while more come, and what is missing is said.

use std::fs::{self, File};
use std::process::Output;

use crate::cold::Cold;
use crate::harness::{Site, assert_failure, assert_success, output, testdata};
use crate::sealed::{SEGMENT, archived_site, catalog, delete, january, sealed_site, why};
use crate::tiers::wait_until;

const BY_DEVICE: &str = "SELECT device, count(*) AS events, max(Temperature) AS warmest FROM weather GROUP BY device ORDER BY device";

/// The answer as CSV.
fn sql(site: &Site, statement: &str, flags: &[&str]) -> Output {
    site.run(&[&["sql", statement, "--format", "csv"], flags].concat())
}

fn answer(site: &Site, statement: &str, flags: &[&str]) -> String {
    let output = sql(site, statement, flags);
    assert_success(&output);
    String::from_utf8(output.stdout).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What `BY_DEVICE` has to answer, by the file that was sent.
fn expected() -> String {
    let mut reader = csv::Reader::from_path(january()).unwrap();
    let mut devices = std::collections::BTreeMap::<String, (u64, f64)>::new();
    for record in reader.records() {
        let record = record.unwrap();
        let (events, warmest) = devices.entry(record[0].to_owned()).or_insert((0, f64::MIN));
        *events += 1;
        *warmest = warmest.max(record[2].parse().unwrap_or(f64::MIN));
    }
    let line = |(device, (events, warmest)): (String, (u64, f64))| format!("{device},{events},{warmest:?}\n");
    "device,events,warmest\n".to_owned() + &devices.into_iter().map(line).collect::<String>()
}

#[test]
fn answers_are_the_same_wherever_events_lie() {
    let site = archived_site();
    let expected = expected();
    assert_eq!(answer(&site, BY_DEVICE, &["--require-complete"]), expected, "warm");
    assert!(answer(&site, "SELECT tier FROM segments ORDER BY 1", &[]).ends_with("warm\n"));
    let cold = catalog(&site);
    cold.drop_local(SEGMENT, &why()).unwrap();
    drop(cold);
    fs::remove_file(SEGMENT.file(&site.path("data"))).unwrap();
    let read = sql(&site, BY_DEVICE, &["--require-complete"]);
    assert_eq!(String::from_utf8_lossy(&read.stdout), expected, "cold");
    assert!(said(&read).contains("events present, nothing missing"), "{}", said(&read));
    assert_eq!(
        answer(&site, "SELECT tier, stores FROM segments WHERE tier = 'cold'", &[]),
        "tier,stores\ncold,archive\n"
    );
    let bucket =
        output(Cold::Directory.command(&site, &["sql", BY_DEVICE, "--format", "csv", "--require-complete"]));
    assert_eq!(String::from_utf8_lossy(&bucket.stdout), expected, "a bucket alone: {}", said(&bucket));

    delete(&site, &Cold::Directory);
    let left = sql(&site, BY_DEVICE, &[]);
    assert_success(&left);
    assert!(said(&left).contains("deleted by policy `default`"), "{}", said(&left));
    assert_failure(
        &sql(&site, BY_DEVICE, &["--require-complete"]),
        &["not everything", &SEGMENT.to_string()],
    );
    // What was not deleted is whole.
    assert_success(&sql(
        &site,
        "SELECT count(*) FROM weather WHERE device = 'nobody'",
        &["--require-complete"],
    ));
    let deleted = "SELECT device, sum(events) AS events, why FROM coverage WHERE kind = 'deleted' \
                   GROUP BY device, why ORDER BY device";
    let deleted = answer(&site, deleted, &[]);
    assert!(deleted.contains("station/alpha,31,policy default\n"), "{deleted}");
    assert_failure(
        &sql(&site, "SELECT * FROM state_at('2026-01-05T00:00:00Z')", &[]),
        &["not exact", "deleted by policy `default`"],
    );
}

#[test]
fn answers_are_the_same_while_events_move_and_more_come() {
    let mut site = Site::new();
    Cold::Directory.configure(&mut site);
    site.set("TIER__INTERVAL", "1s");
    site.set("SEAL__AFTER", "1s");
    let kept = "[[policy]]\nname = \"all\"\ncold = [{ after = \"1s\", store = \"archive\" }]\n\
                local = { drop_after = \"2s\" }\ndelete = \"never\"\n";
    fs::write(site.path("retention.toml"), kept).unwrap();
    let identity = site.enroll_gateway("gw", "*");
    let file = testdata().join("fixtures/january.csv");
    let send = |schema: &str, address: &str| {
        let to = ["--schema", schema, "--server", address, "--identity", &identity];
        site.expect(&[&["send", file.to_str().unwrap()], &to[..]].concat())
    };
    let server = site.serve();
    send("weather", &server.address());
    assert_eq!(answer(&site, BY_DEVICE, &["--require-complete"]), expected(), "hot");
    assert!(server.stop().success());
    let server = site.serve();
    let mut schemas = (0..).map(|number| format!("more_{number}"));
    let mut sent = 0;
    wait_until(
        || {
            send(&schemas.next().unwrap(), &server.address());
            sent += 1;
            assert_eq!(answer(&site, BY_DEVICE, &["--require-complete"]), expected());
            answer(&site, "SELECT tier FROM segments", &[]).contains("cold")
        },
        "a segment that is cold",
    );
    let last =
        answer(&site, &format!("SELECT count(*) AS n FROM more_{}", sent - 1), &["--require-complete"]);
    assert_eq!(last, "n\n62\n");
    assert!(server.stop().success());
}

#[test]
fn mistakes_are_named() {
    let site = sealed_site();
    let refused = |statement: &str, expected: &[&str]| assert_failure(&sql(&site, statement, &[]), expected);
    refused(
        "SELECT temprature FROM weather",
        &["no column temprature", "did you mean temperature?", "column 8"],
    );
    refused("SELECT * FROM whether", &["no table whether", "did you mean weather?"]);
    refused("SELECT avg( FROM weather", &["no SQL that is understood", "line 1, column 18"]);
    refused("DELETE FROM weather", &["DELETE FROM is refused", "only read"]);
    refused("SELECT device + 1 FROM weather", &["Cannot coerce", "+ Int64"]);
    let out = site.path("out.csv");
    let failed = sql(&site, "SELECT nothing FROM weather", &["--out", out.to_str().unwrap()]);
    assert_failure(&failed, &["no column nothing"]);
    assert!(!out.exists());
}

#[test]
fn what_is_damaged_or_gone_is_named_and_may_be_read_around() {
    let site = archived_site();
    let file = SEGMENT.file(&site.path("data"));
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 3] ^= 4;
    fs::write(&file, &damaged).unwrap();
    let all = "SELECT * FROM weather";
    assert_failure(&sql(&site, all, &[]), &["the log is damaged", &SEGMENT.to_string(), "--skip-damaged"]);
    let around = sql(&site, all, &["--skip-damaged"]);
    assert_success(&around);
    assert!(said(&around).contains("skipped: ") && said(&around).contains("damaged in"), "{}", said(&around));
    assert_failure(&sql(&site, all, &["--skip-damaged", "--require-complete"]), &["not everything"]);

    fs::remove_dir_all(site.path("bucket/segments")).unwrap();
    let gone = |flags: &[&str]| {
        let all = [&["sql", BY_DEVICE, "--format", "csv"], flags].concat();
        output(Cold::Directory.command(&site, &all))
    };
    assert_failure(&gone(&[]), &[&SEGMENT.to_string()]);
    let around = gone(&["--skip-damaged"]);
    assert_success(&around);
    assert!(said(&around).contains("not to be read"), "{}", said(&around));
}

#[test]
fn answers_come_in_every_form() {
    let site = sealed_site();
    let one = "SELECT device, event_time, temperature FROM weather ORDER BY event_time, device LIMIT 1";
    let form = |format: &str| site.expect(&["sql", one, "--format", format]);
    assert_eq!(
        form("table"),
        "device         event_time            temperature\nstation/alpha  2026-01-01T06:00:00Z          2.2\n"
    );
    let json: serde_json::Value = serde_json::from_str(&form("json")).unwrap();
    assert_eq!(json["temperature"], 2.2);
    let out = site.path("rows.arrow");
    site.expect(&["sql", one, "--format", "arrow", "--out", out.to_str().unwrap()]);
    assert!(fs::read(&out).unwrap().starts_with(&[0xFF; 4]));

    let script = site.path("script.sql");
    let statements =
        "SELECT count(*) AS n\n  FROM weather;\nSELECT nothing;\n\\d\n\\d weather\nSELECT ';' AS last";
    fs::write(&script, statements).unwrap();
    let mut command = site.command(&["sql", "--format", "csv"]);
    command.stdin(File::open(&script).unwrap());
    let all = output(command);
    let text = String::from_utf8(all.stdout.clone()).unwrap();
    assert!(text.starts_with("n\n62\n") && text.ends_with("last\n;\n"), "{text}");
    assert!(text.contains("weather,public,BASE TABLE\n") && text.contains("temperature,Float64,"), "{text}");
    assert_failure(&all, &["no column nothing", "a statement was not answered"]);
    // Of what reads no events there is nothing to say.
    assert_eq!(said(&all).matches("coverage: ").count(), 1, "{}", said(&all));
    assert!(said(&all).contains("coverage: 62 events present, nothing missing\n"), "{}", said(&all));
    let devices = sql(&site, "SELECT device FROM devices ORDER BY device", &["--require-complete"]);
    assert_eq!((said(&devices).as_str(), devices.status.success()), ("", true));
}

#[test]
fn labels_and_states_are_tables() {
    let site = sealed_site();
    site.expect(&["device", "label", "station/alpha", "site=oslo"]);
    assert_eq!(
        answer(&site, "SELECT device, labels['site'] AS site, events FROM devices ORDER BY device", &[]),
        "device,site,events\nstation/alpha,oslo,31\nstation/beta,,31\n"
    );
    let state = "SELECT device, last, last_time FROM state_at('2026-01-02T06:00:00Z', NULL) \
                 WHERE field = 'temperature' ORDER BY device";
    assert_eq!(
        answer(&site, state, &[]),
        "device,last,last_time\nstation/alpha,4.2,2026-01-02T06:00:00Z\nstation/beta,0.8,2026-01-02T06:00:00Z\n"
    );
}
