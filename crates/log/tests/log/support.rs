//! A small writer for tests: batches with recognizable payloads, one block at a time.

use std::ops::ControlFlow::Continue;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use icecore_log::{
    Appender, CommitError, Committed, Committer, Disk, Encoder, HotLog, LogError, LogReader, NewBatch,
};
use icecore_log::{Options, Record, Recovery, RefusedBatch, Scan, SealPlan, Sealing, Source, StoredBatch};
use icecore_wire::{
    Batch, BatchBuilder, ColumnType, DeviceName, Digest, EncodeOptions, Epoch, Field, Payload, Schema, Value,
};

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

/// A schema whose batches can be as long as a test wants.
pub(crate) fn noted(name: &str) -> Arc<Schema> {
    let fields = vec![Field::new("value", ColumnType::F64), Field::new("note", ColumnType::Text)];
    Arc::new(Schema::new(name, 1, fields).unwrap())
}

/// A batch that is really one, of a [`noted`] schema: a function of its sequence, with notes of `size` bytes.
pub(crate) fn real_batch(schema: &Arc<Schema>, first_sequence: u64, count: u32, size: usize) -> NewBatch {
    let mut builder = BatchBuilder::new(Arc::clone(schema));
    for sequence in first_sequence..first_sequence + u64::from(count) {
        let note: String =
            (0..size).map(|i| char::from(b'a' + ((sequence + i as u64 * 7) % 26) as u8)).collect();
        builder
            .row(sequence as i64 * 1_000, &[Value::F64(sequence as f64 / 8.0), Value::Text(&note)])
            .unwrap();
    }
    let compressed = first_sequence.is_multiple_of(20);
    let options = EncodeOptions { pco: compressed.then_some(4), ..EncodeOptions::PLAIN };
    let payload = builder.finish(first_sequence, options).unwrap();
    let digest = Digest::of(&payload);
    NewBatch { payload, first_sequence, count, digest, compressed }
}

/// Everything that a record says, whatever its payload looks like.
pub(crate) fn content(record: &Record) -> String {
    let (number, device) = (record.source().number, &record.source().device);
    match record {
        Record::Batch(batch) => {
            let StoredBatch { first_sequence, count, position, received, digest, .. } = batch;
            let rows = rows(batch);
            format!(
                "{device} {number} {} {first_sequence}+{count} at {position} {received} {digest} {rows}",
                batch.schema.name()
            )
        }
        Record::Refused(refused) => {
            let RefusedBatch { range, code, digest, message, received, .. } = refused;
            format!("{device} {number} refused {range:?} {code} {digest} {message} {received}")
        }
        Record::Dropped(dropped) => {
            format!("{device} {number} dropped {:?} {}", dropped.range, dropped.received)
        }
    }
}

fn rows(stored: &StoredBatch) -> String {
    let batch = Batch::validate(stored.payload.clone(), Arc::clone(&stored.schema)).unwrap();
    let columns: Vec<_> = (0..stored.schema.fields().len()).map(|field| batch.column(field)).collect();
    let row =
        |row: usize| columns.iter().map(|column| format!("{:?}", column.value(row))).collect::<Vec<_>>();
    let rows = batch.times().iter().enumerate().map(|(i, time)| format!("{time} {:?}", row(i)));
    format!("{} {:?}", batch.header().first_sequence, rows.collect::<Vec<_>>())
}

/// Seals up to `hot_bytes` of hot segments; batches of devices with an even number of letters are `even`.
pub(crate) fn seal(log: &Log, hot_bytes: u64) -> Result<Sealing, LogError> {
    log.committer.sealer().seal(SealPlan {
        hot_bytes,
        classify: &by_letters,
        pace: &mut |_| Continue(()),
        now: 5,
    })
}

pub(crate) fn by_letters(_: &Schema, device: &DeviceName, _: i64) -> Arc<str> {
    if device.as_str().len().is_multiple_of(2) { "even".into() } else { "odd".into() }
}

pub(crate) fn four_sources() -> Vec<Arc<Source>> {
    ["even", "odds!", "pump/1", "größe"].iter().zip(0..).map(|(name, epoch)| source(name, epoch)).collect()
}

/// Records of all kinds: in each round a block, with a batch of ten events of every source.
pub(crate) fn fill(log: &mut Log, sources: &[Arc<Source>], rounds: Range<u64>) {
    let schemas = [noted("a"), noted("b")];
    for round in rounds {
        for (index, source) in sources.iter().enumerate() {
            let schema = &schemas[(round as usize + index) % 2];
            log.appender.dropped(source, 100_000 + round * 10..100_000 + round * 10 + 5);
            log.appender.batch(source, schema, real_batch(schema, round * 10, 10, 40));
        }
        let refused = 200_000 + round..200_001 + round;
        log.appender.refused(&sources[round as usize % 4], refused, 7, Digest::of(b"x"), "no");
        log.commit(1_000 + round as i64).unwrap();
        if round % 7 == 0 {
            log.commit(1_000 + round as i64).unwrap();
        }
    }
}

/// Everything that the records of the log say, in order.
pub(crate) fn contents(disk: &Arc<dyn Disk>, data: &Path) -> Result<Vec<String>, LogError> {
    Ok(read(disk, data)?.iter().map(content).collect())
}
