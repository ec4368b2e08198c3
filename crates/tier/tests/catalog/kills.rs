//! A process that lives segments' lives is killed again and again: the catalog opens, the journal goes on, a rebuild agrees.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use icecore_tier::catalog::{Catalog, Found, NewManifest, NewSegment, Rebuild, Sealed, What, Why};
use icecore_tier::journal::{Bucket, StoreBucket};
use icecore_tier::segment::{Content, Span};
use icecore_tier::store::{Place, Store, Waiting};

use crate::support::{all_keep, id};

/// Kills in one run, or as many as `ICECORE_KILL_ROUNDS` says.
const ROUNDS: usize = 4;
const CHILD: &str = "ICECORE_CATALOG_CHILD";

fn bucket(directory: &Path) -> Arc<dyn Bucket> {
    let url = format!("file://{}", directory.join("bucket").display());
    let place = Place::open("files", &url, &BTreeMap::new()).unwrap();
    Arc::new(StoreBucket::new(Store::new("files", place, 0), Waiting::new(None).unwrap()))
}

fn open(directory: &Path) -> Catalog {
    Catalog::open(directory, [7; 16], Some(bucket(directory))).unwrap()
}

fn why() -> Why {
    Why { time: 1, by: "child".to_owned(), policy: None, reason: "by chance".to_owned() }
}

/// The manifest of this number: one segment of ten events.
fn sealing(manifest: u64) -> NewManifest {
    let received = Span { first: 0, last: 1 };
    let (device, schema) = ("oslo/1".to_owned(), "heat".to_owned());
    let contents = vec![Content { schema, device, received, rows: 10 }];
    let positions = manifest * 10..manifest * 10 + 10;
    let (id, root, events) = (id(manifest, 0), [7; 32], received);
    let sealed = Sealed { id, bytes: 100, rows: 10, root, positions: positions.clone(), received, events };
    NewManifest {
        number: manifest,
        from: Vec::new(),
        positions,
        lost: 0,
        segments: vec![NewSegment { sealed, contents }],
    }
}

/// What the killed process does: a whole life a manifest, a line a step.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let catalog = open(Path::new(&directory));
    let sealed_to = catalog.view().unwrap().sealed_to();
    for manifest in sealed_to / 10.. {
        let segment = id(manifest, 0);
        catalog.register(&sealing(manifest), 0, &all_keep, &why()).unwrap();
        catalog.record_copy(segment, "archive", None, &why()).unwrap();
        println!("step");
        catalog.mirror("child", 1).unwrap();
        catalog.drop_local(segment, &why()).unwrap();
        println!("step");
        catalog.mark(&[(segment, 1, why())]).unwrap();
        println!("step");
        catalog.delete(&[(segment, why())]).unwrap();
        println!("step");
    }
}

/// Starts the child, and kills it some steps later.
fn run_and_kill(directory: &Path, steps: usize) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kills::child", "--nocapture"])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let done = lines.map(Result::unwrap).filter(|line| line.ends_with("step")).take(steps).count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(done, steps, "the child lives until it is killed");
}

#[test]
fn a_killed_process_leaves_what_the_next_one_goes_on_from() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let rounds = std::env::var("ICECORE_KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut before = 0;
    for _ in 0..rounds {
        run_and_kill(directory, fastrand::usize(1..24));
        let history = || Catalog::read(directory).unwrap().view().unwrap().history(..).unwrap().count();
        assert!(history() > before, "a reader sees what was done");
        let catalog = open(directory);
        catalog.mirror("parent", 1).unwrap();
        assert_eq!(catalog.view().unwrap().unmirrored().unwrap(), 0);
        before = catalog.view().unwrap().history(..).unwrap().count();
    }

    let view = Catalog::read(directory).unwrap().view().unwrap();
    let live: Vec<_> = view.segments().unwrap().map(|entry| entry.unwrap().segment).collect();
    let manifests = (0..view.sealed_to() / 10).map(|manifest| (manifest, sealing(manifest))).collect();
    let local = live.iter().filter(|segment| segment.local).map(|segment| segment.id).collect();
    let rebuild = Rebuild::begin(Some(bucket(directory)), [8; 16], why()).unwrap();
    let found = Found { manifests, local, ..Found::default() };
    let (catalog, rebuilt) = rebuild.build(directory, &found, &all_keep).unwrap();
    assert!(rebuilt.faults.is_empty() && rebuilt.skipped.is_empty(), "{rebuilt:?}");
    let again = catalog.view().unwrap();
    let segments: Vec<_> = again.segments().unwrap().map(|entry| entry.unwrap().segment).collect();
    assert_eq!(segments, live);
    let deleted = |decision: &What| matches!(decision, What::Deleted { .. });
    let deletions = again.history(..).unwrap().filter(|decision| deleted(&decision.as_ref().unwrap().what));
    assert_eq!(
        deletions.count(),
        again.gone().unwrap().count(),
        "each deletion that was decided took effect once"
    );
}
