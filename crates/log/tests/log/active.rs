//! Reading the segment that is being written, by what its writer knows of it.

use std::sync::Arc;

use icecore_log::{DeviceFilter, Disk, LogReader, Options, Reads, RealDisk, Record, Scan};

use crate::support::{Log, batch, batches, four_sources, schema};

const ROUNDS: u64 = 25;

/// The records of the device called `even`, or of all, from a position on, and what was read for them.
fn read(reader: &LogReader, only: bool, from: u64) -> (Vec<Record>, Reads) {
    let devices = only.then(|| -> DeviceFilter<'_> { Box::new(|device| device.as_str() == "even") });
    let mut records = reader.scan(Scan { devices, positions: Some(from..u64::MAX), ..Scan::default() });
    let read = records.by_ref().collect::<Result<Vec<_>, _>>().unwrap();
    (read, records.reads())
}

#[test]
fn only_blocks_that_are_needed_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let options = Options { segment_bytes: 40 << 10, ..Options::default() };
    let mut log = Log::open_with(&disk, dir.path(), options).unwrap();
    let active = log.appender.active();
    let sources = four_sources();
    let mut segments = 0;
    for round in 0..ROUNDS {
        // A block of each device's own; schemas and devices are announced on the way.
        for (index, source) in sources.iter().enumerate() {
            let schema = schema(if round < ROUNDS / 2 { "a" } else { "b" });
            log.appender.batch(source, &schema, batch(round * 10, 10, 1_000 + index));
            log.commit(round as i64).unwrap();
        }
        // What is not durable yet is known to the writer only.
        log.appender.batch(&sources[0], &schema("c"), batch(round * 10 + 1_000, 10, 100));
        let plain = LogReader::open(Arc::clone(&disk), dir.path()).unwrap();
        let knowing = plain.clone().with_active(active.clone());
        let end = plain.positions().end;
        for from in [0, end / 2, end - 5] {
            for only in [true, false] {
                let ((all, reads), (same, fewer)) = (read(&plain, only, from), read(&knowing, only, from));
                assert_eq!(batches(&all), batches(&same), "round {round}, from {from}");
                assert!(fewer.blocks <= reads.blocks);
                if only {
                    // Its own of each round, and what came late.
                    assert!(fewer.blocks <= 2 * round + 1, "{} blocks in round {round}", fewer.blocks);
                }
            }
        }
        segments = segments.max(std::fs::read_dir(dir.path().join("hot")).unwrap().count());
        log.commit(round as i64).unwrap();
    }
    assert!(segments > 4, "several segments were written: {segments} files");
    let reader = LogReader::open(disk, dir.path()).unwrap();
    let blocks = |reader: &LogReader| read(reader, true, 0).1.blocks;
    assert!(blocks(&reader.clone().with_active(active)) < blocks(&reader));
}
