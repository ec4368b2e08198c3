use std::ops::ControlFlow;

use icecore_log::disk::{Crash, SimDisk};
use icecore_log::{CommitError, Encoder, SealPlan, Sealing, forget_tail};
use icecore_wire::limits::MAX_RANGES;
use icecore_wire::{
    Batch, Column, ColumnData, ColumnType, DeviceName, EncodeOptions, Epoch, Field, Payload, Schema, encode,
};

use super::*;

/// A core on a simulated disk, with the threads around it played by hand.
struct Bench {
    disk: SimDisk,
    core: Core,
    committer: Committer,
    encoder: Encoder,
    received: i64,
}

impl Bench {
    fn new() -> Self {
        Self::on(SimDisk::new(0))
    }

    fn on(disk: SimDisk) -> Self {
        // Small segments, so that histories roll them.
        let options = Options { segment_bytes: 8 << 10, ..Options::default() };
        let opened = Core::open(Arc::new(disk.clone()), Path::new("/data"), options, 0);
        let (core, committer, _) = opened.unwrap();
        Self { disk, core, committer, encoder: Encoder::new(), received: 0 }
    }

    /// Closes the log and opens it again, as a restart does.
    fn restart(self) -> Self {
        let Self { disk, core, committer, .. } = self;
        committer.close().unwrap();
        drop(core);
        Self::on(disk)
    }

    /// Loses power and opens the log again.
    fn lose_power(self) -> Self {
        let Self { disk, .. } = self;
        disk.crash(Crash::Power);
        Self::on(disk)
    }

    fn cut(&mut self) -> RawBlock {
        self.received += 1_000;
        self.core.take_block(self.received)
    }

    fn commit(&mut self, block: RawBlock) -> Vec<String> {
        self.try_commit(block).unwrap()
    }

    fn try_commit(&mut self, block: RawBlock) -> Result<Vec<String>, CommitError> {
        let mut encoded = self.encoder.encode(block, 1);
        let committed = self.committer.commit(&mut encoded)?;
        self.core.committed(&committed);
        Ok(self.answers())
    }

    fn cut_and_commit(&mut self) -> Vec<String> {
        let block = self.cut();
        self.commit(block)
    }

    fn answers(&mut self) -> Vec<String> {
        self.core.take_answers().iter().map(describe).collect()
    }

    fn offer(&mut self, from: &Arc<Attachment>, body: Body) -> Decision {
        self.core.offer(Submission { from: Arc::clone(from), body })
    }

    fn batch(&mut self, from: &Arc<Attachment>, first: u64, content: &[i64]) -> Decision {
        self.offer(from, Body::Batch(received(&schema(1, &[]), first, content)))
    }
}

fn describe(answer: &Answer) -> String {
    let device = &answer.to.device;
    match &answer.reply {
        Reply::Attached { epoch_number, stored, settled } => {
            format!("{device} attached {epoch_number}: stored {stored:?}, settled {settled:?}")
        }
        Reply::Durable(range) => format!("{device} durable {range:?}"),
        Reply::Settled(range) => format!("{device} settled {range:?}"),
        Reply::Refused { range, code, .. } => format!("{device} refused {range:?} {}", code.name()),
        Reply::Deferred { range, code, .. } => format!("{device} deferred {range:?} {}", code.name()),
    }
}

fn attachment(device: &str, epoch: u8) -> Arc<Attachment> {
    Attachment::new(1, 1, DeviceName::try_from(device).unwrap(), Epoch::from_bytes([epoch; 16]))
}

fn schema(version: u32, more: &[&str]) -> Arc<Schema> {
    let mut fields = vec![Field::new("value", ColumnType::I64)];
    fields.extend(more.iter().map(|name| Field::new(*name, ColumnType::I64)));
    Arc::new(Schema::new("reading", version, fields).unwrap())
}

fn received(schema: &Arc<Schema>, first: u64, content: &[i64]) -> Batch {
    let times: Vec<i64> = (0..content.len() as i64).collect();
    let columns = vec![Column::new(ColumnData::I64(content)); schema.fields().len()];
    let payload = encode(schema, first, &times, &columns, EncodeOptions::default()).unwrap();
    Batch::validate(payload, Arc::clone(schema)).unwrap()
}

#[test]
fn nothing_is_answered_before_its_block_is_durable() {
    let mut bench = Bench::new();
    let pump = attachment("pump", 1);
    assert!(matches!(bench.batch(&pump, 0, &[1, 2]), Decision::Stored));
    assert_eq!(bench.answers(), [""; 0]);
    let block = bench.cut();
    assert_eq!(bench.answers(), [""; 0], "cut is not durable");
    assert_eq!(bench.commit(block), ["pump durable 0..2"]);
    assert_eq!(bench.core.durable_position(), 2);
}

#[test]
fn a_resend_is_acked_once_the_original_is_durable_and_stored_once() {
    let mut bench = Bench::new();
    let pump = attachment("pump", 1);
    bench.batch(&pump, 0, &[1, 2]);
    let block = bench.cut();
    assert!(matches!(bench.batch(&pump, 0, &[1, 2]), Decision::Duplicate), "in flight");
    assert_eq!(bench.answers(), [""; 0], "the original is not durable");
    assert_eq!(bench.commit(block), ["pump durable 0..2", "pump durable 0..2"]);
    assert!(matches!(bench.batch(&pump, 0, &[1, 2]), Decision::Duplicate), "durable");
    assert_eq!(bench.answers(), ["pump durable 0..2"], "at once");
    let mut bench = bench.restart();
    assert!(matches!(bench.batch(&pump, 0, &[1, 2]), Decision::Duplicate), "after a restart");
    assert_eq!(bench.answers(), ["pump durable 0..2"]);
    assert_eq!(bench.core.durable_position(), 2);
}

#[test]
fn a_resend_of_what_was_deleted_and_forgotten_is_known_by_its_sequences() {
    let mut bench = Bench::new();
    let pump = attachment("pump", 1);
    bench.batch(&pump, 0, &[1, 2]);
    bench.cut_and_commit();
    let mut bench = bench.restart();
    bench.cut_and_commit();
    let mut bench = bench.restart();
    let (mut pace, class) = (|_| ControlFlow::Continue(()), Arc::<str>::from("all"));
    let classify = |_: &Schema, _: &DeviceName, _| Arc::clone(&class);
    let plan = SealPlan { hot_bytes: u64::MAX, classify: &classify, pace: &mut pace, now: 0 };
    let Sealing::Done(manifest) = bench.committer.sealer().seal(plan).unwrap() else { panic!("no seal") };
    for (id, _) in manifest.segments() {
        bench.disk.remove(&id.file(Path::new("/data"))).unwrap();
        forget_tail(&bench.disk, Path::new("/data"), id).unwrap();
    }
    assert!(matches!(bench.batch(&pump, 0, &[1, 2]), Decision::Duplicate));
    let answers = if bench.core.is_empty() { bench.answers() } else { bench.cut_and_commit() };
    assert_eq!(answers, ["pump durable 0..2"]);
    let decision = bench.batch(&pump, 0, &[1, 2, 3]);
    assert!(matches!(&decision, Decision::Refused(r) if r.code == Code::SequenceConflict), "{decision:?}");
}

#[test]
fn other_content_or_another_cut_of_stored_sequences_is_a_conflict_and_leaves_them_stored() {
    let mut bench = Bench::new();
    let pump = attachment("pump", 1);
    bench.batch(&pump, 10, &[1, 2, 3]);
    bench.cut_and_commit();
    for (first, content) in [(10, vec![1, 2, 4]), (10, vec![1, 2]), (11, vec![2, 3]), (8, vec![0, 0, 1])] {
        let decision = bench.batch(&pump, first, &content);
        assert!(
            matches!(&decision, Decision::Refused(r) if r.code == Code::SequenceConflict),
            "{decision:?}"
        );
        let range = first..first + content.len() as u64;
        let expected = [format!("pump refused {range:?} sequence_conflict")];
        // Where the conflict claims sequences that were free, their refusal has to be durable first.
        let answers = if bench.core.is_empty() { bench.answers() } else { bench.cut_and_commit() };
        assert_eq!(answers, expected);
    }
    let bench = bench.restart();
    let ledger = bench.core.ledger().resolve(&pump.device, &pump.epoch).unwrap();
    assert_eq!(ledger.stored(), &SequenceRanges::from(10..13));
    assert_eq!(ledger.refused().ranges(), SequenceRanges::from(8..10));
}

#[test]
fn a_refused_batch_is_recorded_once_and_answered_every_time() {
    let mut bench = Bench::new();
    let pump = attachment("pump", 1);
    let invalid = || {
        let (code, message) = (Code::MalformedBatch, "offsets run backwards".to_owned());
        Body::Invalid(InvalidBatch { range: 0..5, code, message, payload: Payload::copy_from(b"bad") })
    };
    assert!(matches!(bench.offer(&pump, invalid()), Decision::Refused(_)));
    assert!(!bench.core.is_empty());
    assert_eq!(bench.cut_and_commit(), ["pump refused 0..5 malformed_batch"]);
    bench.offer(&pump, invalid());
    assert!(bench.core.is_empty(), "it is on record already");
    assert_eq!(bench.answers(), ["pump refused 0..5 malformed_batch"]);
    bench.batch(&pump, 0, &[1, 2, 3, 4, 5]);
    assert_eq!(bench.cut_and_commit(), ["pump durable 0..5"], "a good batch of the same sequences is taken");
}

#[test]
fn dropped_sequences_are_settled_durably() {
    let mut bench = Bench::new();
    let pump = attachment("pump", 1);
    bench.batch(&pump, 0, &[1, 2]);
    bench.offer(&pump, Body::Dropped([0..1, 2..7].into_iter().collect()));
    assert_eq!(bench.cut_and_commit(), ["pump durable 0..2", "pump settled 0..1", "pump settled 2..7"]);
    let mut bench = bench.restart();
    bench.offer(&pump, Body::Attach);
    assert_eq!(bench.answers(), ["pump attached 0: stored [0..2], settled [2..7]"]);
}

#[test]
fn an_attach_is_answered_with_what_is_in_flight_when_that_is_durable() {
    let mut bench = Bench::new();
    let (pump, reborn) = (attachment("pump", 1), attachment("pump", 2));
    bench.batch(&pump, 0, &[1]);
    let block = bench.cut();
    bench.offer(&pump, Body::Attach);
    bench.offer(&reborn, Body::Attach);
    assert_eq!(bench.answers(), [""; 0]);
    assert_eq!(
        bench.commit(block),
        [
            "pump durable 0..1",
            "pump attached 0: stored [0..1], settled []",
            "pump attached 1: stored [], settled []"
        ]
    );
}

#[test]
fn epochs_are_numbered_in_the_order_of_their_first_record() {
    let mut bench = Bench::new();
    let (first, second) = (attachment("pump", 1), attachment("pump", 2));
    bench.offer(&first, Body::Attach);
    bench.offer(&second, Body::Attach);
    bench.batch(&second, 0, &[1]);
    bench.batch(&first, 0, &[1]);
    bench.cut_and_commit();
    let number = |of: &Attachment| bench.core.ledger().resolve(&of.device, &of.epoch).unwrap().number();
    assert_eq!((number(&second), number(&first)), (0, 1));
}

#[test]
fn one_gap_too_many_is_deferred_and_closing_gaps_never_is() {
    let mut bench = Bench::new();
    let pump = attachment("pump", 1);
    for n in 0..MAX_RANGES as u64 {
        assert!(matches!(bench.batch(&pump, 2 * n, &[1]), Decision::Stored));
    }
    let far = 2 * MAX_RANGES as u64;
    assert!(matches!(bench.batch(&pump, far, &[1]), Decision::Deferred(Code::TooManyRanges)));
    assert_eq!(bench.answers(), [format!("pump deferred {far}..{} too_many_ranges", far + 1)]);
    assert!(matches!(bench.batch(&pump, 1, &[1]), Decision::Stored), "closes a gap");
    assert!(matches!(bench.batch(&pump, far, &[1]), Decision::Stored), "there is room now");
}

#[test]
fn schemas_may_evolve_and_not_change() {
    let mut bench = Bench::new();
    let pump = attachment("pump", 1);
    bench.batch(&pump, 0, &[1]);
    let changed = received(&schema(1, &["other"]), 1, &[1]);
    let decision = bench.offer(&pump, Body::Batch(changed));
    assert!(matches!(&decision, Decision::Refused(r) if r.code == Code::SchemaConflict), "{decision:?}");
    let incompatible = received(&schema(2, &["required"]), 2, &[1]);
    let decision = bench.offer(&pump, Body::Batch(incompatible));
    assert!(matches!(&decision, Decision::Refused(r) if r.code == Code::SchemaIncompatible), "{decision:?}");
    bench.cut_and_commit();
    let mut bench = bench.restart();
    let decision = bench.offer(&pump, Body::Batch(received(&schema(1, &["other"]), 3, &[1])));
    assert!(
        matches!(&decision, Decision::Refused(r) if r.code == Code::SchemaConflict),
        "learnt from the log"
    );
}

/// A device sends ten batches over and over; the power fails at a different change of the disk in each history.
#[test]
fn derived_schemas_are_the_servers_own() {
    let mut bench = Bench::new();
    let derived = Schema::new("reading@1m", 1, schema(1, &[]).fields().to_vec()).map(Arc::new).unwrap();
    let body = |first| Body::Batch(received(&derived, first, &[7]));
    bench.offer(&attachment("pump", 1), body(0));
    assert_eq!(bench.cut_and_commit(), ["pump refused 0..1 schema_reserved"]);

    let device = DeviceName::try_from("pump").unwrap();
    let epoch = Epoch::derived(&[0; 16], &device, "reading@1m");
    let (answers, replies) = std::sync::mpsc::channel();
    let own = || Attachment::own(device.clone(), epoch, answers.clone());
    assert!(matches!(bench.offer(&own(), body(0)), Decision::Stored));
    let mut bench = {
        let block = bench.cut();
        let committed = bench.committer.commit(&mut bench.encoder.encode(block, 1)).unwrap();
        bench.core.committed(&committed);
        let for_sessions = bench.core.take_answers().into_iter().filter_map(Answer::for_session).count();
        assert_eq!(for_sessions, 0, "nobody else hears of it");
        bench.restart()
    };
    assert!(matches!(replies.try_recv(), Ok(Reply::Durable(range)) if range == (0..1)));
    assert!(matches!(bench.offer(&own(), body(0)), Decision::Duplicate), "once");
}

#[test]
fn whenever_the_power_fails_nothing_acked_is_lost_and_nothing_is_stored_twice() {
    for history in 0..1_000 {
        let pump = attachment("pump", 1);
        let mut bench = Bench::on(SimDisk::new(history));
        bench.disk.go_down_after(history % 80);
        let mut acked = 0;
        for n in 0..10 {
            bench.batch(&pump, 2 * n, &[n as i64, 0]);
            let block = bench.cut();
            let Ok(answers) = bench.try_commit(block) else { break };
            assert_eq!(answers.len(), 1);
            acked = 2 * (n + 1);
        }
        let mut bench = bench.lose_power();
        let pump = attachment("pump", 1);
        let stored =
            bench.core.ledger().resolve(&pump.device, &pump.epoch).map_or(0, |epoch| epoch.stored().count());
        assert!(stored >= acked, "history {history}: {acked} were acked, {stored} are stored");
        for n in 0..10 {
            let decision = bench.batch(&pump, 2 * n, &[n as i64, 0]);
            let known = 2 * n < stored;
            assert_eq!(
                matches!(decision, Decision::Duplicate),
                known,
                "history {history}, batch {n}: {decision:?}"
            );
        }
        bench.cut_and_commit();
        assert_eq!(bench.core.durable_position(), 20, "history {history}");
    }
}

#[cfg(feature = "mutants")]
mod planted {
    use super::*;
    use crate::mutants::{Mutant, plant};

    #[test]
    fn an_ack_before_the_fsync_can_be_planted() {
        let mut bench = Bench::new();
        bench.batch(&attachment("pump", 1), 0, &[1]);
        plant(Some(Mutant::AckBeforeFsync));
        bench.cut();
        plant(None);
        assert_eq!(bench.answers(), ["pump durable 0..1"]);
    }

    #[test]
    fn deduplication_off_by_one_can_be_planted() {
        let mut bench = Bench::new();
        let pump = attachment("pump", 1);
        bench.batch(&pump, 0, &[1]);
        plant(Some(Mutant::DedupOffByOne));
        let decision = bench.batch(&pump, 0, &[1]);
        plant(None);
        assert!(matches!(decision, Decision::Stored), "{decision:?}");
    }
}
