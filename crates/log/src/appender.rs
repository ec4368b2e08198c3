//! The front half of the log: cuts blocks, gives numbers and positions, knows which batches are stored.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use icecore_wire::{DeviceName, Digest, Epoch, Payload, Schema};

use crate::block::{BlockPlace, RawBlock, RecordBuffer};
use crate::committer::Progress;
use crate::directory::{ActiveDirectory, BatchEntry, Directory, StoredDirectories};
use crate::error::LogError;
use crate::open::Options;
use crate::record::{
    BatchFields, Record, Source, push_batch, push_dropped, push_refused, push_schema, push_source,
};

/// A validated batch to be stored.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// The batch as it came.
    pub payload: Payload,
    /// The sequence of its first event.
    pub first_sequence: u64,
    /// How many events it holds.
    pub count: u32,
    /// The digest of `payload`.
    pub digest: Digest,
    /// Whether the device compressed its columns already: such a batch is stored as it is.
    pub compressed: bool,
}

/// Builds blocks, one at a time. Owned by the one thread that decides what is stored.
#[derive(Debug)]
pub struct Appender {
    options: Options,
    progress: Arc<Progress>,
    segment: Segment,
    /// Directories of finished segments that are not on disk yet, oldest first.
    finishing: VecDeque<(u64, Arc<Directory>)>,
    stored: StoredDirectories,
    block: OpenBlock,
    /// The received time of the last block.
    received: i64,
}

/// The segment the next block goes to.
#[derive(Debug)]
struct Segment {
    number: u64,
    /// When it was begun, in nanoseconds since the Unix epoch.
    begun: i64,
    directory: ActiveDirectory,
    /// Set until the segment's first block is cut, if it follows another one of this term.
    finished: Option<Arc<Directory>>,
}

/// The block being built.
#[derive(Debug)]
struct OpenBlock {
    number: u64,
    first_position: u64,
    events: u64,
    records: RecordBuffer,
}

/// Where an appender starts.
pub(crate) struct Start {
    pub(crate) segment: u64,
    pub(crate) block: u64,
    pub(crate) position: u64,
    pub(crate) received: i64,
    pub(crate) now: i64,
}

impl Appender {
    pub(crate) fn new(
        options: Options,
        start: &Start,
        progress: Arc<Progress>,
        stored: StoredDirectories,
    ) -> Self {
        let directory = ActiveDirectory::new(start.segment, Directory::new(start.block));
        Self {
            options,
            progress,
            segment: Segment { number: start.segment, begun: start.now, directory, finished: None },
            finishing: VecDeque::new(),
            stored,
            block: OpenBlock {
                number: start.block,
                first_position: start.position,
                events: 0,
                records: RecordBuffer::default(),
            },
            received: start.received,
        }
    }

    /// Adds a batch to the block being built and returns the position of its first event.
    pub fn batch(&mut self, source: &Arc<Source>, schema: &Arc<Schema>, batch: NewBatch) -> u64 {
        let NewBatch { payload, first_sequence, count, digest, compressed } = batch;
        let source = self.announce_source(source);
        let schema = self.announce_schema(schema);
        let position = self.position();
        let payload_len = u32::try_from(payload.len()).expect("a batch is at most MAX_BATCH_BYTES long");
        let records = &mut self.block.records;
        let fields =
            BatchFields { source, schema, first_sequence, count, payload_len, digest, verbatim: compressed };
        push_batch(&mut records.head, &fields);
        if compressed {
            records.push_verbatim(payload);
        } else {
            records.push_plain(payload);
        }
        records.count += 1;
        self.block.events += u64::from(count);
        let entry = BatchEntry { first_sequence, count, digest, position };
        self.segment.directory.lock().directory.batch(source, schema, entry);
        position
    }

    /// Adds the fact that a batch was refused for good. `code` is a number of `icecore_wire`'s `Code`.
    pub fn refused(
        &mut self,
        source: &Arc<Source>,
        range: Range<u64>,
        code: u16,
        digest: Digest,
        message: &str,
    ) {
        let source = self.announce_source(source);
        push_refused(&mut self.block.records.head, source, &range, code, &digest, message);
        self.block.records.count += 1;
        self.segment.directory.lock().directory.refused(source, range, code, digest);
    }

    /// Adds the fact that the device dropped these sequences.
    pub fn dropped(&mut self, source: &Arc<Source>, range: Range<u64>) {
        let source = self.announce_source(source);
        push_dropped(&mut self.block.records.head, source, &range);
        self.block.records.count += 1;
        self.segment.directory.lock().directory.dropped(source, range);
    }

    /// What is known of the segment that is being written, for readers: see [`LogReader::with_active`](crate::LogReader::with_active).
    #[must_use]
    pub fn active(&self) -> ActiveDirectory {
        self.segment.directory.clone()
    }

    /// Whether the block being built has reached [`Options::block_bytes`](crate::Options::block_bytes).
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes() >= self.options.block_bytes
    }

    /// Whether the block being built holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.block.records.count == 0
    }

    /// Bytes in the block being built, before compression.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.block.records.bytes()
    }

    /// The position the next event gets.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.block.first_position + self.block.events
    }

    /// The number the next block gets.
    #[must_use]
    pub fn block(&self) -> u64 {
        self.block.number
    }

    /// The received time of the last block, in nanoseconds since the Unix epoch; `i64::MIN` before the first.
    #[must_use]
    pub fn received(&self) -> i64 {
        self.received
    }

    /// Cuts the block: numbers it and decides whether it starts a new segment. `received` is its received time in
    /// nanoseconds since the Unix epoch; the log never lets it step backwards. An empty block is allowed: it proves
    /// that the one before it reached the disk.
    pub fn finish(&mut self, received: i64) -> RawBlock {
        self.received = self.received.max(received);
        let is_many = {
            let directory = &mut self.segment.directory.lock().directory;
            directory.end_block(self.received);
            directory.is_full()
        };
        let next = OpenBlock {
            number: self.block.number + 1,
            first_position: self.position(),
            events: 0,
            records: RecordBuffer::like(&self.block.records),
        };
        let OpenBlock { number, first_position, events, records } = std::mem::replace(&mut self.block, next);
        let place = BlockPlace {
            number,
            first_position,
            events,
            received: self.received,
            segment: self.segment.number,
            finished: self.segment.finished.take(),
        };
        let age = i128::from(self.received) - i128::from(self.segment.begun);
        let is_full = self.progress.full_segment.load(Ordering::Acquire) == self.segment.number || is_many;
        if is_full || age >= self.options.segment_age.as_nanos() as i128 {
            self.roll();
        }
        RawBlock { place, records }
    }

    /// The next block goes to a new segment.
    fn roll(&mut self) {
        let (old, number) = (self.segment.number, self.segment.number + 1);
        let directory = self.segment.directory.replace(number, Directory::new(self.block.number)).finish();
        (self.segment.number, self.segment.begun) = (number, self.received);
        self.segment.finished = Some(Arc::clone(&directory));
        // Here as well as in lookups: a log in which nothing comes twice has none.
        self.let_go_of_written();
        self.finishing.push_back((old, directory));
    }

    /// Has the directories that are on disk by now looked up there.
    fn let_go_of_written(&mut self) {
        let written = self.progress.written_directories.load(Ordering::Acquire);
        while let Some((segment, _)) = self.finishing.pop_front_if(|(segment, _)| *segment < written) {
            self.stored.add(segment);
        }
    }

    /// Finds the stored batch that begins exactly at `first_sequence`, be it durable or still on its way there.
    pub fn find_batch(
        &mut self,
        device: &DeviceName,
        epoch: &Epoch,
        first_sequence: u64,
    ) -> Result<Option<BatchEntry>, LogError> {
        if let Some(entry) = self.segment.directory.lock().directory.find(device, epoch, first_sequence) {
            return Ok(Some(entry));
        }
        self.let_go_of_written();
        let finishing = self.finishing.iter().rev();
        for (_, directory) in finishing {
            if let Some(entry) = directory.find_finished(device, epoch, first_sequence) {
                return Ok(Some(entry));
            }
        }
        self.stored.find(device, epoch, first_sequence, &self.progress.seals)
    }

    /// Adds a record that recovery has read, as it was.
    pub(crate) fn copy(&mut self, record: Record) {
        match record {
            Record::Batch(batch) => {
                let new = NewBatch {
                    payload: batch.payload,
                    first_sequence: batch.first_sequence,
                    count: batch.count,
                    digest: batch.digest,
                    compressed: batch.compressed,
                };
                self.batch(&batch.source, &batch.schema, new);
            }
            Record::Refused(refused) => {
                self.refused(&refused.source, refused.range, refused.code, refused.digest, &refused.message);
            }
            Record::Dropped(dropped) => self.dropped(&dropped.source, dropped.range),
        }
    }

    fn announce_source(&mut self, source: &Arc<Source>) -> u32 {
        let numbered = self.segment.directory.lock().directory.source(source);
        if numbered.new {
            push_source(&mut self.block.records.head, numbered.id, source);
            self.block.records.count += 1;
        }
        numbered.id
    }

    fn announce_schema(&mut self, schema: &Arc<Schema>) -> u32 {
        let numbered = self.segment.directory.lock().directory.schema(schema);
        if numbered.new {
            push_schema(&mut self.block.records.head, numbered.id, schema);
            self.block.records.count += 1;
        }
        numbered.id
    }
}

#[cfg(test)]
mod tests {
    use icecore_wire::{ColumnType, Field, Payload};

    use super::*;
    use crate::{Encoder, HotLog, RealDisk};

    #[test]
    fn directories_that_are_written_are_let_go_of_without_a_lookup() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 16 << 10, ..Options::default() };
        let opened = HotLog::open(Arc::new(RealDisk), dir.path(), options, 0, &mut |_| {});
        let (mut appender, mut committer, _) = opened.unwrap();
        let source = Source { device: "pump".parse().unwrap(), epoch: Epoch::from_bytes([1; 16]), number: 0 };
        let (source, mut encoder) = (Arc::new(source), Encoder::new());
        let schema = Arc::new(Schema::new("a", 1, vec![Field::new("value", ColumnType::F64)]).unwrap());
        let payload = Payload::copy_from(&[7; 4 << 10]);
        let digest = Digest::of(&payload);
        for first_sequence in 0..40 {
            let payload = payload.clone();
            let batch = NewBatch { payload, first_sequence, count: 1, digest, compressed: true };
            appender.batch(&source, &schema, batch);
            committer.commit(&mut encoder.encode(appender.finish(0), 1)).unwrap();
            assert!(appender.finishing.len() <= 1, "{first_sequence}");
        }
        assert!(appender.segment.number >= 5, "several segments are finished");
        assert!(appender.find_batch(&source.device, &source.epoch, 3).unwrap().is_some());
    }
}
