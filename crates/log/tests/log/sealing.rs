//! Sealed and hot segments are one log: to readers, to lookups and to recovery.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow::{Break, Continue};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_log::disk::{Access, SimDisk};
use icecore_log::sealed::{ReadAt, SealedSegment};
use icecore_log::{
    Disk, DiskFile, Fact, HotLog, LogError, LogReader, Manifest, OnAbsent, OnDamage, Options, Record, Scan,
    SealPlan, Sealing, SegmentId, Source, forget_tail, keep_tail,
};
use icecore_wire::Schema;

use crate::support::{Log, by_letters, content, fill, four_sources, noted, options, real_batch, seal};

const DATA: &str = "/data";

fn log() -> (SimDisk, Arc<dyn Disk>, Log, Vec<Arc<Source>>) {
    let sim = SimDisk::new(3);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let mut log = Log::open(&disk, Path::new(DATA)).unwrap();
    let sources = four_sources();
    fill(&mut log, &sources, 0..60);
    (sim, disk, log, sources)
}

fn contents(disk: &Arc<dyn Disk>) -> Vec<String> {
    crate::support::contents(disk, Path::new(DATA)).unwrap()
}

/// Per device what is stored, refused and dropped, as facts tell it.
fn settled(disk: &Arc<dyn Disk>) -> BTreeMap<String, Vec<(u64, u64)>> {
    let mut settled: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    let reader = LogReader::open(Arc::clone(disk), Path::new(DATA)).unwrap();
    reader.facts(&mut |fact| settle(&mut settled, fact)).unwrap();
    settled
}

fn settle(settled: &mut BTreeMap<String, Vec<(u64, u64)>>, fact: &Fact<'_>) {
    let (kind, source, range) = match fact {
        Fact::Batch { source, first_sequence, count, .. } => {
            ("stored", source, *first_sequence..first_sequence + u64::from(*count))
        }
        Fact::Sealed { source, sequences, received } => {
            assert!(received.start() <= received.end());
            ("stored", source, sequences.clone())
        }
        Fact::Refused { source, range, .. } => ("refused", source, range.clone()),
        Fact::Dropped { source, range, .. } => ("dropped", source, range.clone()),
        Fact::Schema { .. } => return,
    };
    let ranges = settled.entry(format!("{} {} {kind}", source.device, source.number)).or_default();
    ranges.push((range.start, range.end));
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let touches = last.1 == next.0;
        last.1 = if touches { next.1 } else { last.1 };
        touches
    });
}

fn names(disk: &Arc<dyn Disk>, dir: &str) -> Vec<String> {
    disk.list(&Path::new(DATA).join(dir)).unwrap()
}

fn done(sealing: Sealing) -> Arc<Manifest> {
    match sealing {
        Sealing::Done(manifest) => manifest,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sealed_and_hot_read_as_one_log() {
    let (_, disk, mut log, sources) = log();
    let (before, told) = (contents(&disk), settled(&disk));
    let hot = names(&disk, "hot").len();
    assert!(hot > 8, "{hot}");
    let first = done(seal(&log, 40 << 10).unwrap());
    assert!(first.sources.len() > 1 && !first.children.is_empty());
    assert_eq!(contents(&disk), before, "one seal, beside the writer");
    let second = done(seal(&log, u64::MAX).unwrap());
    assert_eq!(second.previous, first.hash());
    assert_eq!(seal(&log, u64::MAX).unwrap(), Sealing::Nothing);
    assert_eq!(contents(&disk), before, "two seals");
    assert_eq!(settled(&disk), told);
    assert_eq!(names(&disk, "hot").len(), 2, "the newest segment and the watermark");
    assert_eq!(names(&disk, "manifests"), ["000000000000.manifest", "000000000001.manifest"]);

    fill(&mut log, &sources, 60..80);
    let (before, told) = (contents(&disk), settled(&disk));
    drop(log);
    let mut facts = BTreeMap::new();
    let opened =
        HotLog::open(Arc::clone(&disk), Path::new(DATA), options(), 9, &mut |fact| settle(&mut facts, fact));
    let (_, _, recovery) = opened.unwrap();
    assert_eq!(recovery.position, 80 * 40);
    assert_eq!(facts, told, "as recovery tells it");
    assert_eq!(contents(&disk), before, "after a restart");
}

#[test]
fn positions_and_devices_select_from_what_is_sealed() {
    let (_, disk, log, _) = log();
    let select = |positions: std::ops::Range<u64>, device: &'static str| {
        let reader = LogReader::open(Arc::clone(&disk), Path::new(DATA)).unwrap();
        assert_eq!(reader.positions(), 0..2400);
        let scan = Scan {
            positions: Some(positions),
            devices: Some(Box::new(move |name| name.as_str().starts_with(device))),
            ..Scan::default()
        };
        let records = reader.scan(scan).map(Result::unwrap);
        records
            .filter(|record| matches!(record, Record::Batch(_)))
            .map(|record| content(&record))
            .collect::<Vec<_>>()
    };
    let queries = [
        (0..2400, ""),
        (0..2400, "pump"),
        (333..334, ""),
        (95..1777, "e"),
        (2390..9999, ""),
        (7..7, ""),
        (0..9, "x"),
    ];
    let before: Vec<_> =
        queries.iter().map(|(positions, device)| select(positions.clone(), device)).collect();
    assert!(before[..5].iter().all(|found| !found.is_empty()));
    seal(&log, 30 << 10).unwrap();
    seal(&log, 50 << 10).unwrap();
    for ((positions, device), before) in queries.iter().zip(before) {
        assert_eq!(select(positions.clone(), device), before, "{positions:?} {device}");
    }
}

#[test]
fn batches_are_found_where_they_went() {
    let (_, disk, mut log, sources) = log();
    let find_all = |log: &mut Log| {
        for source in &sources {
            for round in 0..60 {
                let schema = noted(["a", "b"][(round as usize + source.number as usize) % 2]);
                let expected = real_batch(&schema, round * 10, 10, 40);
                let found =
                    log.appender.find_batch(&source.device, &source.epoch, round * 10).unwrap().unwrap();
                assert_eq!((found.digest, found.count), (expected.digest, 10), "{source:?} {round}");
                assert_eq!(found.position, round * 40 + u64::from(source.number) * 10);
            }
            assert_eq!(log.appender.find_batch(&source.device, &source.epoch, 5).unwrap(), None);
        }
    };
    find_all(&mut log);
    seal(&log, 40 << 10).unwrap();
    find_all(&mut log);
    seal(&log, u64::MAX).unwrap();
    find_all(&mut log);
    drop(log);
    find_all(&mut Log::open(&disk, Path::new(DATA)).unwrap());
}

#[test]
fn a_seal_that_is_broken_off_changes_nothing() {
    let (sim, disk, log, _) = log();
    let before = sim.files();
    let sealer = log.committer.sealer();
    for pieces in 0.. {
        let mut left = pieces;
        let mut pace = |_| {
            left -= 1;
            if left < 0 { Break(()) } else { Continue(()) }
        };
        let plan = SealPlan { hot_bytes: 50 << 10, classify: &by_letters, pace: &mut pace, now: 5 };
        match sealer.seal(plan).unwrap() {
            Sealing::BrokenOff => assert_eq!(sim.files(), before),
            sealing => {
                assert!(pieces > 10, "{pieces}");
                done(sealing);
                break;
            }
        }
    }
    assert_eq!(names(&disk, "manifests").len(), 1);
}

#[test]
fn a_reader_goes_on_in_what_was_sealed_meanwhile() {
    let (_, disk, log, _) = log();
    let expected = contents(&disk);
    for before_first in [0, 1, 33, 100, 400] {
        let reader = LogReader::open(Arc::clone(&disk), Path::new(DATA)).unwrap();
        let mut records = reader.scan(Scan::default());
        let mut found: Vec<_> =
            records.by_ref().take(before_first).map(|record| content(&record.unwrap())).collect();
        seal(&log, 20 << 10).unwrap();
        found.extend(records.map(|record| content(&record.unwrap())));
        assert_eq!(found, expected, "sealed after {before_first} records");
    }
}

#[test]
fn what_is_not_here_is_said_and_can_be_read_elsewhere() {
    let (_, disk, mut log, sources) = log();
    let expected = contents(&disk);
    done(seal(&log, 40 << 10).unwrap());
    let reader = LogReader::open(Arc::clone(&disk), Path::new(DATA)).unwrap();
    let (id, child) = reader.sealed().map(|(id, child)| (id, child.clone())).next().unwrap();
    let path = Path::new(DATA).join(format!("sealed/{id}.ice"));
    let file = disk.open(&path, Access::Read).unwrap();
    disk.remove(&path).unwrap();

    let error = reader.scan(Scan::default()).find_map(Result::err).unwrap();
    assert!(matches!(&error, LogError::Absent { id: absent, .. } if *absent == id), "{error}");
    assert!(error.to_string().contains("000000000000-000"), "{error}");
    let mut records = reader.scan(Scan { on_absent: OnAbsent::Skip, ..Scan::default() });
    let here: Vec<_> = records.by_ref().map(|record| content(&record.unwrap())).collect();
    let absent: Vec<_> = records.take_absent().into_iter().map(|absent| (absent.id, absent.child)).collect();
    assert_eq!(absent, [(id, child.clone())]);
    drop(records);
    assert!(here.len() < expected.len() && here.iter().all(|record| expected.contains(record)));

    let source = sources.iter().find(|source| *by_letters(&noted("a"), &source.device, 0) == *child.class);
    let source = source.unwrap();
    let error = log.appender.find_batch(&source.device, &source.epoch, 0).unwrap_err();
    assert!(matches!(error, LogError::Absent { .. }), "{error}");

    // Put back, and dropped by the book, it is still known what it holds.
    let mut bytes = vec![0; child.bytes as usize];
    DiskFile::read_at(&*file, &mut bytes, 0).unwrap();
    disk.open(&path, Access::Write).unwrap().write_at(&bytes, 0).unwrap();
    let freed = log.committer.sealer().drop_pages(id).unwrap();
    assert!(freed > 0, "what has rows is not kept");
    assert_eq!(log.committer.sealer().drop_pages(id).unwrap(), 0, "a second time");
    assert!(!names(&disk, "sealed").contains(&format!("{id}.ice")));
    for reopen in [false, true] {
        let found = log.appender.find_batch(&source.device, &source.epoch, 0).unwrap().unwrap();
        assert_eq!(found.position, u64::from(source.number) * 10);
        assert_eq!(log.appender.find_batch(&source.device, &source.epoch, 5).unwrap(), None);
        if !reopen {
            drop(log);
            log = Log::open(&disk, Path::new(DATA)).unwrap();
        }
    }

    let elsewhere = move |asked: SegmentId| -> io::Result<Option<Arc<dyn ReadAt>>> {
        assert_eq!(asked, id);
        Ok(Some(Arc::new(Arc::clone(&file))))
    };
    let elsewhere = Arc::new(elsewhere);
    let reader = reader.with_elsewhere(Arc::clone(&elsewhere) as _);
    let found: Vec<_> = reader.scan(Scan::default()).map(|record| content(&record.unwrap())).collect();
    assert_eq!(found, expected);

    let by_schema = |schema: &Schema, _: &_, _| Arc::from(schema.name());
    let plan = SealPlan { hot_bytes: 0, classify: &by_schema, pace: &mut |_| Continue(()), now: 6 };
    let sealer = log.committer.sealer().with_elsewhere(elsewhere);
    let manifest = done(sealer.split(id, plan).unwrap());
    assert_eq!(sealer.manifests(1), [manifest]);
    assert_eq!(sealer.manifests(2), []);
    assert_eq!(contents(&disk), expected, "split, it is here again");
}

#[test]
fn only_segments_that_may_hold_a_batch_are_asked_for_it() {
    for reopen in [false, true] {
        let (_, disk, mut log, sources) = log();
        let first = done(seal(&log, 20 << 10).unwrap());
        done(seal(&log, u64::MAX).unwrap());
        if reopen {
            drop(log);
            log = Log::open(&disk, Path::new(DATA)).unwrap();
        }
        let lost = |id: SegmentId| Path::new(DATA).join(format!("sealed/{id}.ice"));
        let file = |id| disk.open(&lost(id), Access::Read).unwrap();
        let files: Vec<_> = first.segments().map(|(id, _)| (id, file(id))).collect();
        files.iter().for_each(|(id, _)| disk.remove(&lost(*id)).unwrap());

        for source in &sources {
            let mut find = |first| log.appender.find_batch(&source.device, &source.epoch, first);
            assert!(find(550).unwrap().is_some(), "what is in other segments");
            assert_eq!(find(555).unwrap(), None);
            assert_eq!(find(600).unwrap(), None, "what was never stored");
            let absent = find(0).unwrap_err();
            assert!(matches!(absent, LogError::Absent { .. }), "{absent}");
        }
        for (id, file) in files {
            let segment = SealedSegment::open(Arc::new(file), lost(id)).unwrap();
            keep_tail(&*disk, Path::new(DATA), id, &segment).unwrap();
        }
        for source in &sources {
            let mut find = |first| log.appender.find_batch(&source.device, &source.epoch, first);
            assert_eq!(find(0).unwrap().unwrap().position, u64::from(source.number) * 10, "by its tail");
            assert_eq!(find(5).unwrap(), None);
        }
    }
}

#[test]
fn what_was_deleted_and_forgotten_is_said_to_be() {
    let (_, disk, mut log, sources) = log();
    let manifest = done(seal(&log, 20 << 10).unwrap());
    for (id, _) in manifest.segments() {
        disk.remove(&Path::new(DATA).join(format!("sealed/{id}.ice"))).unwrap();
        forget_tail(&*disk, Path::new(DATA), id).unwrap();
    }
    let (device, epoch) = (&sources[0].device, &sources[0].epoch);
    let error = log.appender.find_batch(device, epoch, 0).unwrap_err();
    assert!(matches!(error, LogError::Forgotten { .. }), "{error}");
    assert!(log.appender.find_batch(device, epoch, 590).unwrap().is_some());
}

#[test]
fn a_sealed_segment_is_split() {
    let (sim, disk, mut log, sources) = log();
    let expected = contents(&disk);
    done(seal(&log, 60 << 10).unwrap());
    let started = LogReader::open(Arc::clone(&disk), Path::new(DATA)).unwrap();
    let (id, _) = started.sealed().next().unwrap();
    let by_schema = |schema: &Schema, _: &_, _| Arc::from(schema.name());
    let plan = SealPlan { hot_bytes: 0, classify: &by_schema, pace: &mut |_| Continue(()), now: 6 };
    let manifest = done(log.committer.sealer().split(id, plan).unwrap());
    assert_eq!(manifest.children.iter().map(|child| &child.class[..]).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(contents(&disk), expected);
    let found: Vec<_> = started.scan(Scan::default()).map(|record| content(&record.unwrap())).collect();
    assert_eq!(found, expected, "by a reader from before");
    assert!(!names(&disk, "sealed").contains(&format!("{id}.ice")));
    for source in &sources {
        assert!(log.appender.find_batch(&source.device, &source.epoch, 0).unwrap().is_some());
    }
    done(seal(&log, u64::MAX).unwrap());
    assert_eq!(contents(&disk), expected, "sealed on after a split");
    drop(log);
    let files = sim.files();
    Log::open(&disk, Path::new(DATA)).unwrap();
    let sealed = |files: Vec<(PathBuf, u64)>| {
        files.into_iter().filter(|(path, _)| path.starts_with("/data/sealed")).collect::<Vec<_>>()
    };
    assert_eq!(sealed(sim.files()), sealed(files));
    assert_eq!(contents(&disk), expected);
}

#[test]
fn every_bit_of_a_manifest_counts() {
    let (sim, disk, log, _) = log();
    done(seal(&log, 40 << 10).unwrap());
    drop(log);
    let path = Path::new("/data/manifests/000000000000.manifest");
    let bits = disk.open(path, Access::Read).unwrap().len().unwrap() * 8;
    for bit in (0..bits).step_by(3) {
        let copy = sim.copy();
        copy.flip_bit(path, bit);
        let disk: Arc<dyn Disk> = Arc::new(copy);
        let error = match Log::open(&disk, Path::new(DATA)) {
            Ok(_) => panic!("bit {bit} goes unnoticed"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains("000000000000.manifest"), "{error}");
        let reader = LogReader::open(disk, Path::new(DATA)).unwrap();
        let said = reader.scan(Scan::default()).find_map(Result::err);
        assert!(said.is_some(), "the reader does not notice bit {bit}");
    }
}

#[test]
fn a_lost_manifest_is_damage_and_costs_no_children() {
    let (_, disk, log, _) = log();
    let expected = contents(&disk);
    done(seal(&log, 40 << 10).unwrap());
    done(seal(&log, 40 << 10).unwrap());
    drop(log);
    let path = Path::new("/data/manifests/000000000001.manifest");
    let file = disk.open(path, Access::Read).unwrap();
    disk.remove(path).unwrap();
    let error = match Log::open(&disk, Path::new(DATA)) {
        Ok(_) => panic!("nothing is said"),
        Err(LogError::Damaged(damage)) => damage,
        Err(error) => panic!("{error}"),
    };
    assert!(error.positions.is_some() && error.what.contains("missing"), "{error}");
    let children = names(&disk, "sealed");
    let accepting = Options { accept_damage: vec![error.name()], ..options() };
    let log = Log::open_with(&disk, Path::new(DATA), accepting).unwrap();
    assert_eq!(names(&disk, "sealed"), children);
    let reader = LogReader::open(Arc::clone(&disk), Path::new(DATA)).unwrap();
    let mut records = reader.scan(Scan { on_damage: OnDamage::Skip, ..Scan::default() });
    assert!(records.by_ref().count() > 0);
    assert_eq!(records.damage().len(), 1);
    drop(log);
    // Whoever finds the manifest again has everything again.
    let mut bytes = vec![0; file.len().unwrap() as usize];
    DiskFile::read_at(&*file, &mut bytes, 0).unwrap();
    disk.open(path, Access::Write).unwrap().write_at(&bytes, 0).unwrap();
    assert_eq!(contents(&disk), expected);
    Log::open(&disk, Path::new(DATA)).unwrap();
}

#[test]
fn damage_is_sealed_only_if_it_was_accepted_and_stays_on_record() {
    let (sim, disk, log, _) = log();
    let all = contents(&disk);
    drop(log);
    let segment = Path::new("/data/hot/00000000000000000001.hot");
    sim.flip_bit(segment, 8 * 2000);
    let reader = LogReader::open(Arc::clone(&disk), Path::new(DATA)).unwrap();
    let skipping = || Scan { on_damage: OnDamage::Skip, ..Scan::default() };
    let around: Vec<_> = reader.scan(skipping()).map(|record| content(&record.unwrap())).collect();
    assert!(around.len() < all.len());

    let name = match reader.scan(Scan::default()).find_map(Result::err) {
        Some(LogError::Damaged(damage)) => damage.name(),
        other => panic!("{other:?}"),
    };
    let log =
        Log::open_with(&disk, Path::new(DATA), Options { accept_damage: vec![name.clone()], ..options() });
    let log = log.unwrap();
    let manifest = done(seal(&log, u64::MAX).unwrap());
    assert_eq!(manifest.lost.len(), 1);
    assert!(manifest.lost[0].what.contains(&name), "{:?}", manifest.lost);
    drop(log);
    assert!(Log::open(&disk, Path::new(DATA)).is_ok(), "it needs no acceptance any more");
    let reader = LogReader::open(Arc::clone(&disk), Path::new(DATA)).unwrap();
    let mut records = reader.scan(skipping());
    assert_eq!(records.by_ref().map(|record| content(&record.unwrap())).collect::<Vec<_>>(), around);
    assert_eq!(records.damage().len(), 1);
    assert_eq!(records.damage()[0].positions, Some(manifest.lost[0].positions.clone()));
    let error = reader.scan(Scan::default()).find_map(Result::err).unwrap();
    assert!(error.to_string().contains(&name), "{error}");
}

#[test]
fn damage_that_was_not_accepted_is_not_sealed() {
    let (sim, disk, log, _) = log();
    sim.flip_bit(Path::new("/data/hot/00000000000000000001.hot"), 8 * 2000);
    let before = sim.files();
    let error = seal(&log, u64::MAX).unwrap_err();
    assert!(error.to_string().contains("00000000000000000001.hot@"), "{error}");
    assert_eq!(sim.files(), before);
    assert_eq!(names(&disk, "manifests").len(), 0);
}

#[test]
fn a_log_goes_on_where_only_sealed_segments_are_left() {
    let (_, disk, log, sources) = log();
    done(seal(&log, u64::MAX).unwrap());
    drop(log);
    for name in names(&disk, "hot") {
        disk.remove(&Path::new(DATA).join("hot").join(name)).unwrap();
    }
    let expected = contents(&disk);
    let mut log = Log::open(&disk, Path::new(DATA)).unwrap();
    let next = log.recovery.position;
    assert_eq!(log.recovery.term, 1);
    fill(&mut log, &sources, 60..90);
    let all = contents(&disk);
    assert_eq!(all[..expected.len()], expected);
    assert_eq!(log.appender.position(), next + 30 * 40);
    done(seal(&log, u64::MAX).unwrap());
    assert_eq!(contents(&disk), all);
}
