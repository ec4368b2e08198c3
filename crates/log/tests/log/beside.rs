//! Sealing beside a writer that looks batches up, and beside readers, on the real disk.

use std::ops::ControlFlow::Continue;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fastrand::Rng;
use icecore_log::{Disk, LogReader, RealDisk, Record, Scan, SealPlan, Sealer, Sealing};

use crate::support::{Log, by_letters, fill, four_sources};

const ROUNDS: u64 = 250;

#[test]
fn nobody_notices_a_seal() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut log = Log::open(&disk, dir.path()).unwrap();
    let (sealer, done) = (log.committer.sealer(), AtomicBool::new(false));
    let seals = thread::scope(|scope| {
        let sealing = scope.spawn(|| seal_until(&done, &sealer));
        let reading = scope.spawn(|| read_until(&done, &disk, dir.path()));
        write_and_look_up(&mut log);
        done.store(true, Ordering::Release);
        assert!(reading.join().unwrap() > 1);
        sealing.join().unwrap()
    });
    assert!(seals > 1, "{seals}");
    assert_eq!(read(&disk, dir.path()), ROUNDS * 40);
}

fn write_and_look_up(log: &mut Log) {
    let (sources, mut rng) = (four_sources(), Rng::with_seed(1));
    for round in 0..ROUNDS {
        fill(log, &sources, round..round + 1);
        for source in &sources {
            let sought = rng.u64(..=round);
            let found = log.appender.find_batch(&source.device, &source.epoch, sought * 10).unwrap();
            let position = sought * 40 + u64::from(source.number) * 10;
            assert_eq!(found.map(|entry| entry.position), Some(position), "round {round}, sought {sought}");
        }
    }
}

/// Seals what is finished until the writer is done and nothing is left; how often.
fn seal_until(done: &AtomicBool, sealer: &Sealer) -> u64 {
    let mut seals = 0;
    loop {
        let last = done.load(Ordering::Acquire);
        let plan =
            SealPlan { hot_bytes: 40 << 10, classify: &by_letters, pace: &mut |_| Continue(()), now: 1 };
        match sealer.seal(plan).unwrap() {
            Sealing::Done(_) => seals += 1,
            Sealing::Nothing if last => return seals,
            Sealing::Nothing => thread::yield_now(),
            Sealing::BrokenOff => unreachable!("nobody breaks it off"),
        }
    }
}

fn read_until(done: &AtomicBool, disk: &Arc<dyn Disk>, data: &Path) -> u64 {
    let mut reads = 0;
    while !done.load(Ordering::Acquire) || reads == 0 {
        read(disk, data);
        reads += 1;
    }
    reads
}

/// Reads everything, which has to be dense; up to which position.
fn read(disk: &Arc<dyn Disk>, data: &Path) -> u64 {
    let reader = LogReader::open(Arc::clone(disk), data).unwrap();
    let mut next = 0;
    for record in reader.scan(Scan::default()) {
        if let Record::Batch(batch) = record.unwrap() {
            assert_eq!(batch.position, next);
            next += u64::from(batch.count);
        }
    }
    assert_eq!(next, reader.positions().end);
    next
}
