//! Damage is found and named, never read as something else; what a crash leaves unfinished is not damage.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{Log, batch, batches, options, read, schema, source};
use icecore_log::disk::{Access, Crash, SimDisk};
use icecore_log::{CommitError, Disk, LogError, LogReader, OnDamage, Options, Record, Scan};

const DATA: &str = "/data";

fn data() -> &'static Path {
    Path::new(DATA)
}

/// A log of some segments whose writer was killed.
fn killed_log(blocks: u64) -> (SimDisk, Arc<dyn Disk>) {
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let mut log = Log::open(&disk, data()).unwrap();
    for block in 0..blocks {
        let source = source(&format!("device/{}", block % 3), 0);
        log.appender.dropped(&source, block * 100 + 50..block * 100 + 60);
        log.store(&source, &schema("a"), batch(block * 100, 50, 1500)).unwrap();
    }
    sim.crash(Crash::Process);
    (sim, disk)
}

fn segment(number: u64) -> PathBuf {
    data().join(format!("hot/{number:020}.hot"))
}

/// What a reader sees, in a form that can be compared.
fn seen(disk: &Arc<dyn Disk>) -> Result<String, LogError> {
    Ok(format!("{:?}", read(disk, data())?))
}

fn facts(disk: &Arc<dyn Disk>) -> Result<Vec<String>, LogError> {
    let mut facts = Vec::new();
    LogReader::open(Arc::clone(disk), data())?.facts(&mut |fact| facts.push(format!("{fact:?}")))?;
    facts.sort();
    Ok(facts)
}

/// The damage must be reported in this file, at or before the flipped byte and in the same block.
fn names(error: &LogError, file: &Path, byte: u64) -> bool {
    let LogError::Damaged(damage) = error else { return false };
    damage.file == file && damage.offset <= byte && byte - damage.offset < 8192
}

#[test]
fn a_flipped_bit_in_a_segment_is_found_with_its_place() {
    let (sim, disk) = killed_log(24);
    let (whole, all_facts) = (seen(&disk).unwrap(), facts(&disk).unwrap());
    for (file, len) in sim.files().into_iter().filter(|(file, _)| file.starts_with("/data/hot")) {
        for byte in (0..len).step_by(3) {
            let bit = byte * 8 + byte % 8;
            sim.flip_bit(&file, bit);
            match seen(&disk) {
                // Derived files and reserved space: what they say is checked, and not needed.
                Ok(text) => assert_eq!(text, whole, "{} byte {byte} changed what is read", file.display()),
                Err(error) => assert!(names(&error, &file, byte), "{} byte {byte}: {error}", file.display()),
            }
            match facts(&disk) {
                Ok(told) => assert_eq!(told, all_facts, "{} byte {byte} changed the facts", file.display()),
                Err(error) => assert!(names(&error, &file, byte), "{} byte {byte}: {error}", file.display()),
            }
            sim.flip_bit(&file, bit);
        }
    }
}

#[test]
fn recovery_finds_a_flipped_bit_or_does_without_it() {
    let (sim, disk) = killed_log(24);
    let all_facts = facts(&disk).unwrap();
    for (file, len) in sim.files().into_iter().filter(|(_, len)| *len > 0) {
        for byte in (0..len).step_by(23) {
            let (sim, disk) = killed_log(24);
            sim.flip_bit(&file, byte * 8 + byte % 8);
            match Log::open(&disk, data()) {
                Err(error) => assert!(names(&error, &file, byte), "{} byte {byte}: {error}", file.display()),
                Ok(log) => {
                    assert_eq!(
                        log.recovery.facts as usize,
                        all_facts.len(),
                        "{} byte {byte}",
                        file.display()
                    );
                    drop(log);
                    match facts(&disk) {
                        Ok(told) => assert_eq!(told, all_facts, "{} byte {byte}", file.display()),
                        Err(error) => {
                            assert!(names(&error, &file, byte), "{} byte {byte}: {error}", file.display());
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn recovery_may_be_cut_short_anywhere() {
    let whole = seen(&killed_log(24).1).unwrap();
    for crash in [Crash::Process, Crash::Power] {
        for changes in 0.. {
            let (sim, disk) = killed_log(24);
            sim.go_down_after(changes);
            let opened = Log::open(&disk, data()).is_ok();
            sim.crash(crash);
            assert_eq!(seen(&disk).unwrap(), whole, "to a reader, after {changes} changes");
            drop(Log::open(&disk, data()).unwrap());
            assert_eq!(seen(&disk).unwrap(), whole, "after another recovery, after {changes} changes");
            if opened {
                assert!(changes > 5, "recovery changes more than that");
                break;
            }
        }
    }
}

#[test]
fn every_byte_of_every_block_counts() {
    let (sim, disk) = killed_log(6);
    let segments =
        sim.files().iter().filter(|(file, _)| file.extension().is_some_and(|e| e == "hot")).count();
    for number in 0..segments as u64 {
        for byte in 0..used(&disk, &segment(number)) {
            sim.flip_bit(&segment(number), byte * 8 + 3);
            let error = seen(&disk).expect_err("a flipped bit goes unnoticed");
            assert!(names(&error, &segment(number), byte), "byte {byte}: {error}");
            sim.flip_bit(&segment(number), byte * 8 + 3);
        }
    }
}

/// Where the last sector with anything in it ends.
fn used(disk: &Arc<dyn Disk>, path: &Path) -> u64 {
    let file = disk.open(path, Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    (last + 1).next_multiple_of(512)
}

#[test]
fn damage_keeps_the_log_from_opening_until_it_is_accepted() {
    for (number, byte) in [(0, 700), (0, 5000), (1, 100), (1, 2000), (1, 8800)] {
        let (sim, disk) = killed_log(24);
        sim.flip_bit(&segment(number), byte * 8);
        // The directory of a finished segment vouches for it; without it the segment is read.
        for (file, _) in
            sim.files().into_iter().filter(|(file, _)| file.extension().is_some_and(|e| e == "dir"))
        {
            disk.remove(&file).unwrap();
        }
        let mut accept_damage = Vec::new();
        let mut log = loop {
            let options = Options { accept_damage: accept_damage.clone(), ..options() };
            match Log::open_with(&disk, data(), options) {
                Ok(log) => break log,
                Err(LogError::Damaged(damage)) => {
                    assert!(!accept_damage.contains(&damage.name()), "accepted already: {damage}");
                    accept_damage.push(damage.name());
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert!(!accept_damage.is_empty(), "segment {number} byte {byte} goes unnoticed");
        assert_eq!(log.recovery.accepted.len(), accept_damage.len());
        assert_eq!(
            log.recovery.position,
            24 * 50,
            "positions are never given twice: {number} {byte} {:?}",
            log.recovery
        );
        log.store(&source("device/9", 0), &schema("b"), batch(0, 1, 10)).unwrap();
        drop(log);

        let error = read(&disk, data()).expect_err("reading around damage has to be asked for");
        assert!(matches!(error, LogError::Damaged(_)), "{error}");
        let reader = LogReader::open(Arc::clone(&disk), data()).unwrap();
        let mut records = reader.scan(Scan { on_damage: OnDamage::Skip, ..Scan::default() });
        let read: Vec<Record> = records.by_ref().collect::<Result<_, _>>().unwrap();
        assert!(!records.damage().is_empty());
        assert_eq!(batches(&read).last(), Some(&(0, 24 * 50)));
        assert!(batches(&read).len() > 6, "of segment {number} byte {byte}: {:?}", batches(&read));
    }
}

#[test]
fn a_torn_tail_is_kept_aside_and_is_not_damage() {
    let (sim, disk) = killed_log(4);
    let newest = segment(0);
    let end = used(&disk, &newest);
    let file = disk.open(&newest, Access::Write).unwrap();
    file.write_at(b"half a block", end).unwrap();
    drop(file);
    let log = Log::open(&disk, data()).unwrap();
    let torn = log.recovery.torn.clone().unwrap();
    assert_eq!((torn.file.as_path(), torn.offset, torn.bytes), (newest.as_path(), end, 12));
    let mut kept = [0; 12];
    disk.open(&torn.kept_at, Access::Read).unwrap().read_at(&mut kept, 0).unwrap();
    assert_eq!(&kept, b"half a block");
    assert_eq!(log.recovery.position, 200);
    drop(log);
    sim.crash(Crash::Power);
    assert_eq!(batches(&read(&disk, data()).unwrap()).len(), 4);
}

#[test]
fn the_watermark_tells_damage_from_a_torn_tail() {
    let (sim, disk) = killed_log(4);
    let end = used(&disk, &segment(0));
    // The last block: nothing is behind it, but the watermark says that it was durable.
    sim.flip_bit(&segment(0), (end - 1024) * 8);
    let error = Log::open(&disk, data()).map(|_| ()).unwrap_err();
    assert!(names(&error, &segment(0), end - 1024), "{error}");
}

#[test]
fn a_full_disk_is_waited_out() {
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let options = Options { segment_bytes: 1 << 20, ..options() };
    let mut log = Log::open_with(&disk, data(), options).unwrap();
    let (schema, source) = (schema("a"), source("a", 0));
    sim.set_capacity(Some(sim.used_space() + 2000));
    let mut stored = 0;
    let full = loop {
        log.appender.batch(&source, &schema, batch(stored, 1, 40_000));
        let mut block = log.encoder.encode(log.appender.finish(0), 1);
        match log.committer.commit(&mut block) {
            Ok(_) => stored += 1,
            Err(error) => {
                assert!(matches!(error, CommitError::Full { .. }), "{error}");
                assert!(matches!(log.committer.commit(&mut block), Err(CommitError::Full { .. })));
                break block;
            }
        }
    };
    let mut block = full;
    assert_eq!(batches(&read(&disk, data()).unwrap()).len() as u64, stored, "nothing is lost meanwhile");
    sim.set_capacity(None);
    log.committer.commit(&mut block).unwrap();
    log.store(&source, &schema, batch(stored + 1, 1, 10)).unwrap();
    assert_eq!(batches(&read(&disk, data()).unwrap()).len() as u64, stored + 2);
}

#[test]
fn after_a_failed_sync_nothing_more_is_written() {
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let mut log = Log::open(&disk, data()).unwrap();
    let (schema, source) = (schema("a"), source("a", 0));
    sim.fail_next_sync();
    let error = log.store(&source, &schema, batch(0, 1, 10)).unwrap_err();
    assert!(matches!(error, CommitError::Fatal { .. }), "{error}");
    let error = log.store(&source, &schema, batch(1, 1, 10)).unwrap_err();
    assert!(matches!(error, CommitError::Poisoned), "{error}");
}

#[test]
fn a_second_writer_is_locked_out() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let log = Log::open(&disk, data()).unwrap();
    assert!(matches!(Log::open(&disk, data()), Err(LogError::Locked { .. })));
    drop(log);
    Log::open(&disk, data()).unwrap();
}

#[test]
fn a_reader_goes_on_where_recovery_has_moved_the_last_block() {
    let (_sim, disk) = killed_log(24);
    for already_read in [0, 3, 23] {
        let reader = LogReader::open(Arc::clone(&disk), data()).unwrap();
        let before = batches(&read(&disk, data()).unwrap());
        let mut records = reader.scan(Scan::default());
        let mut got: Vec<Record> = records.by_ref().take(2 * already_read).collect::<Result<_, _>>().unwrap();
        // Two recoveries in a row: the first moves the last block, the second removes where it was moved to.
        for _ in 0..2 {
            drop(Log::open(&disk, data()).unwrap());
        }
        got.extend(records.collect::<Result<Vec<_>, _>>().unwrap());
        assert_eq!(batches(&got), before);
    }
}

#[test]
fn restarts_leave_no_files_behind() {
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    for _ in 0..10 {
        let mut log = Log::open(&disk, data()).unwrap();
        log.commit(0).unwrap();
        log.committer.close().unwrap();
    }
    for _ in 0..10 {
        drop(Log::open(&disk, data()).unwrap());
        sim.crash(Crash::Process);
    }
    let segments =
        sim.files().iter().filter(|(file, _)| file.extension().is_some_and(|e| e == "hot")).count();
    assert!(segments <= 12, "{segments} segments");
}

#[test]
fn a_segment_that_was_restored_is_whole_again() {
    let (sim, disk) = killed_log(24);
    drop(Log::open(&disk, data()).unwrap());
    let whole = seen(&disk).unwrap();
    for (file, _) in sim.files().into_iter().filter(|(file, _)| file.extension().is_some_and(|e| e == "dir"))
    {
        disk.remove(&file).unwrap();
    }
    sim.flip_bit(&segment(0), 700 * 8);
    assert!(Log::open(&disk, data()).is_err());
    sim.flip_bit(&segment(0), 700 * 8);
    drop(Log::open(&disk, data()).unwrap());
    assert_eq!(seen(&disk).unwrap(), whole);
}

#[test]
fn a_missing_or_short_segment_is_damage() {
    let (sim, disk) = killed_log(40);
    let mut log = Log::open(&disk, data()).unwrap();
    log.commit(0).unwrap();
    drop(log);
    let segments = sim.files().into_iter().filter(|(file, _)| file.extension().is_some_and(|e| e == "hot"));
    for (file, len) in segments {
        let original = disk.open(&file, Access::Read).unwrap();
        let mut bytes = vec![0; len as usize];
        original.read_at(&mut bytes, 0).unwrap();
        disk.remove(&file).unwrap();
        assert!(matches!(seen(&disk), Err(LogError::Damaged(_))), "{}", file.display());
        assert!(matches!(Log::open(&disk, data()), Err(LogError::Damaged(_))), "{}", file.display());
        let short = disk.open(&file, Access::Write).unwrap();
        short.write_at(&bytes[..1024], 0).unwrap();
        assert!(matches!(seen(&disk), Err(LogError::Damaged(_))), "{}", file.display());
        assert!(matches!(Log::open(&disk, data()), Err(LogError::Damaged(_))), "{}", file.display());
        short.write_at(&bytes, 0).unwrap();
    }
    drop(Log::open(&disk, data()).unwrap());
}

#[test]
fn a_segment_that_goes_while_it_is_read_is_missed() {
    for number in 0..3 {
        let (_sim, disk) = killed_log(48);
        let reader = LogReader::open(Arc::clone(&disk), data()).unwrap();
        disk.remove(&segment(number)).unwrap();
        let read: Result<Vec<Record>, _> = reader.scan(Scan::default()).collect();
        assert!(matches!(read, Err(LogError::Damaged(_))), "segment {number}");
    }
}

#[test]
fn all_damage_of_the_hot_log_is_told_at_once() {
    let (sim, disk) = killed_log(24);
    let damage = || LogReader::open(Arc::clone(&disk), data()).unwrap().verify().unwrap();
    assert_eq!(damage(), []);
    let flips = [(0, 100), (0, 700), (1, 3000)];
    for (number, byte) in flips {
        sim.flip_bit(&segment(number), byte * 8);
    }
    let found = damage();
    for (number, byte) in flips {
        let named = |damage: &icecore_log::Damage| {
            damage.file == segment(number) && (damage.offset..damage.offset + 8192).contains(&byte)
        };
        assert!(found.iter().any(named), "segment {number}, byte {byte}: {found:?}");
    }
}
