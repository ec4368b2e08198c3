//! Places in the log: what a commit tells of its end, a reader finds again.

use std::path::Path;
use std::sync::Arc;

use icecore_log::disk::SimDisk;
use icecore_log::{Disk, HotLog, LogPoint, LogReader, Options};

use crate::support::{Log, batch, options, schema, source};

const DATA: &str = "/data";

#[test]
fn the_chain_before_a_block_is_the_one_behind_the_commit_before_it_unless_that_was_copied() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let (source, schema) = (source("pump", 1), schema("a"));
    let mut ends: Vec<LogPoint> = Vec::new();
    let mut copied = Vec::new();
    // Segments roll, and each opening writes the last block again into a new one, which gives it another hash.
    for opening in 0..3 {
        let mut log = Log::open(&disk, Path::new(DATA)).unwrap();
        if let Some(end) = ends.last() {
            let now = log.committer.end();
            assert_eq!((now.block, now.position), (end.block, end.position));
            copied.push(end.block);
        }
        for sequence in 0..30 {
            log.appender.batch(&source, &schema, batch(opening * 30 + sequence, 1, 1_000));
            ends.push(log.commit(1_000).unwrap().end);
        }
    }
    let reader = LogReader::open(Arc::clone(&disk), Path::new(DATA)).unwrap();
    for end in &ends {
        let expected = (!copied.contains(&end.block)).then_some(end.chain);
        assert_eq!(reader.chain_before(end.block).unwrap(), expected, "block {}", end.block);
    }
    assert_eq!(ends.last().unwrap().position, reader.positions().end);
    assert_eq!(reader.chain_before(ends.len() as u64 + 1).unwrap(), None, "beyond the end");
}

#[test]
fn what_is_known_need_not_be_told() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let (source, schema) = (source("pump", 1), schema("a"));
    let mut log = Log::open(&disk, Path::new(DATA)).unwrap();
    for sequence in 0..60 {
        log.appender.batch(&source, &schema, batch(sequence, 1, 1_000));
        log.commit(1_000).unwrap();
    }
    drop(log);
    let mut told = Vec::new();
    let options = Options { known_to: 45, ..options() };
    let mut tell = |fact: &icecore_log::Fact<'_>| {
        if let icecore_log::Fact::Batch { first_sequence, .. } = fact {
            told.push(*first_sequence);
        }
    };
    HotLog::open(Arc::clone(&disk), Path::new(DATA), options, 1_000, &mut tell).unwrap();
    told.sort_unstable();
    assert_eq!(told.last(), Some(&59));
    assert!(told.first().is_some_and(|first| (1..=45).contains(first)), "{told:?}");
    assert!((45..60).all(|sequence| told.contains(&sequence)), "{told:?}");
}
