//! Reading a spool's files when it is opened.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_wire::{BatchHeader, Epoch, Payload, Schema, SchemaId, SequenceRanges};

use super::files::failed;
use super::format::{
    FRAME_HEADER, FileId, Kind, frame_bytes, read_dropped, read_frame, read_mark, read_start,
};
use super::index::FileIndex;
use crate::clock::Boot;
use crate::error::SpoolError;
use crate::spool::queue::{EpochQueue, Mark, Place, Queued, State};

/// What was found.
pub(super) struct Recovered {
    /// By first file.
    pub(super) queues: Vec<EpochQueue>,
    /// In order of number.
    pub(super) files: VecDeque<FileIndex>,
}

/// Reads all files of the spool in `dir`. What follows the first frame that is not intact is passed over: in the newest
/// file of a run that was killed it is a batch that was never fsynced, hence never sent; elsewhere it is damage, and the
/// sequences that went with it come up as [lost](EpochQueue::lost) when the server tells what it has.
pub(super) fn recover(dir: &Path) -> Result<Recovered, SpoolError> {
    let (mut epochs, mut files) = (Vec::new(), VecDeque::new());
    let mut dropped = Vec::new();
    for path in spool_files(dir)? {
        let bytes = fs::read(&path).map_err(failed(&path, "read"))?;
        let Some((id, boot)) = read_start(&bytes) else {
            // Without its first frame nothing in it was ever fsynced, or nothing of it can be told.
            tracing::warn!(path = %path.display(), "spool file has no readable start and is set aside");
            let aside = path.with_extension("unreadable");
            fs::rename(&path, &aside).map_err(failed(&path, "set aside"))?;
            continue;
        };
        // A killed process may have written what it did not fsync: it counts from here on, so it is made durable now.
        File::open(&path).and_then(|file| file.sync_data()).map_err(failed(&path, "fsync"))?;
        let mut reader = FileReader::new(id, boot, &bytes);
        let found = found_of(&mut epochs, id.epoch);
        found.queue.boot = boot;
        dropped.extend(reader.read_into(&mut found.batches));
        if reader.offset < bytes.len() {
            let offset = reader.offset;
            tracing::warn!(path = %path.display(), offset, length = bytes.len(), "spool file ends in an incomplete frame");
        }
        files.push_back(reader.into_index());
    }
    for (epoch, ranges) in dropped {
        let queue = &mut found_of(&mut epochs, epoch).queue;
        queue.dropped.insert_all(&ranges);
    }
    let mut queues: Vec<_> = epochs.into_iter().map(Found::into_queue).collect();
    queues.retain(|queue| !queue.is_done());
    for batch in queues.iter().flat_map(EpochQueue::present) {
        let index = files.binary_search_by_key(&batch.place.segment, |file: &FileIndex| file.id.number);
        files[index.expect("a batch was read from a file")].live += 1;
    }
    Ok(Recovered { queues, files })
}

/// An epoch as it is read.
struct Found {
    queue: EpochQueue,
    /// In order of their files.
    batches: Vec<Queued>,
}

impl Found {
    /// With its batches in order, to be sent anew.
    fn into_queue(self) -> EpochQueue {
        let Self { mut queue, mut batches } = self;
        batches.sort_by_key(|batch| batch.first);
        for batch in batches {
            // Sequences are given once; anything else is not ours.
            if batch.first >= queue.next_sequence {
                queue.push(batch);
            }
        }
        queue.next_sequence = queue.next_sequence.max(queue.dropped.next());
        queue.rewind();
        queue
    }
}

fn found_of(epochs: &mut Vec<Found>, epoch: Epoch) -> &mut Found {
    let index = epochs.iter().position(|found| found.queue.epoch == epoch).unwrap_or_else(|| {
        epochs.push(Found { queue: EpochQueue::new(epoch, 0), batches: Vec::new() });
        epochs.len() - 1
    });
    &mut epochs[index]
}

/// Moves the queue of `epoch` to the end, to go on at `next_sequence`.
pub(super) fn resume(queues: &mut Vec<EpochQueue>, epoch: Epoch, next_sequence: u64) {
    let mut queue = match queues.iter().position(|queue| queue.epoch == epoch) {
        Some(index) => queues.remove(index),
        None => EpochQueue::new(epoch, next_sequence),
    };
    queue.next_sequence = next_sequence;
    queues.push(queue);
}

fn spool_files(dir: &Path) -> Result<Vec<PathBuf>, SpoolError> {
    let entries = fs::read_dir(dir).map_err(failed(dir, "list"))?;
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(failed(dir, "list"))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "spool"));
    // Numbers have a fixed width: the order of names is the order of files.
    paths.sort();
    Ok(paths)
}

struct FileReader<'a> {
    index: FileIndex,
    bytes: &'a [u8],
    /// Of the next frame.
    offset: usize,
    schemas: HashMap<SchemaId, Arc<Schema>>,
}

impl<'a> FileReader<'a> {
    fn new(id: FileId, boot: Option<Boot>, bytes: &'a [u8]) -> Self {
        Self { index: FileIndex::new(id, boot), bytes, offset: 0, schemas: HashMap::new() }
    }

    /// Adds the file's batches to its epoch's; returns what was dropped of any epoch.
    fn read_into(&mut self, batches: &mut Vec<Queued>) -> Vec<(Epoch, SequenceRanges)> {
        let mut dropped = Vec::new();
        // Of a torn frame the padding alone may be missing.
        while let Some(rest) = self.bytes.get(self.offset..)
            && let Some((kind, payload)) = read_frame(self.index.id, rest)
        {
            let mark = read_mark(rest);
            let offset = (self.offset + FRAME_HEADER) as u64;
            let place = Place { segment: self.index.id.number, offset };
            match kind {
                Kind::Start => {}
                Kind::Schema => {
                    let Ok(schema) = Schema::from_canonical(payload) else { break };
                    self.schemas.insert(schema.id(), Arc::new(schema));
                }
                Kind::Batch => {
                    let Some(batch) = self.batch(payload, place, mark) else { break };
                    // A file holds ascending sequences; anything else is not ours.
                    if batch.first < self.index.end {
                        break;
                    }
                    self.index.priority = mark.priority;
                    self.index.appended(&batch.range());
                    batches.push(batch);
                }
                Kind::Dropped => {
                    let Some(drop) = read_dropped(payload) else { break };
                    dropped.push(drop);
                }
            }
            self.offset += frame_bytes(payload.len());
        }
        dropped
    }

    /// The file without the [live](FileIndex::live) batches, which are counted when it is known which of them are ours.
    fn into_index(self) -> FileIndex {
        let schemas = self.schemas.into_keys().collect();
        let whole = self.offset == self.bytes.len();
        FileIndex { bytes: self.bytes.len() as u64, schemas, whole, ..self.index }
    }

    fn batch(&self, payload: &[u8], place: Place, mark: Mark) -> Option<Queued> {
        let header = BatchHeader::peek(&Payload::copy_from(payload)).ok()?;
        Some(Queued {
            first: header.first_sequence,
            count: header.count,
            length: u32::try_from(payload.len()).ok()?,
            schema: Arc::clone(self.schemas.get(&header.schema)?),
            payload: None,
            place,
            mark,
            state: State::Waiting,
            sent_before: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use icecore_wire::{BatchBuilder, ColumnType, EncodeOptions, Field, Value};

    use super::super::files::{SpoolFiles, file_path};
    use super::super::format::frame_bytes;
    use super::super::marker;
    use super::*;

    fn batch(schema: &Arc<Schema>, first: u64) -> Payload {
        let mut builder = BatchBuilder::new(Arc::clone(schema));
        builder.row(0, &[Value::U64(first)]).unwrap();
        builder.finish(first, EncodeOptions::PLAIN).unwrap()
    }

    #[test]
    fn what_is_appended_after_bit_rot_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let schema = Arc::new(Schema::new("s", 1, vec![Field::new("n", ColumnType::U64)]).unwrap());
        let open = || SpoolFiles::open(dir.path(), 1 << 20, Duration::ZERO, [5; 16]).unwrap();
        let file = file_path(dir.path(), 0);
        for first in 0..3 {
            let (mut files, queues, mut index) = open();
            let queue = queues.last().unwrap();
            assert_eq!(queue.next_sequence, first, "the epoch goes on");
            let payload = batch(&schema, first);
            index.append(&schema, &payload, Mark::default(), &(first..first + 1));
            files.perform(&index.next_work(&queues, Instant::now()).unwrap()).unwrap();
            files.close(queue.epoch, first + 1).unwrap();
            if first == 1 {
                let mut bytes = fs::read(&file).unwrap();
                let last = bytes.len() - frame_bytes(payload.len());
                bytes[last + FRAME_HEADER] ^= 1;
                fs::write(&file, bytes).unwrap();
                // Bits that rot leave the file's change time alone.
                let id = FileId { epoch: queue.epoch, number: 0 };
                marker::leave(dir.path(), id.epoch, [id].into_iter(), first + 1).unwrap();
            }
        }
        let (_, queues, _) = open();
        let found: Vec<_> = queues.iter().flat_map(EpochQueue::present).map(|batch| batch.first).collect();
        assert_eq!(found, [0, 2]);
    }
}
