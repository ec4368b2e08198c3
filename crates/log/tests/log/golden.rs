//! Files of format version 1, frozen: every later version must read them.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use icecore_log::disk::{Access, SimDisk};
use icecore_log::{
    Disk, LogReader, NewBatch, Options, RealDisk, Record, RefusedBatch, Scan, Source, StoredBatch,
};
use icecore_wire::{Digest, Payload};

use crate::support::{Log, batch, schema, source};

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
