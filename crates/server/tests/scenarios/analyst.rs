//! The questions of `docs/analyst.md`, asked as they stand there: the answers are those that stand there, and what pandas makes of the
//! files that were sent.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use crate::harness::{Site, assert_success, output, workspace};

const FILES: [&str; 3] = ["beijing_air", "metro_traffic", "usgs_quakes"];
/// The time in the document before which the late events had not arrived.
const NINE: &str = "2026-03-01T09:00:00Z";
const QUESTIONS: usize = 10;

#[test]
fn the_documents_answers_are_those_of_the_data_and_of_pandas() {
    let data = workspace().join("../shared/data");
    let Ok(python) = std::env::var("ICECORE_PANDAS") else {
        eprintln!("skipped: ICECORE_PANDAS names no interpreter with .ci/pandas.txt installed");
        return;
    };
    if !data.is_dir() {
        eprintln!("skipped: {} is absent", data.display());
        return;
    }
    let pandas = |arguments: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(workspace().join("crates/server/tests/scenarios/analyst.py")).args(arguments);
        let said = output(command);
        assert_success(&said);
        print!("{}", String::from_utf8_lossy(&said.stdout));
    };
    let site = Site::new();
    let text = |path: &str| site.path(path).to_str().unwrap().to_owned();
    let file = |name: &str| data.join(format!("{name}.csv.gz")).to_str().unwrap().to_owned();
    let [early, late] = ["early", "late"].map(|part| {
        fs::create_dir(site.path(part)).unwrap();
        text(&format!("{part}/nyc_weather.csv"))
    });
    pandas(&["split", &file("nyc_weather"), &early, &late]);

    let identity = site.enroll_gateway("gw", "*");
    let server = site.serve();
    let (fields, address) = (data.join("fields.json").to_str().unwrap().to_owned(), server.address());
    let send = |file: &str, schema: &str| {
        let to = ["--schema", schema, "--fields", &fields, "--server", &address, "--identity", &identity];
        site.expect(&[&["send", file], &to[..]].concat());
    };
    FILES.into_iter().for_each(|name| send(&file(name), name));
    send(&early, "nyc_weather");
    // What is received at this very instant is known at it.
    thread::sleep(Duration::from_millis(10));
    let nine = Timestamp::now().to_string();
    thread::sleep(Duration::from_millis(10));
    send(&late, "nyc_weather");

    let document = fs::read_to_string(workspace().join("docs/analyst.md")).unwrap();
    let questions: Vec<&str> = document.split("\n## ").skip(1).collect();
    assert_eq!(questions.len(), QUESTIONS);
    fs::create_dir(site.path("answers")).unwrap();
    let mut differences = Vec::new();
    for (at, question) in questions.into_iter().enumerate() {
        let sql = block(question, "sql").replace(NINE, &nine);
        let answer = site.expect(&["sql", &sql, "--format", "csv"]);
        if !is_told(&answer, block(question, "csv")) {
            differences.push(format!("{}\n{answer}", question.lines().next().unwrap()));
        }
        fs::write(site.path(&format!("answers/{}.csv", at + 1)), answer).unwrap();
    }
    pandas(&["compare", data.to_str().unwrap(), &text("answers")]);
    assert!(differences.is_empty(), "the document says otherwise:\n{}", differences.join("\n"));
    assert!(server.stop().success());
}

/// What stands in a question's block of a language.
fn block<'a>(question: &'a str, language: &str) -> &'a str {
    let (_, rest) = question.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

/// Whether the document prints an answer: all of it, or its beginning with `…` for the rest.
fn is_told(answer: &str, printed: &str) -> bool {
    match printed.strip_suffix("…\n") {
        Some(beginning) => answer.starts_with(beginning) && answer.len() > beginning.len(),
        None => answer == printed,
    }
}
