//! The demo succeeds, and fails when the log lost or repeats what was acked.
#![expect(clippy::unwrap_used, reason = "the test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use icecore_log::{Encoder, HotLog, LogReader, NewBatch, Options, RealDisk, Record, Scan, StoredBatch};
use tempfile::TempDir;

/// Runs the demo with a pause before its proof, in which `tamper` may do what it likes to the data directory.
/// Returns the exit code and what was printed from the pause on.
fn demo(tamper: impl FnOnce(&Path)) -> (Option<i32>, String) {
    let directory = TempDir::new().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_icecore"))
        .args(["demo", "--seconds", "4", "--pause", "--dir"])
        .arg(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(demo.stdout.take().unwrap());
    let mut before = String::new();
    while !before.contains("paused before the proof") {
        assert_ne!(output.read_line(&mut before).unwrap(), 0, "the demo ended early:\n{before}");
    }
    assert!(before.contains("SIGKILL to process"), "{before}");
    tamper(&directory.path().join("data"));
    demo.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut after = String::new();
    output.read_to_string(&mut after).unwrap();
    (demo.wait().unwrap().code(), after)
}

#[test]
fn the_proof_holds_unless_the_log_lost_or_repeats_a_batch() {
    let (code, output) = demo(|_| {});
    assert!(output.contains("every acked batch is in the log exactly once"), "{output}");
    assert_eq!(code, Some(0), "{output}");

    let (code, output) = demo(|data| rewrite(data, |number| usize::from(number != 1)));
    assert!(output.contains("lost: "), "{output}");
    assert_eq!(code, Some(1), "{output}");

    let (code, output) = demo(|data| rewrite(data, |number| 1 + usize::from(number == 1)));
    assert!(output.contains("repeated: "), "{output}");
    assert_eq!(code, Some(1), "{output}");
}

/// Rewrites the log of `data` with batch `number` as often as `times` says, everything else as it was: a log without
/// any damage that could be found by looking at it alone.
fn rewrite(data: &Path, times: impl Fn(usize) -> usize) {
    let rewritten = data.with_extension("rewritten");
    let disk = Arc::new(RealDisk);
    let old = LogReader::open(disk.clone(), data).unwrap();
    let (mut appender, mut committer, _) =
        HotLog::open(disk, &rewritten, Options::default(), 0, &mut |_| {}).unwrap();
    let mut encoder = Encoder::new();
    let mut number = 0;
    for record in old.scan(Scan::default()) {
        let Record::Batch(batch) = record.unwrap() else { continue };
        for _ in 0..times(number) {
            appender.batch(&batch.source, &batch.schema, again(&batch));
        }
        number += 1;
        if appender.is_full() {
            committer.commit(&mut encoder.encode(appender.finish(batch.received), 1)).unwrap();
        }
    }
    committer.commit(&mut encoder.encode(appender.finish(0), 1)).unwrap();
    committer.close().unwrap();
    drop(old);
    fs::remove_dir_all(data).unwrap();
    fs::rename(rewritten, data).unwrap();
}

fn again(batch: &StoredBatch) -> NewBatch {
    NewBatch {
        payload: batch.payload.clone(),
        first_sequence: batch.first_sequence,
        count: batch.count,
        digest: batch.digest,
        compressed: batch.compressed,
    }
}
