//! Files of format version 1, frozen: every later version must read them.

use std::fmt::Write;
use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use icecore_log::disk::{Access, SimDisk};
use icecore_log::{
    Child, Disk, Fact, LogReader, Lost, Manifest, NewBatch, Options, RealDisk, Record, RefusedBatch, Scan,
    SealPlan, SealSource, Source, StoredBatch,
};
use icecore_wire::{Digest, Payload, Schema};

use crate::support::{Log, batch, fill, four_sources, options, schema, seal, source};

const FILES: [&str; 5] = [
    "log.id",
    "hot/00000000000000000000.hot",
    "hot/00000000000000000000.dir",
    "hot/00000000000000000001.hot",
    "hot/watermark",
];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// Every kind of record, both codecs, a verbatim payload, an empty block, two segments. The simulated disk's seed
/// fixes ids and nonces.
fn write_log() -> SimDisk {
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let options = Options { segment_bytes: 4096, segment_age: Duration::MAX, ..Options::default() };
    let mut log = Log::open_with(&disk, Path::new("/"), options).unwrap();
    let (first, second) = (source("site/pump-1", 1), source("größe", 2));

    let payload = Payload::copy_from(b"too short to be packed");
    let digest = Digest::of(&payload);
    let short = NewBatch { payload, first_sequence: 7, count: 1, digest, compressed: false };
    log.appender.batch(&first, &schema("short"), short);
    log.commit(1_700_000_000_000_000_000).unwrap();

    log.appender.batch(&first, &schema("long"), NewBatch { compressed: false, ..batch(8, 100, 900) });
    log.appender.batch(&second, &schema("long"), NewBatch { compressed: true, ..batch(0, 50, 100) });
    log.appender.refused(&second, 50..60, 3, Digest::of(b"refused"), "no such schema");
    log.appender.dropped(&second, 60..1000);
    log.commit(1_700_000_000_500_000_000).unwrap();

    for sequence in 0..4 {
        log.appender.batch(
            &second,
            &schema("long"),
            NewBatch { compressed: true, ..batch(1000 + sequence, 1, 500) },
        );
        log.commit(1_700_000_001_000_000_000).unwrap();
    }
    log.commit(1_700_000_002_000_000_000).unwrap();
    log.committer.close().unwrap();
    sim
}

fn content(sim: &SimDisk, path: &Path) -> Vec<u8> {
    let file = sim.open(path, Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn describe(reader: &LogReader) -> String {
    let mut text = format!("positions {:?}\n", reader.positions());
    for record in reader.scan(Scan::default()) {
        let record = record.unwrap();
        let Source { device, epoch, number } = &**record.source();
        write!(text, "{device} {epoch} {number}: ").unwrap();
        match record {
            Record::Batch(batch) => {
                assert_eq!(Digest::of(&batch.payload), batch.digest);
                let StoredBatch { first_sequence, count, position, received, digest, compressed, .. } = batch;
                let (schema, version) = (batch.schema.name(), batch.schema.version());
                writeln!(text, "batch {schema} {version} {first_sequence}+{count} at {position}, {received}, {digest}, compressed {compressed}")
            }
            Record::Refused(refused) => {
                let RefusedBatch { range, code, digest, message, received, .. } = refused;
                writeln!(text, "refused {range:?} {code} {digest} {message:?}, {received}")
            }
            Record::Dropped(dropped) => writeln!(text, "dropped {:?}, {}", dropped.range, dropped.received),
        }
        .unwrap();
    }
    text
}

#[test]
fn version_1_is_read() {
    let reader = LogReader::open(Arc::new(RealDisk), &golden()).unwrap();
    let expected = std::fs::read_to_string(golden().join("records.txt")).unwrap();
    assert_eq!(describe(&reader), expected);
}

/// Writes the frozen files anew with `ICECORE_WRITE_GOLDEN=1`: only ever for a new version, beside the old one.
#[test]
fn version_1_is_written() {
    let sim = write_log();
    if std::env::var_os("ICECORE_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden().join("hot")).unwrap();
        for file in FILES {
            std::fs::write(golden().join(file), content(&sim, &Path::new("/").join(file))).unwrap();
        }
        let reader = LogReader::open(Arc::new(sim), Path::new("/")).unwrap();
        std::fs::write(golden().join("records.txt"), describe(&reader)).unwrap();
        return;
    }
    for file in FILES {
        let frozen = std::fs::read(golden().join(file)).unwrap();
        let written = content(&sim, &Path::new("/").join(file));
        assert!(written == frozen, "{file} differs; if only packed sections do, zstd packs differently now");
    }
}

const MANIFESTS: [&str; 4] = [
    "log.id",
    "manifests/000000000000.manifest",
    "manifests/000000000001.manifest",
    "manifests/000000000002.manifest",
];

fn golden_manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/manifests-v1")
}

/// A seal without damage, one with, and the split of a sealed segment.
fn write_manifests() -> SimDisk {
    let (sim, data) = (SimDisk::new(2), Path::new("/"));
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let sources = four_sources();
    let mut log = Log::open(&disk, data).unwrap();
    fill(&mut log, &sources, 0..30);
    seal(&log, 30 << 10).unwrap();
    let next = log.committer.sealer().finished().unwrap()[0].number;
    drop(log);
    sim.flip_bit(&data.join(format!("hot/{next:020}.hot")), 8 * 2000);
    let accept_damage = vec![format!("{next:020}.hot")];
    let log = Log::open_with(&disk, data, Options { accept_damage, ..options() }).unwrap();
    seal(&log, 30 << 10).unwrap();
    let (id, _) = LogReader::open(disk, data).unwrap().sealed().next().unwrap();
    let by_schema = |schema: &Schema, _: &_, _| Arc::from(schema.name());
    let plan = SealPlan { hot_bytes: 0, classify: &by_schema, pace: &mut |_| Continue(()), now: 6 };
    log.committer.sealer().split(id, plan).unwrap();
    sim
}

/// Everything that manifests say: without their children, which they do not need for that.
fn describe_manifests(reader: &LogReader) -> String {
    let mut text = format!("positions {:?}\n", reader.positions());
    for manifest in reader.manifests() {
        let Manifest { log, number, term, created, blocks, positions, received, .. } = &**manifest;
        let (log, previous, hash) = (hex(log), hex(&manifest.previous), hex(&manifest.hash()));
        writeln!(text, "manifest {number} of {log}, after {previous}: {hash}").unwrap();
        let chain = hex(&manifest.chain);
        writeln!(text, "term {term}, {created}, blocks {blocks:?}, {positions:?}, up to {received}, {chain}")
            .unwrap();
        for source in &manifest.sources {
            match source {
                SealSource::Hot { number, blocks, positions, chain } => {
                    writeln!(text, "hot {number} {blocks:?} {positions:?} {}", hex(chain))
                }
                SealSource::Sealed { id, root } => writeln!(text, "sealed {id} {}", hex(root)),
            }
            .unwrap();
        }
        for (id, child) in manifest.segments() {
            let Child { class, root, bytes, rows, batches, positions, received, times } = child;
            let root = hex(root);
            writeln!(
                text,
                "{id} {class} {root} {bytes} {rows} {batches} {positions:?} {received:?} {times:?}"
            )
            .unwrap();
        }
        for Lost { positions, what } in &manifest.lost {
            writeln!(text, "lost {positions:?} {what}").unwrap();
        }
    }
    for (id, child) in reader.sealed() {
        writeln!(text, "{id} of {}", child.class).unwrap();
    }
    reader.facts(&mut |fact| writeln!(text, "{}", describe_fact(fact)).unwrap()).unwrap();
    text
}

fn describe_fact(fact: &Fact<'_>) -> String {
    let name = |source: &Source| format!("{} {} {}", source.device, source.epoch, source.number);
    match fact {
        Fact::Sealed { source, sequences, received } => {
            format!("{} {sequences:?} {received:?}", name(source))
        }
        Fact::Schema { source, schema } => format!("{} {} {}", name(source), schema.name(), schema.id()),
        Fact::Refused { source, range, code, digest, received } => {
            format!("{} refused {range:?} {code} {digest} {received}", name(source))
        }
        Fact::Dropped { source, range, received } => format!("{} dropped {range:?} {received}", name(source)),
        Fact::Batch { .. } => unreachable!("manifests know no batches"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn manifests_of_version_1_are_read() {
    if std::env::var_os("ICECORE_WRITE_GOLDEN").is_some() {
        let sim = write_manifests();
        std::fs::create_dir_all(golden_manifests().join("manifests")).unwrap();
        for file in MANIFESTS {
            std::fs::write(golden_manifests().join(file), content(&sim, &Path::new("/").join(file))).unwrap();
        }
        let reader = LogReader::open(Arc::new(RealDisk), &golden_manifests()).unwrap();
        std::fs::write(golden_manifests().join("manifests.txt"), describe_manifests(&reader)).unwrap();
    }
    let reader = LogReader::open(Arc::new(RealDisk), &golden_manifests()).unwrap();
    let expected = std::fs::read_to_string(golden_manifests().join("manifests.txt")).unwrap();
    assert_eq!(describe_manifests(&reader), expected);
}
