//! A process that moves data is killed again and again, at any moment.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::life::directories;
use crate::site::{HOUR, Site};

/// Kills in one run, or as many as `ICECORE_KILL_ROUNDS` says.
const ROUNDS: usize = 4;
const CHILD: &str = "ICECORE_WORKER_CHILD";

const POLICIES: &str = r#"
[[policy]]
name   = "vibration"
match  = { schema = "vibration" }
cold   = [{ after = "1h", store = "archive" }, { after = "20h", store = "deep" }]
local  = { drop_after = "2h" }
delete = { after = "2d", undo = "3h" }

[[policy]]
name   = "rest"
cold   = [{ after = "3h", store = "archive" }]
local  = { drop_after = "3h" }
delete = "never"
"#;

fn open(directory: &Path) -> Site {
    let site = Site::at(&directory.join("data"), directories(&directory.join("stores")), POLICIES);
    let last = site.catalog().view().unwrap().history(..).unwrap().last().unwrap().unwrap();
    site.set_now(last.time.max(site.now()) + HOUR);
    site
}

/// What the killed process does: hours go by, with all that comes of it.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let mut site = open(Path::new(&directory));
    loop {
        for schema in ["vibration", "alarm"] {
            let device = format!("{schema}-{}", site.now());
            site.write(schema, &device, 20);
            println!("wrote {device} {} {schema}", site.now());
        }
        site.seal();
        site.pass();
        println!("step");
        site.pass_time(HOUR);
        site.pass();
        println!("step");
    }
}

/// Starts the child and kills it some steps later; returns what it wrote.
fn run_and_kill(directory: &Path, steps: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kills::child", "--nocapture"])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut wrote, mut done) = (Vec::new(), 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        wrote.extend(line.split_once("wrote ").map(|(_, what)| what.to_owned()));
        done += usize::from(line.ends_with("step"));
        if done == steps {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(done, steps, "the child lives until it is killed");
    wrote
}

#[test]
fn a_killed_process_leaves_what_the_next_one_goes_on_from() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    std::fs::create_dir(directory.join("data")).unwrap();
    let rounds = std::env::var("ICECORE_KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut wrote = Vec::new();
    for _ in 0..rounds {
        wrote.extend(run_and_kill(directory, fastrand::usize(1..20)));
        let mut site = open(directory);
        for line in &wrote {
            let mut words = line.split(' ');
            let mut next = || words.next().unwrap();
            site.wrote(next(), 0, next().parse().unwrap(), next());
        }
        site.settle();
        site.check_rows();
        site.check_places();
    }
}
