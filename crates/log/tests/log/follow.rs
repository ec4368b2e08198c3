//! A reader that has come to the end goes on as the writer does, and is told when it has to look again.

use std::path::Path;
use std::sync::Arc;

use crate::support::{Log, content, contents, fill, four_sources, seal};
use icecore_log::disk::SimDisk;
use icecore_log::{Disk, Followed, Follower, LogReader, Scan};

const DATA: &str = "/data";

fn log() -> (Arc<dyn Disk>, Log) {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(3));
    let log = Log::open(&disk, Path::new(DATA)).unwrap();
    (disk, log)
}

/// Reads everything, and then follows.
fn follow(disk: &Arc<dyn Disk>) -> (Vec<String>, Follower) {
    let reader = LogReader::open(Arc::clone(disk), Path::new(DATA)).unwrap();
    let mut records = reader.scan(Scan::default());
    let read = records.by_ref().map(|record| content(&record.unwrap())).collect();
    (read, records.follow())
}

/// What has come since; `false` if the follower has to look again.
fn take(follower: &mut Follower, read: &mut Vec<String>) -> bool {
    loop {
        match follower.next().unwrap() {
            Followed::Record(record) => read.push(content(&record)),
            Followed::Idle => return true,
            Followed::Behind => return false,
        }
    }
}

#[test]
fn what_is_added_comes_once_and_in_order() {
    let (disk, mut log) = log();
    let sources = four_sources();
    let (mut from_nothing, mut early) = follow(&disk);
    assert!(from_nothing.is_empty());
    fill(&mut log, &sources, 0..7);
    let (mut from_within, mut late) = follow(&disk);
    for rounds in [7..8, 8..30, 30..31, 31..60] {
        fill(&mut log, &sources, rounds);
        assert!(take(&mut late, &mut from_within));
        assert_eq!(from_within, contents(&disk, Path::new(DATA)).unwrap());
        assert_eq!(late.position(), log.appender.position());
    }
    assert!(disk.list(&Path::new(DATA).join("hot")).unwrap().len() > 8, "over several segments");
    assert!(take(&mut early, &mut from_nothing));
    assert_eq!(from_nothing, from_within);
}

#[test]
fn nothing_is_taken_that_is_not_published() {
    let (disk, mut log) = log();
    let sources = four_sources();
    fill(&mut log, &sources, 0..3);
    let (mut read, mut follower) = follow(&disk);
    let before = read.clone();
    log.appender.dropped(&sources[0], 900..901);
    let encoded = log.encoder.encode(log.appender.finish(1_000), 1);
    assert!(take(&mut follower, &mut read));
    assert_eq!(read, before, "not committed");
    let mut encoded = encoded;
    log.committer.commit(&mut encoded).unwrap();
    assert!(take(&mut follower, &mut read));
    assert_eq!(read.len(), before.len() + 1);
}

#[test]
fn one_that_was_overtaken_by_a_seal_is_told() {
    let (disk, mut log) = log();
    let sources = four_sources();
    fill(&mut log, &sources, 0..2);
    let (mut read, mut follower) = follow(&disk);
    fill(&mut log, &sources, 2..60);
    while !matches!(seal(&log, u64::MAX).unwrap(), icecore_log::Sealing::Nothing) {}
    assert!(!take(&mut follower, &mut read));
    let behind = follower.position();
    let reader = LogReader::open(Arc::clone(&disk), Path::new(DATA)).unwrap();
    let mut again = reader.scan(Scan { positions: Some(behind..u64::MAX), ..Scan::default() });
    read.extend(again.by_ref().map(|record| content(&record.unwrap())));
    read.dedup();
    assert_eq!(read, contents(&disk, Path::new(DATA)).unwrap());
    let mut follower = again.follow();
    fill(&mut log, &sources, 60..70);
    assert!(take(&mut follower, &mut read));
    assert_eq!(read, contents(&disk, Path::new(DATA)).unwrap());
}

#[test]
fn another_writer_is_another_view() {
    let (disk, mut log) = log();
    let sources = four_sources();
    fill(&mut log, &sources, 0..5);
    let (mut read, mut follower) = follow(&disk);
    assert!(take(&mut follower, &mut read));
    drop(log);
    let mut log = Log::open(&disk, Path::new(DATA)).unwrap();
    fill(&mut log, &sources, 5..6);
    assert!(!take(&mut follower, &mut read));
}

#[test]
fn positions_are_known_by_their_term() {
    let (disk, mut log) = log();
    let sources = four_sources();
    let holds = |term, position| {
        LogReader::open(Arc::clone(&disk), Path::new(DATA)).unwrap().holds(term, position).unwrap()
    };
    assert!(!holds(0, 0), "it never came");
    fill(&mut log, &sources, 0..5);
    let end = log.appender.position();
    drop(log);
    let mut log = Log::open(&disk, Path::new(DATA)).unwrap();
    fill(&mut log, &sources, 5..60);
    assert!(holds(0, 0) && holds(0, end - 1) && holds(1, end - 1) && holds(1, end));
    assert!(!holds(0, end), "the term ended before it");
    assert!(!holds(1, log.appender.position()) && !holds(2, 0), "not yet");
    while !matches!(seal(&log, u64::MAX).unwrap(), icecore_log::Sealing::Nothing) {}
    assert!(holds(0, 0) && holds(0, end - 1) && holds(1, end));
    let (_, end) = (fill(&mut log, &sources, 60..61), log.appender.position());
    assert!(!holds(0, end - 1) && holds(1, end - 1));
}
