//! What a full spool lets go of, in memory and on disk and across crashes, against a model that knows each batch that was
//! recorded.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use icecore_wire::{
    BatchBuilder, BatchHeader, ColumnType, EncodeOptions, Epoch, Field, Level, Payload, Schema,
    SequenceRanges, Value,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::spool::class::{Class, InFlight};
use crate::spool::disk::{SpoolFiles, Work};
use crate::spool::queue::{Attachment, MAX_HOLES, MAX_LAST_HOLES, Mark};
use crate::watch::Watchers;

const BOOT: [u8; 16] = [5; 16];
/// Four files.
const DISK_BYTES: u64 = 256 << 10;
const MEMORY_BYTES: usize = 100_000;

#[derive(Debug, Clone)]
enum Step {
    Record {
        priority: Priority,
        bytes: usize,
    },
    /// Lets the disk do its work.
    Work,
    /// Attaches the newest epoch, and sends this much.
    Send {
        bytes: usize,
    },
    /// Acks the oldest batches that were sent.
    Ack {
        batches: usize,
    },
    Disconnect,
    /// On disk: the process dies while it writes. Of every file, these parts in 255 of what is new are kept.
    Crash {
        kept: Vec<u8>,
    },
}

fn priority() -> impl Strategy<Value = Priority> {
    prop::sample::select(Priority::ALL.to_vec())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (priority(), 1000..20_000usize).prop_map(|(priority, bytes)| Step::Record { priority, bytes }),
        4 => Just(Step::Work),
        2 => (1..100_000usize).prop_map(|bytes| Step::Send { bytes }),
        2 => (1..6usize).prop_map(|batches| Step::Ack { batches }),
        1 => Just(Step::Disconnect),
        1 => prop::collection::vec(any::<u8>(), 4).prop_map(|kept| Step::Crash { kept }),
    ]
}

/// A batch by its epoch's place among the epochs, and its first sequence.
type Key = (usize, u64);

#[derive(Debug, Clone)]
struct Recorded {
    range: Range<u64>,
    priority: Priority,
    payload: Payload,
    synced: bool,
    sent: bool,
}

struct Pair {
    policy: WhenFull,
    outbox: Outbox,
    disk: Option<(TempDir, SpoolFiles)>,
    /// All that ever was.
    recorded: BTreeMap<Key, Recorded>,
    /// What the outbox should have.
    held: BTreeMap<Key, Recorded>,
    /// Of each epoch, what the server has, and what was dropped.
    acked: Vec<(Epoch, SequenceRanges, SequenceRanges)>,
    schema: Arc<Schema>,
    now: Instant,
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new("s", 1, vec![Field::new("b", ColumnType::Bytes)]).unwrap())
}

fn payload(schema: &Arc<Schema>, first: u64, bytes: usize) -> Payload {
    let mut builder = BatchBuilder::new(Arc::clone(schema));
    let byte = u8::try_from(first % 251).unwrap();
    builder.row(0, &[Value::Bytes(&vec![byte; bytes])]).unwrap();
    builder.row(1, &[Value::Bytes(&[])]).unwrap();
    builder.finish(first, EncodeOptions::PLAIN).unwrap()
}

fn on_disk(dir: &Path) -> (Outbox, SpoolFiles) {
    let (files, queues, index) = SpoolFiles::open(dir, DISK_BYTES, Duration::ZERO, BOOT).unwrap();
    (Outbox::on_disk("d".parse().unwrap(), queues, index, Arc::new(InFlight::default())), files)
}

impl Pair {
    fn in_memory(policy: WhenFull) -> Self {
        let in_flight = Arc::new(InFlight::default());
        let outbox = Outbox::in_memory("d".parse().unwrap(), Epoch::random(), MEMORY_BYTES, in_flight);
        Self::new(policy, outbox, None)
    }

    fn on_disk(policy: WhenFull) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (outbox, files) = on_disk(dir.path());
        Self::new(policy, outbox, Some((dir, files)))
    }

    fn new(policy: WhenFull, outbox: Outbox, disk: Option<(TempDir, SpoolFiles)>) -> Self {
        let epoch = outbox.queues()[0].epoch;
        let acked = vec![(epoch, SequenceRanges::new(), SequenceRanges::new())];
        let (recorded, held) = (BTreeMap::new(), BTreeMap::new());
        Self { policy, outbox, disk, recorded, held, acked, schema: schema(), now: Instant::now() }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Record { priority, bytes } => {
                let dropped = self.record(*priority, *bytes);
                self.went_in_order(&dropped);
            }
            Step::Work => while self.work().is_some() {},
            Step::Send { bytes } => self.send(*bytes),
            Step::Ack { batches } => self.ack(*batches),
            Step::Disconnect => {
                self.outbox.rewind();
                self.held.values_mut().for_each(|batch| batch.sent = false);
            }
            Step::Crash { kept } => self.crash(kept),
        }
        self.check();
    }

    /// Records a batch as a recorder does. Returns what was dropped for it, itself perhaps.
    fn record(&mut self, priority: Priority, bytes: usize) -> BTreeMap<Key, Recorded> {
        let watchers = Watchers::default();
        let mut report = watchers.report();
        let epoch = self.acked.len() - 1;
        let first = self.outbox.current().next_sequence;
        let newcomer = Recorded {
            range: first..first + 2,
            priority,
            payload: payload(&self.schema, first, bytes),
            synced: self.disk.is_none(),
            sent: false,
        };
        while self.admit(priority, &mut report) == Admission::Full {
            self.work().expect("only a slow disk is waited for");
        }
        self.recorded.insert((epoch, first), newcomer.clone());
        self.held.insert((epoch, first), newcomer.clone());
        if self.outbox.current().next_sequence == first {
            let (schema, mark) = (Arc::clone(&self.schema), Mark { uptime: false, priority });
            self.outbox.push(schema, newcomer.range, newcomer.payload, mark, &mut report);
            self.is_bounded();
        }
        self.forget_dropped()
    }

    fn admit(&mut self, priority: Priority, report: &mut Report) -> Admission {
        self.outbox.admit(self.policy, priority, 2, report).unwrap()
    }

    /// Brings the model up to what the outbox dropped.
    fn forget_dropped(&mut self) -> BTreeMap<Key, Recorded> {
        let mut gone = self.held.clone();
        for queue in self.outbox.queues() {
            let epoch = self.acked.iter().position(|(epoch, ..)| *epoch == queue.epoch).unwrap();
            queue.iter().for_each(|batch| drop(gone.remove(&(epoch, batch.first))));
        }
        for (key, batch) in &gone {
            self.held.remove(key);
            self.acked[key.0].2.insert(batch.range.clone());
        }
        gone
    }

    /// Has the disk do one piece of its work.
    fn work(&mut self) -> Option<()> {
        let (_, files) = self.disk.as_mut()?;
        self.outbox.disk_work_to_start(self.now);
        let work = self.outbox.next_disk_work(self.now)?;
        let done = files.perform(&work);
        self.done(&work, done);
        Some(())
    }

    fn done(&mut self, work: &Work, done: Result<crate::spool::disk::Done, crate::SpoolError>) {
        let watchers = Watchers::default();
        self.outbox.disk_work_done(work, done, &mut watchers.report());
        if let Some((epoch, through)) = work.synced {
            let at = self.acked.iter().position(|(other, ..)| *other == epoch).unwrap();
            let epochs = self.held.iter_mut().filter(|((epoch, _), _)| *epoch == at);
            epochs.filter(|(_, batch)| batch.range.end <= through).for_each(|(_, batch)| batch.synced = true);
        }
    }

    fn send(&mut self, bytes: usize) {
        let epoch = self.acked.len() - 1;
        self.outbox.current().attachment = Attachment::Attached(1);
        let mut out = Vec::new();
        self.outbox.take(Class::Live, self.now, bytes, &mut out);
        let sent = self.outbox.current().iter().filter(|batch| batch.is_sent());
        for batch in sent {
            self.held.get_mut(&(epoch, batch.first)).unwrap().sent = true;
        }
    }

    fn ack(&mut self, batches: usize) {
        let epoch = self.acked.len() - 1;
        let sent = self.held.iter().filter(|((of, _), batch)| *of == epoch && batch.sent);
        let keys: Vec<_> = sent.map(|(key, _)| *key).take(batches).collect();
        let ranges: SequenceRanges = keys.iter().map(|key| self.held[key].range.clone()).collect();
        let watchers = Watchers::default();
        let id = self.acked[epoch].0;
        self.outbox.reached(id, Level::Durable, &ranges, self.now, &mut watchers.report());
        keys.iter().for_each(|key| drop(self.held.remove(key)));
        self.acked[epoch].1.insert_all(&ranges);
    }

    /// The process dies while it writes what is to be written next, and starts again.
    fn crash(&mut self, kept: &[u8]) {
        let Some((dir, mut files)) = self.disk.take() else { return };
        let crashed = tempfile::tempdir().unwrap();
        let before = spool_files(dir.path());
        self.outbox.disk_work_to_start(self.now);
        if let Some(work) = self.outbox.next_disk_work(self.now) {
            files.perform(&work).unwrap();
        }
        for (name, bytes) in &before {
            fs::write(crashed.path().join(name), bytes).unwrap();
        }
        for ((name, bytes), kept) in spool_files(dir.path()).into_iter().zip(kept.iter().cycle()) {
            let old = before.get(&name).map_or(0, Vec::len);
            let kept = old + (bytes.len() - old) * usize::from(*kept) / 255;
            fs::write(crashed.path().join(name), &bytes[..kept]).unwrap();
        }
        drop(files);
        let (outbox, files) = on_disk(crashed.path());
        self.outbox = outbox;
        self.disk = Some((crashed, files));
        self.recovered();
    }

    /// Takes over what a crash has left, which must be all that was fsynced.
    fn recovered(&mut self) {
        for ((epoch, first), batch) in &self.held {
            let queue = self.outbox.queue(self.acked[*epoch].0);
            let found = queue.as_ref().and_then(|queue| queue.iter().find(|found| found.first == *first));
            assert!(found.is_some() || !batch.synced, "{batch:?} of epoch {epoch} is lost");
            assert!(found.is_none_or(|found| found.mark.priority == batch.priority));
        }
        self.held_after_crash();
        let epoch = self.outbox.current().epoch;
        assert!(self.acked.iter().all(|(old, ..)| *old != epoch), "the epoch goes on after a crash");
        self.acked.push((epoch, SequenceRanges::new(), SequenceRanges::new()));
    }

    /// What was not fsynced may be gone, and what was dropped or acked may be back.
    fn held_after_crash(&mut self) {
        self.held.clear();
        for queue in self.outbox.queues() {
            let Some(epoch) = self.acked.iter().position(|(epoch, ..)| *epoch == queue.epoch) else {
                continue;
            };
            for batch in queue.iter() {
                let key = (epoch, batch.first);
                let recorded = self.recorded[&key].clone();
                self.held.insert(key, Recorded { synced: true, sent: false, ..recorded });
            }
        }
    }

    /// What went is no more important than anything that stays, if that counts; and of what is as important, all that stays
    /// is newer or on its way.
    fn went_in_order(&self, dropped: &BTreeMap<Key, Recorded>) {
        let importance = |batch: &Recorded| match self.policy {
            WhenFull::DropLeastImportant => batch.priority,
            WhenFull::DropOldest | WhenFull::Wait => Priority::Normal,
        };
        let Some(most) = dropped.values().map(importance).max() else { return };
        let last = dropped.iter().filter(|(_, batch)| importance(batch) == most).map(|(key, _)| *key).max();
        for (key, kept) in &self.held {
            let kept_for = importance(kept);
            assert!(most <= kept_for, "{most:?} went, {kept_for:?} stayed");
            assert!(most < kept_for || kept.sent || last < Some(*key), "{last:?} went before {key:?}");
        }
    }

    /// A new connection gets all that is held, as it was recorded.
    fn deliver(mut self) {
        self.outbox.rewind();
        for queue in self.outbox.queues_mut() {
            let epoch = self.acked.iter().position(|(epoch, ..)| *epoch == queue.epoch).unwrap();
            queue.attachment = Attachment::Attached(u32::try_from(epoch).unwrap());
        }
        let mut out = Vec::new();
        while self.work().is_some() || self.outbox.take(Class::Live, self.now, usize::MAX, &mut out) > 0 {}
        for sent in out {
            let first = BatchHeader::peek(&sent.payload).unwrap().first_sequence;
            let expected = self.held.remove(&(sent.alias as usize, first)).expect("sent once");
            assert_eq!(*sent.payload, *expected.payload);
        }
        assert!(self.held.is_empty(), "not sent: {:?}", self.held.keys());
    }

    /// The limit is soft by one batch, on disk with its schema, the start of a file, and a list of what was dropped.
    fn is_bounded(&self) {
        match &self.outbox.backing {
            Backing::Memory { max_bytes } => assert!(self.outbox.held() < max_bytes + 25_000),
            Backing::Disk(index) => assert!(index.used() < DISK_BYTES + 30_000, "{} bytes", index.used()),
        }
    }

    fn check(&self) {
        let (epoch, acked, dropped) = self.acked.last().unwrap();
        let queue = self.outbox.queues().last().unwrap();
        assert_eq!(queue.epoch, *epoch);
        assert_eq!(queue.dropped, *dropped);
        let mut all = acked.clone();
        all.insert_all(dropped);
        queue.iter().for_each(|batch| all.insert(batch.range()));
        assert_eq!(all, SequenceRanges::from(0..queue.next_sequence), "sequences are nowhere");
        assert_eq!(acked.count() + dropped.count() + 2 * queue.unsettled() as u64, queue.next_sequence);
    }
}

fn spool_files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "spool"));
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().into(), fs::read(path).unwrap())).collect()
}

fn policy() -> impl Strategy<Value = WhenFull> {
    prop_oneof![Just(WhenFull::DropOldest), Just(WhenFull::DropLeastImportant)]
}

proptest! {
    #[test]
    fn what_is_to_go_first_goes_first_in_memory(
        policy in policy(),
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut pair = Pair::in_memory(policy);
        steps.iter().for_each(|step| pair.apply(step));
        pair.deliver();
    }
}

proptest! {
    // They wait for a disk.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_to_go_first_goes_first_on_disk_and_across_crashes(
        policy in policy(),
        steps in prop::collection::vec(step(), 50..200),
    ) {
        let mut pair = Pair::on_disk(policy);
        steps.iter().for_each(|step| pair.apply(step));
        pair.deliver();
    }
}

/// A link that takes one batch of two: behind each that it sends, one is dropped. The server settles what was dropped now and
/// then. Recording does not wait for any of that. Beyond the limit there is a hole for each spool full of batches at most.
fn a_slow_link_leaves_bounded_holes(mut pair: Pair, bytes: usize) {
    let capacity = if pair.disk.is_some() { DISK_BYTES as usize } else { MEMORY_BYTES } / bytes;
    for n in 0..3000 {
        pair.record(Priority::Normal, bytes);
        if n % 2 == 0 {
            while pair.work().is_some() {}
            pair.send(1);
            pair.ack(1);
        }
        if n % 64 == 0 {
            let (epoch, _, dropped) = &pair.acked[0];
            let watchers = Watchers::default();
            pair.outbox.reached(*epoch, Level::Settled, dropped, pair.now, &mut watchers.report());
        }
        let holes = pair.acked[0].2.len();
        assert!(holes <= MAX_HOLES + n / capacity, "{holes} after {n}");
    }
    assert!(pair.acked[0].2.len() >= MAX_HOLES, "there were too few to matter");
    pair.deliver();
}

#[test]
fn a_slow_link_leaves_bounded_holes_in_memory() {
    a_slow_link_leaves_bounded_holes(Pair::in_memory(WhenFull::DropOldest), 1000);
}

#[test]
fn a_slow_link_leaves_bounded_holes_on_disk() {
    a_slow_link_leaves_bounded_holes(Pair::on_disk(WhenFull::DropOldest), 25_000);
}

#[test]
fn when_there_can_be_no_more_holes_recording_waits_for_the_link() {
    let mut pair = Pair::in_memory(WhenFull::DropOldest);
    let watchers = Watchers::default();
    // One batch fills the spool, so that nothing lies beside a hole.
    for _ in 0..MAX_LAST_HOLES {
        pair.record(Priority::Normal, 100);
        pair.send(1);
        pair.ack(1);
        pair.record(Priority::Normal, MEMORY_BYTES);
        pair.record(Priority::Normal, 100);
        pair.send(1);
        pair.ack(1);
    }
    assert_eq!(pair.acked[0].2.len(), MAX_LAST_HOLES);
    pair.record(Priority::Normal, MEMORY_BYTES);
    assert_eq!(pair.admit(Priority::Normal, &mut watchers.report()), Admission::Full);
    pair.send(1);
    pair.ack(1);
    assert_eq!(pair.admit(Priority::Normal, &mut watchers.report()), Admission::Room);
    pair.check();
}

/// Rare important batches among many others stay for as long as the epoch has room for the holes between them; then the
/// oldest go first, which closes holes.
fn has_bounded_holes(mut pair: Pair, bytes: usize) {
    for n in 0..4000 {
        let priority = if n % 2 == 0 { Priority::High } else { Priority::Low };
        let dropped = pair.record(priority, bytes);
        if pair.outbox.queues()[0].dropped.len() < MAX_HOLES / 2 {
            pair.went_in_order(&dropped);
        }
        if n % 64 == 0 {
            while pair.work().is_some() {}
            pair.check();
        }
        assert!(pair.outbox.queues()[0].dropped.len() <= MAX_HOLES);
    }
    let of = |priority| pair.held.values().filter(move |batch| batch.priority == priority).count();
    assert!(of(Priority::High) >= of(Priority::Low) + MAX_HOLES / 4);
    pair.deliver();
}

#[test]
fn holes_are_bounded_in_memory() {
    has_bounded_holes(Pair::in_memory(WhenFull::DropLeastImportant), 100);
}

#[test]
fn holes_are_bounded_on_disk() {
    has_bounded_holes(Pair::on_disk(WhenFull::DropLeastImportant), 300);
}

#[test]
fn newcomers_dropped_by_a_full_disk_are_written_down_when_somebody_waits() {
    let mut pair = Pair::on_disk(WhenFull::DropLeastImportant);
    while !pair.outbox.is_full() {
        pair.record(Priority::High, 3000);
    }
    while pair.work().is_some() {}
    let end = pair.outbox.current().next_sequence;
    for n in 1..100 {
        let dropped = pair.record(Priority::Normal, 3000);
        assert_eq!(dropped.into_keys().collect::<Vec<_>>(), [(0, end + 2 * (n - 1))]);
        assert!(pair.work().is_none(), "a full disk is written to for nothing");
    }
    pair.outbox.sync_now();
    pair.work().unwrap();
    assert!(pair.work().is_none() && pair.outbox.is_disk_idle());
    pair.crash(&[0]);
    let dropped = &pair.outbox.queues()[0].dropped;
    assert_eq!(*dropped, (end..end + 2 * 99).into());
}
