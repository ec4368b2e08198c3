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
    let mut found = Recovered { queues: Vec::new(), files: VecDeque::new() };
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
        let mut reader = FileReader { id, bytes: &bytes, offset: 0, schemas: HashMap::new() };
        let queue = queue_of(&mut found.queues, id.epoch);
        queue.boot = boot;
        let (live, drops) = reader.read_into(queue);
        if reader.offset < bytes.len() {
            let offset = reader.offset;
            tracing::warn!(path = %path.display(), offset, length = bytes.len(), "spool file ends in an incomplete frame");
        }
        dropped.extend(drops);
        let schemas = reader.schemas.into_keys().collect();
        found.files.push_back(FileIndex { id, boot, bytes: bytes.len() as u64, live, schemas });
    }
    for (epoch, ranges) in dropped {
        let queue = queue_of(&mut found.queues, epoch);
        queue.next_sequence = queue.next_sequence.max(ranges.next());
        queue.dropped.insert_all(&ranges);
    }
    found.queues.retain(|queue| !queue.is_done());
    for queue in &mut found.queues {
        queue.rewind();
    }
    Ok(found)
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

fn queue_of(queues: &mut Vec<EpochQueue>, epoch: Epoch) -> &mut EpochQueue {
    let index = queues.iter().position(|queue| queue.epoch == epoch).unwrap_or_else(|| {
        queues.push(EpochQueue::new(epoch, 0));
        queues.len() - 1
    });
    &mut queues[index]
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
    id: FileId,
    bytes: &'a [u8],
    /// Of the next frame.
    offset: usize,
    schemas: HashMap<SchemaId, Arc<Schema>>,
}

impl FileReader<'_> {
    /// Adds the file's batches to its epoch's `queue`; returns their number, and what was dropped of any epoch.
    fn read_into(&mut self, queue: &mut EpochQueue) -> (usize, Vec<(Epoch, SequenceRanges)>) {
        let (mut live, mut dropped) = (0, Vec::new());
        while let Some((kind, payload)) = read_frame(self.id, &self.bytes[self.offset..]) {
            let mark = read_mark(&self.bytes[self.offset..]);
            let place = Place { segment: self.id.number, offset: (self.offset + FRAME_HEADER) as u64 };
            match kind {
                Kind::Start => {}
                Kind::Schema => {
                    let Ok(schema) = Schema::from_canonical(payload) else { break };
                    self.schemas.insert(schema.id(), Arc::new(schema));
                }
                Kind::Batch => {
                    let Some(batch) = self.batch(payload, place, mark) else { break };
                    // Files of an epoch hold ascending sequences; anything else is not ours.
                    if batch.first < queue.next_sequence {
                        break;
                    }
                    queue.push(batch);
                    live += 1;
                }
                Kind::Dropped => {
                    let Some(drop) = read_dropped(payload) else { break };
                    dropped.push(drop);
                }
            }
            self.offset += frame_bytes(payload.len());
        }
        (live, dropped)
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
