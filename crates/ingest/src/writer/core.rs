//! The writer's decisions, without threads, clocks or waiting: submissions in log order go in, blocks come out,
//! and when a block is durable, the answers that waited for it.
//!
//! Only this core deduplicates. Its ledger holds what is durable *and* what is in blocks on their way to the
//! disk, so a batch that comes twice in quick succession is stored once; whatever is answered from the ledger
//! waits for the newest block that could have contributed to the answer.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use icecore_log::{
    ActiveDirectory, Appender, Committed, Committer, Disk, Fact, HotLog, LogError, NewBatch, Options,
    RawBlock, Recovery, Source,
};
use icecore_schema::{Declared, Misfit};
use icecore_state::{EpochLedger, Ledger, Verdict};
use icecore_wire::limits::MAX_RANGES;
use icecore_wire::{Batch, Code, Digest, Schema, SequenceRanges};

use super::content::{BlockContent, Entry};
use super::schemas::SchemaBook;
use super::submission::{Answer, Attachment, Body, Decision, InvalidBatch, Refusal, Reply, Submission};
#[cfg(feature = "mutants")]
use crate::mutants::{self, Mutant};

/// When a batch that does not fit the limits may come again. What is in the way are gaps, and they close as
/// fast as the device's backlog arrives.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(5);

/// When a batch may come again that could not be judged, because the log could not be read.
const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Decides what is stored, acked, refused and deferred.
#[derive(Debug)]
pub struct Core {
    appender: Appender,
    ledger: Ledger,
    schemas: SchemaBook,
    /// Answers that wait for the block being built.
    open: Vec<Answer>,
    /// What is in the block being built.
    content: Vec<Entry>,
    /// Blocks that were cut and are not durable, oldest first.
    in_flight: VecDeque<InFlight>,
    /// Answers that wait for nothing any more.
    ready: Vec<Answer>,
    durable_position: u64,
    received: i64,
}

/// A block on its way to the disk.
#[derive(Debug)]
struct InFlight {
    block: u64,
    /// The answers that wait for it.
    answers: Vec<Answer>,
    content: BlockContent,
}

impl Core {
    /// Takes schemas only as they are declared from now on; if `only`, none that is not.
    ///
    /// # Errors
    /// When the log holds a schema that is declared as something else.
    pub fn declare(&mut self, declared: Declared, only: bool) -> Result<(), Misfit> {
        self.schemas.declare(declared, only)
    }

    /// Opens the log in `data`, recovering it, and folds what it holds. `now` is in nanoseconds since the Unix
    /// epoch.
    ///
    /// # Errors
    /// When the log cannot be opened; see [`HotLog::open`].
    pub fn open(
        disk: Arc<dyn Disk>,
        data: &Path,
        options: Options,
        now: i64,
    ) -> Result<(Self, Committer, Recovery), LogError> {
        Self::open_behind(Ledger::default(), &[], disk, data, options, now)
    }

    /// As [`Core::open`], where what was settled before the block [`Options::known_to`], and the schemas before it, are known
    /// from a snapshot.
    ///
    /// # Errors
    /// As [`Core::open`].
    pub fn open_behind(
        mut ledger: Ledger,
        known_schemas: &[Arc<Schema>],
        disk: Arc<dyn Disk>,
        data: &Path,
        options: Options,
        now: i64,
    ) -> Result<(Self, Committer, Recovery), LogError> {
        let mut schemas = SchemaBook::default();
        known_schemas.iter().for_each(|schema| schemas.learn(schema));
        let mut fold = |fact: &Fact<'_>| {
            if let Fact::Batch { schema, .. } | Fact::Schema { schema, .. } = fact {
                schemas.learn(schema);
            }
            ledger.apply(fact);
        };
        let (appender, committer, recovery) = HotLog::open(disk, data, options, now, &mut fold)?;
        let core = Self {
            durable_position: appender.position(),
            received: recovery.received,
            appender,
            ledger,
            schemas,
            open: Vec::new(),
            content: Vec::new(),
            in_flight: VecDeque::new(),
            ready: Vec::new(),
        };
        Ok((core, committer, recovery))
    }

    /// Decides on one submission. Its answer is among [`Core::take_answers`] now or after a later commit.
    pub fn offer(&mut self, submission: Submission) -> Decision {
        let Submission { from, body } = submission;
        match body {
            Body::Attach => self.attach(from),
            Body::Batch(batch) => self.batch(from, batch),
            Body::Invalid(batch) => self.refuse(from, batch),
            Body::Dropped(ranges) => self.dropped(&from, &ranges),
        }
    }

    /// Whether the block being built takes no more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.appender.is_full()
    }

    /// Whether the block being built holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.appender.is_empty()
    }

    /// Bytes in the block being built, before compression.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.appender.bytes()
    }

    /// Cuts the block being built; it has to be encoded and committed, in the order of block numbers. `received`
    /// is its received time in nanoseconds since the Unix epoch.
    pub fn take_block(&mut self, received: i64) -> RawBlock {
        self.received = self.received.max(received);
        let block = self.appender.finish(self.received);
        self.in_flight.push_back(InFlight {
            block: block.number(),
            answers: std::mem::take(&mut self.open),
            content: BlockContent { entries: std::mem::take(&mut self.content), received: self.received },
        });
        #[cfg(feature = "mutants")]
        if mutants::planted(Mutant::AckBeforeFsync) {
            self.ready.extend(self.in_flight.iter_mut().flat_map(|block| block.answers.drain(..)));
        }
        block
    }

    /// Takes note that a block is durable: its answers may go out, once the state has its content.
    ///
    /// # Panics
    /// When it is not the oldest block in flight: blocks are committed in order.
    pub fn committed(&mut self, committed: &Committed) -> BlockContent {
        let InFlight { block, answers, content } =
            self.in_flight.pop_front().expect("a committed block was in flight");
        assert_eq!(block, committed.block, "blocks are committed in the order they were cut");
        self.durable_position = committed.positions.end;
        self.ready.extend(answers);
        content
    }

    /// The answers that may go out now, in log order.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.ready)
    }

    /// Number of blocks that were cut and are not durable.
    #[must_use]
    pub fn blocks_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// What is known of the segment that is being written.
    #[must_use]
    pub fn active(&self) -> ActiveDirectory {
        self.appender.active()
    }

    /// The first position that is not durable.
    #[must_use]
    pub fn durable_position(&self) -> u64 {
        self.durable_position
    }

    /// What is settled, durably or in flight.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn attach(&mut self, from: Arc<Attachment>) -> Decision {
        let (epoch_number, stored, settled) = match self.ledger.resolve(&from.device, &from.epoch) {
            Some(epoch) => {
                let mut settled = epoch.refused().ranges();
                settled.insert_all(epoch.dropped());
                // What is stored within a dropped range splits it, so there may be more than a message takes. What is not told
                // comes again, and is answered again.
                let older = settled.len().saturating_sub(MAX_RANGES);
                (epoch.number(), epoch.stored().clone(), settled.iter().skip(older).collect())
            }
            None => {
                let number = self.ledger.next_epoch_number(&from.device);
                (number, SequenceRanges::new(), SequenceRanges::new())
            }
        };
        self.answer_when_durable(from, Reply::Attached { epoch_number, stored, settled });
        Decision::Attached
    }

    fn batch(&mut self, from: Arc<Attachment>, batch: Batch) -> Decision {
        let range = batch.range();
        #[cfg(feature = "mutants")]
        let range = if mutants::planted(Mutant::DedupOffByOne) { range.end..range.end + 1 } else { range };
        match self.ledger.classify(&from.device, &from.epoch, &range) {
            Verdict::New => self.store(from, batch),
            Verdict::Covered | Verdict::Overlapping => self.resent(from, batch),
            Verdict::TooManyRanges => {
                let message = "the epoch has as many gaps as are kept; send what is missing first";
                self.defer(from, batch.range(), Code::TooManyRanges, message.to_owned(), RETRY_AFTER_LIMIT)
            }
            // A device with many gaps does not keep the server from what it derives itself.
            Verdict::TooManyEpochs if from.is_own() => self.store(from, batch),
            Verdict::TooManyEpochs => {
                let message =
                    "the device has as many unfinished epochs as are kept; finish one of them first";
                self.defer(from, batch.range(), Code::TooManyEpochs, message.to_owned(), RETRY_AFTER_LIMIT)
            }
        }
    }

    /// Stores a batch none of whose sequences are stored. That some of them may be refused or dropped is no
    /// obstacle: stored beats both.
    fn store(&mut self, from: Arc<Attachment>, batch: Batch) -> Decision {
        match self.schemas.admit(batch.schema(), from.is_own()) {
            Ok(()) => {}
            Err((code, message)) if code.is_permanent() => {
                let invalid =
                    InvalidBatch { range: batch.range(), code, message, payload: batch.into_payload() };
                return self.refuse(from, invalid);
            }
            Err((code, message)) => {
                return self.defer(from, batch.range(), code, message, RETRY_AFTER_FAILURE);
            }
        }
        self.schemas.learn(batch.schema());
        let range = batch.range();
        let digest = batch.digest();
        let source = self.source(&from);
        let new = NewBatch {
            payload: batch.payload().clone(),
            first_sequence: batch.first_sequence(),
            count: batch.count(),
            digest,
            compressed: batch.is_compressed(),
        };
        let position = self.appender.batch(&source, batch.schema(), new);
        self.record(Entry::Batch { source, batch, position, digest });
        self.open.push(Answer { to: from, reply: Reply::Durable(range) });
        Decision::Stored
    }

    /// Judges a batch some of whose sequences are stored: it is the stored batch once more, or it is refused.
    fn resent(&mut self, from: Arc<Attachment>, batch: Batch) -> Decision {
        let range = batch.range();
        let stored = match self.appender.find_batch(&from.device, &from.epoch, batch.first_sequence()) {
            Ok(stored) => stored,
            Err(error @ LogError::Forgotten { .. }) if self.is_stored(&from, &range) => {
                tracing::warn!(%error, device = %from.device, "a batch counts as a resend by its sequences alone");
                self.answer_when_durable(from, Reply::Durable(range));
                return Decision::Duplicate;
            }
            Err(LogError::Forgotten { .. }) => None,
            Err(e) => {
                tracing::error!(error = %e, device = %from.device, "cannot tell whether a batch is a resend");
                let message = "the server cannot read its log to compare the batch".to_owned();
                return self.defer(from, range, Code::Internal, message, RETRY_AFTER_FAILURE);
            }
        };
        match stored {
            Some(stored) if stored.count == batch.count() && stored.digest == batch.digest() => {
                if stored.position < self.durable_position {
                    self.ready.push(Answer { to: from, reply: Reply::Durable(range) });
                } else {
                    self.answer_when_durable(from, Reply::Durable(range));
                }
                Decision::Duplicate
            }
            _ => {
                let message = format!(
                    "sequences {}..{} of epoch {} are stored with other content or in another cut; what is stored \
                     stays, this batch is refused",
                    range.start, range.end, from.epoch
                );
                let code = Code::SequenceConflict;
                self.refuse(from, InvalidBatch { range, code, message, payload: batch.into_payload() })
            }
        }
    }

    /// Whether all of these sequences are stored.
    fn is_stored(&self, from: &Attachment, range: &Range<u64>) -> bool {
        let epoch = self.ledger.resolve(&from.device, &from.epoch);
        let mut left = SequenceRanges::from(range.clone());
        epoch.is_some_and(|epoch| {
            left.remove_all(epoch.stored());
            left.is_empty()
        })
    }

    /// Refuses a batch for good. The refusal is recorded for those of its sequences that are neither stored
    /// (stored beats refused: a conflicting batch changes nothing about the one it conflicts with) nor refused
    /// already (the device sends it again because it has not heard).
    fn refuse(&mut self, from: Arc<Attachment>, batch: InvalidBatch) -> Decision {
        let InvalidBatch { range, code, message, payload } = batch;
        let mut unsettled = SequenceRanges::from(range.clone());
        if let Some(epoch) = self.ledger.resolve(&from.device, &from.epoch) {
            unsettled.remove_all(epoch.stored());
            unsettled.remove_all(&epoch.refused().ranges());
        }
        if !unsettled.iter().all(|part| self.ledger.can_settle(&from.device, &from.epoch, &part)) {
            let message = format!("{message} (and too many ranges are refused already to record one more)");
            return self.defer(from, range, Code::TooManyRanges, message, RETRY_AFTER_LIMIT);
        }
        if !unsettled.is_empty() {
            let source = self.source(&from);
            let digest = Digest::of(&payload);
            for range in &unsettled {
                self.appender.refused(&source, range.clone(), code.number(), digest, &message);
                let source = Arc::clone(&source);
                self.record(Entry::Refused { source, range, code: code.number(), digest });
            }
        }
        let reply = Reply::Refused { range: range.clone(), code, message: message.clone() };
        self.answer_when_durable(Arc::clone(&from), reply);
        Decision::Refused(Box::new(Refusal { from, range, code, message, payload }))
    }

    /// Records what the device gave up, as far as it is not settled otherwise, and acks all of it.
    fn dropped(&mut self, from: &Arc<Attachment>, ranges: &SequenceRanges) -> Decision {
        let mut unsettled = ranges.clone();
        if let Some(epoch) = self.ledger.resolve(&from.device, &from.epoch) {
            unsettled.remove_all(&epoch.settled());
        }
        for range in ranges {
            let fresh = within(&unsettled, &range);
            if fresh.iter().all(|part| self.ledger.can_settle(&from.device, &from.epoch, &part)) {
                self.record_dropped(from, &fresh);
                self.answer_when_durable(Arc::clone(from), Reply::Settled(range));
            } else {
                let message = "the epoch has as many dropped ranges as are kept".to_owned();
                self.defer(Arc::clone(from), range, Code::TooManyRanges, message, RETRY_AFTER_LIMIT);
            }
        }
        Decision::Dropped
    }

    fn record_dropped(&mut self, from: &Attachment, ranges: &SequenceRanges) {
        for range in ranges {
            let source = self.source(from);
            self.appender.dropped(&source, range.clone());
            self.record(Entry::Dropped { source, range });
        }
    }

    /// Takes into the ledger what the block being built has got, and keeps it for the state.
    fn record(&mut self, entry: Entry) {
        self.ledger.apply(&entry.fact(self.received));
        self.content.push(entry);
    }

    fn defer(
        &mut self,
        from: Arc<Attachment>,
        range: Range<u64>,
        code: Code,
        message: String,
        retry_after: Duration,
    ) -> Decision {
        self.ready.push(Answer { to: from, reply: Reply::Deferred { range, code, message, retry_after } });
        Decision::Deferred(code)
    }

    /// Queues an answer that was derived from the ledger: it may go out when every block that the ledger knows of
    /// is durable.
    fn answer_when_durable(&mut self, to: Arc<Attachment>, reply: Reply) {
        let waiting = if !self.appender.is_empty() {
            &mut self.open
        } else if let Some(newest) = self.in_flight.back_mut() {
            &mut newest.answers
        } else {
            &mut self.ready
        };
        waiting.push(Answer { to, reply });
    }

    /// The attachment's source, numbered when the epoch gets its first record.
    fn source(&self, from: &Attachment) -> Arc<Source> {
        let source = from.source.get_or_init(|| {
            let known = self.ledger.resolve(&from.device, &from.epoch);
            let number =
                known.map_or_else(|| self.ledger.next_epoch_number(&from.device), EpochLedger::number);
            Arc::new(Source { device: from.device.clone(), epoch: from.epoch, number })
        });
        Arc::clone(source)
    }
}

/// The part of `set` that lies within `range`.
fn within(set: &SequenceRanges, range: &Range<u64>) -> SequenceRanges {
    set.iter()
        .map(|part| part.start.max(range.start)..part.end.min(range.end))
        .filter(|part| !part.is_empty())
        .collect()
}

#[cfg(test)]
mod tests;
