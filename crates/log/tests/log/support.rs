//! A small writer for tests: batches with recognizable payloads, one block at a time.

use std::path::Path;
use std::sync::Arc;

use icecore_log::{
    Appender, CommitError, Committed, Committer, Disk, Encoder, HotLog, LogError, LogReader, NewBatch,
};
use icecore_log::{Options, Record, Recovery, Scan, Source};
use icecore_wire::{ColumnType, Digest, Epoch, Field, Payload, Schema};

/// An open log with everything a test needs to write to it.
pub(crate) struct Log {
    pub(crate) appender: Appender,
    pub(crate) committer: Committer,
    pub(crate) encoder: Encoder,
    pub(crate) recovery: Recovery,
}

/// Small enough that a few blocks fill a segment.
pub(crate) fn options() -> Options {
    Options { segment_bytes: 16 << 10, ..Options::default() }
}

pub(crate) fn schema(name: &str) -> Arc<Schema> {
    Arc::new(Schema::new(name, 1, vec![Field::new("value", ColumnType::F64)]).unwrap())
}

pub(crate) fn source(device: &str, epoch: u8) -> Arc<Source> {
    let device = device.parse().unwrap();
    Arc::new(Source { device, epoch: Epoch::from_bytes([epoch; 16]), number: u32::from(epoch) })
}

/// A batch whose payload is a function of its sequence and of `size`. The log does not look into payloads.
pub(crate) fn batch(first_sequence: u64, count: u32, size: usize) -> NewBatch {
    let bytes: Vec<u8> = (0..size).map(|i| (i as u64 / 7 + first_sequence * 31) as u8).collect();
    let payload = Payload::copy_from(&bytes);
    let digest = Digest::of(&payload);
    NewBatch { payload, first_sequence, count, digest, compressed: first_sequence % 3 == 1 }
}

impl Log {
    pub(crate) fn open(disk: &Arc<dyn Disk>, data: &Path) -> Result<Self, LogError> {
        Self::open_with(disk, data, options())
    }

    pub(crate) fn open_with(disk: &Arc<dyn Disk>, data: &Path, options: Options) -> Result<Self, LogError> {
        let (appender, committer, recovery) =
            HotLog::open(Arc::clone(disk), data, options, 1_000, &mut |_| {})?;
        Ok(Self { appender, committer, encoder: Encoder::new(), recovery })
    }

    pub(crate) fn commit(&mut self, received: i64) -> Result<Committed, CommitError> {
        let mut block = self.encoder.encode(self.appender.finish(received), 1);
        self.committer.commit(&mut block)
    }

    /// Commits one batch in a block of its own.
    pub(crate) fn store(
        &mut self,
        source: &Arc<Source>,
        schema: &Arc<Schema>,
        batch: NewBatch,
    ) -> Result<(), CommitError> {
        self.appender.batch(source, schema, batch);
        self.commit(1_000).map(|_| ())
    }
}

/// All records of the log.
pub(crate) fn read(disk: &Arc<dyn Disk>, data: &Path) -> Result<Vec<Record>, LogError> {
    LogReader::open(Arc::clone(disk), data)?.scan(Scan::default()).collect()
}

/// The first sequences and positions of the batches in it.
pub(crate) fn batches(records: &[Record]) -> Vec<(u64, u64)> {
    let batches = records.iter().filter_map(|record| match record {
        Record::Batch(batch) => {
            assert_eq!(Digest::of(&batch.payload), batch.digest);
            Some((batch.first_sequence, batch.position))
        }
        _ => None,
    });
    batches.collect()
}
