//! What is committed is read back, in order, across segments and restarts, on the real disk.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use crate::support::{Log, batch, batches, options, read, schema, source};
use icecore_log::{Disk, FinishedDirectory, LogReader, RealDisk, Record, Scan};
use icecore_wire::Digest;

#[test]
fn reads_back_across_segments_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (schema, source) = (schema("a"), source("pump/1", 0));
    let mut expected = Vec::new();
    let mut sequence = 0;
    for round in 0..5 {
        let mut log = Log::open(&disk, dir.path()).unwrap();
        assert_eq!(log.recovery.term, round);
        assert_eq!(log.recovery.position, sequence);
        for _ in 0..20 {
            expected.push((sequence, log.appender.position()));
            log.store(&source, &schema, batch(sequence, 10, 3000)).unwrap();
            sequence += 10;
        }
        assert_eq!(batches(&read(&disk, dir.path()).unwrap()), expected, "beside the writer");
        log.commit(0).unwrap();
        log.committer.close().unwrap();
        assert_eq!(batches(&read(&disk, dir.path()).unwrap()), expected, "without a writer");
    }
}

#[test]
fn finds_batches_wherever_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let schema = schema("a");
    let sources: Vec<_> = (0..4).map(|i| source(&format!("device-{i}"), i)).collect();
    let mut log = Log::open(&disk, dir.path()).unwrap();
    for sequence in 0..100 {
        for source in &sources {
            // Out of order in pairs.
            log.appender.batch(source, &schema, batch((sequence ^ 1) * 5, 5, 500));
        }
        if sequence % 4 == 3 {
            log.commit(0).unwrap();
        }
        if sequence == 50 {
            drop(log);
            log = Log::open(&disk, dir.path()).unwrap();
            // What was not committed is gone.
            for source in &sources {
                for lost in 48..=50 {
                    log.appender.batch(source, &schema, batch((lost ^ 1) * 5, 5, 500));
                }
            }
        }
    }
    for source in &sources {
        for sequence in 0..100 {
            let found = log.appender.find_batch(&source.device, &source.epoch, sequence * 5).unwrap();
            let expected = batch(sequence * 5, 5, 500).digest;
            assert_eq!(found.map(|entry| entry.digest), Some(expected), "{source:?} {sequence}");
        }
        assert_eq!(log.appender.find_batch(&source.device, &source.epoch, 3).unwrap(), None);
    }
    let stranger = source("stranger", 0);
    assert_eq!(log.appender.find_batch(&stranger.device, &stranger.epoch, 0).unwrap(), None);
}

#[test]
fn directories_written_by_another_thread_are_never_missed() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (schema, source) = (schema("a"), source("pump", 0));
    let mut log = Log::open(&disk, dir.path()).unwrap();
    let (hand_over, directories) = sync_channel(100);
    log.committer.hand_over_directories(hand_over);
    for sequence in 0..40 {
        log.store(&source, &schema, batch(sequence, 1, 2000)).unwrap();
    }
    let find_all = |log: &mut Log| {
        (0..40).all(|first| log.appender.find_batch(&source.device, &source.epoch, first).unwrap().is_some())
    };
    let written = || {
        let files = std::fs::read_dir(dir.path().join("hot")).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|e| e == "dir")).count()
    };
    assert!(find_all(&mut log), "in memory");
    assert_eq!(written(), 0);
    let mut waiting: Vec<_> = directories.try_iter().collect();
    assert!(waiting.len() >= 3, "{}", waiting.len());
    let kept_back = waiting.split_off(waiting.len() / 2);
    let half = waiting.len();
    waiting.into_iter().for_each(FinishedDirectory::write);
    assert_eq!(written(), half);
    assert!(find_all(&mut log), "half of them in files");
    drop(log);
    assert!(Log::open(&disk, dir.path()).is_err(), "who still writes directories holds the lock");
    drop(kept_back);
    // As after a crash: what was not written is built again.
    let mut log = Log::open(&disk, dir.path()).unwrap();
    assert!(find_all(&mut log), "after a restart");
}

#[test]
fn reads_by_position_and_device() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (schema, a, b) = (schema("a"), source("a", 0), source("b", 0));
    let mut log = Log::open(&disk, dir.path()).unwrap();
    for sequence in 0..60 {
        let source = if sequence % 2 == 0 { &a } else { &b };
        log.store(source, &schema, batch(sequence, 1, 2000)).unwrap();
    }
    let reader = LogReader::open(Arc::clone(&disk), dir.path()).unwrap();
    assert_eq!(reader.positions(), 0..60);
    let scan = Scan { positions: Some(17..33), ..Scan::default() };
    let records: Vec<Record> = reader.scan(scan).collect::<Result<_, _>>().unwrap();
    assert_eq!(batches(&records), (17..33).map(|i| (i, i)).collect::<Vec<_>>());
    let only_b = Box::new(|device: &icecore_wire::DeviceName| device.as_str() == "b");
    let scan = Scan { positions: Some(30..36), devices: Some(only_b), ..Scan::default() };
    let records: Vec<Record> = reader.scan(scan).collect::<Result<_, _>>().unwrap();
    assert_eq!(batches(&records), [(31, 31), (33, 33), (35, 35)]);
}

#[test]
fn control_records_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let source = source("a", 3);
    let mut log = Log::open_with(&disk, dir.path(), options()).unwrap();
    log.appender.refused(&source, 5..9, 7, Digest::of(b"x"), "no such schema");
    log.appender.dropped(&source, 9..20);
    log.commit(77_000).unwrap();
    let records = read(&disk, dir.path()).unwrap();
    let [Record::Refused(refused), Record::Dropped(dropped)] = &records[..] else { panic!("{records:?}") };
    assert_eq!((refused.range.clone(), refused.code, refused.message.as_str()), (5..9, 7, "no such schema"));
    assert_eq!((refused.digest, refused.received), (Digest::of(b"x"), 77_000));
    assert_eq!((dropped.range.clone(), &dropped.source), (9..20, &source));
}

#[test]
fn a_reader_keeps_up_with_a_running_writer() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut log = Log::open(&disk, dir.path()).unwrap();
    let (schema, source) = (schema("a"), source("a", 0));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for sequence in 0..200 {
                log.store(&source, &schema, batch(sequence, 1, 2000)).unwrap();
            }
        });
        let mut seen = 0;
        while !writer.is_finished() {
            let read = batches(&read(&disk, dir.path()).unwrap());
            assert!(read.len() >= seen, "what was published stays");
            seen = read.len();
            assert_eq!(read, (0..seen as u64).map(|i| (i, i)).collect::<Vec<_>>());
        }
    });
    assert_eq!(read(&disk, dir.path()).unwrap().len(), 200);
}
