//! The directory of a spool: opening it, carrying out work, closing it.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use icecore_wire::{Epoch, Payload, limits};

use super::format::{FRAME_HEADER, FileId, Kind, frame_bytes, read_frame, write_frame};
use super::index::{Append, DiskIndex, Load, Rejected, Work};
use super::recovery::{self, Recovered};
use super::{clock, marker};
use crate::clock::Boot;
use crate::error::SpoolError;
use crate::spool::queue::EpochQueue;
use crate::spool::rebase::Rebases;

const LOCK: &str = "lock";
/// How long, and how often, a lock is tried that another process holds.
const LOCK_PATIENCE: Duration = Duration::from_millis(300);
const LOCK_PAUSE: Duration = Duration::from_millis(10);
const REJECTED: &str = "rejected";

/// Bytes of refused batches that are kept for people to look at. The first ones show the cause; later ones are counted.
const REJECTED_MAX_BYTES: u64 = 4 * limits::MAX_BATCH_BYTES as u64;

/// The open files of a spool. All of its methods block on the disk.
pub(crate) struct SpoolFiles {
    dir: PathBuf,
    /// Held for as long as the spool is open; closed, it takes no more work.
    lock: Option<File>,
    /// The epochs of the files, by number: needed to check frames.
    files: HashMap<u64, FileId>,
    /// The one that was written to last.
    open: Option<(FileId, File)>,
    rejected_bytes: u64,
    /// The next fsync fails, as on a disk that does.
    #[cfg(test)]
    pub(crate) fail_fsync: bool,
}

/// What came of some work.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) loaded: Vec<(Epoch, u64, Payload)>,
    /// Batches that cannot be read any more.
    pub(crate) damaged: Vec<(Epoch, u64)>,
    /// Bytes written to files: frames with their headers and padding.
    pub(crate) written: u64,
    pub(crate) fsyncs: u64,
}

impl SpoolFiles {
    /// Opens or makes the spool in `dir`. The queues found end with the epoch for new batches: the one of the last
    /// run if its [marker] holds, else a new one.
    pub(crate) fn open(
        dir: &Path,
        max_bytes: u64,
        sync_every: Duration,
        boot: Boot,
    ) -> Result<(Self, Vec<EpochQueue>, DiskIndex), SpoolError> {
        fs::create_dir_all(dir).map_err(failed(dir, "create"))?;
        let lock = lock(dir)?;
        let Recovered { mut queues, files } = recovery::recover(dir)?;
        let same_boot = files.back().is_some_and(|file| file.boot == Some(boot));
        let resumed = marker::take(dir, &files)?.filter(|_| same_boot);
        match resumed {
            Some((epoch, next_sequence)) => recovery::resume(&mut queues, epoch, next_sequence),
            None => queues.push(EpochQueue::new(Epoch::random(), 0)),
        }
        let epoch = queues.last().expect("one was pushed, or moved to the end").epoch;
        let known = files.iter().map(|file| (file.id.number, file.id)).collect();
        let mut index = DiskIndex::new(files, epoch, max_bytes, sync_every, boot);
        index.free_settled();
        let files = Self {
            dir: dir.to_owned(),
            lock: Some(lock),
            files: known,
            open: None,
            rejected_bytes: 0,
            #[cfg(test)]
            fail_fsync: false,
        };
        Ok((files, queues, index))
    }

    /// What the spool keeps of clocks.
    pub(crate) fn rebases(&self) -> Result<Rebases, SpoolError> {
        clock::read(&self.dir)
    }

    /// Carries work out. After an error nothing more may be written: what a failed fsync left on the disk is unknown.
    pub(crate) fn perform(&mut self, work: &Work) -> Result<Done, SpoolError> {
        if self.lock.is_none() {
            return Ok(Done::default());
        }
        let mut done = Done::default();
        self.append(&work.appends, &mut done)?;
        if let Some(rebases) = &work.clock {
            done.written += clock::write(&self.dir, rebases)?;
            done.fsyncs += 2;
        }
        for file in &work.frees {
            // What is open is not gone.
            self.open.take_if(|(open, _)| open == file);
            let path = file_path(&self.dir, file.number);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&path, "remove")(error));
                }
                _ => self.files.remove(&file.number),
            };
        }
        for batch in &work.rejected {
            done.written += self.keep(batch)?;
        }
        for load in &work.loads {
            match self.load(load) {
                Some(payload) => done.loaded.push((load.epoch, load.first, payload)),
                None => done.damaged.push((load.epoch, load.first)),
            }
        }
        Ok(done)
    }

    /// Writes and fsyncs frames, file by file.
    fn append(&mut self, appends: &[Append], done: &mut Done) -> Result<(), SpoolError> {
        for run in appends.chunk_by(|one, next| one.file == next.file) {
            let file = run[0].file;
            let mut bytes =
                Vec::with_capacity(run.iter().map(|a| frame_bytes(a.content.bytes().len())).sum());
            for append in run {
                write_frame(file, append.kind, append.mark, append.content.bytes(), &mut bytes);
            }
            let path = file_path(&self.dir, file.number);
            let created = run[0].offset == 0;
            let handle = match &self.open {
                Some((id, handle)) if *id == file => handle,
                _ => {
                    let handle = OpenOptions::new().create_new(created).write(true).open(&path);
                    self.files.insert(file.number, file);
                    &self.open.insert((file, handle.map_err(failed(&path, "open"))?)).1
                }
            };
            handle.write_all_at(&bytes, run[0].offset).map_err(failed(&path, "write"))?;
            #[cfg(test)]
            if self.fail_fsync {
                return Err(failed(&path, "fsync")(io::ErrorKind::Other.into()));
            }
            handle.sync_data().map_err(failed(&path, "fsync"))?;
            if created {
                sync_dir(&self.dir)?;
            }
            done.written += bytes.len() as u64;
            done.fsyncs += 1 + u64::from(created);
        }
        Ok(())
    }

    /// `None` when the batch is damaged or its file is gone.
    fn load(&self, load: &Load) -> Option<Payload> {
        let file = *self.files.get(&load.place.segment)?;
        let mut bytes = vec![0; FRAME_HEADER + load.length as usize];
        let handle = File::open(file_path(&self.dir, file.number)).ok()?;
        handle.read_exact_at(&mut bytes, load.place.offset - FRAME_HEADER as u64).ok()?;
        match read_frame(file, &bytes) {
            Some((Kind::Batch, payload)) => Some(Payload::copy_from(payload)),
            _ => None,
        }
    }

    /// Returns the bytes written.
    fn keep(&mut self, batch: &Rejected) -> Result<u64, SpoolError> {
        let dir = self.dir.join(REJECTED);
        if self.rejected_bytes == 0 {
            fs::create_dir_all(&dir).map_err(failed(&dir, "create"))?;
            self.rejected_bytes = directory_bytes(&dir).map_err(failed(&dir, "list"))?;
        }
        self.rejected_bytes += batch.payload.len() as u64;
        if self.rejected_bytes > REJECTED_MAX_BYTES {
            return Ok(0);
        }
        let path = dir.join(format!("{}-{}-{}.batch", batch.epoch, batch.first, batch.code.name()));
        fs::write(&path, &batch.payload).map_err(failed(&path, "write"))?;
        Ok(batch.payload.len() as u64)
    }

    /// Writes the marker that lets the next run go on with `epoch` at `next_sequence`, and lets others open the spool.
    pub(crate) fn close(&mut self, epoch: Epoch, next_sequence: u64) -> Result<(), SpoolError> {
        let Some(_lock) = self.lock.take() else { return Ok(()) };
        marker::leave(&self.dir, epoch, self.files.values().copied(), next_sequence)
    }
}

pub(super) fn file_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.spool"))
}

pub(super) fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> SpoolError + use<> {
    let path = path.to_owned();
    move |error| SpoolError::Io { path, what, reason: error.to_string() }
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), SpoolError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir, "fsync"))
}

/// Takes the lock of the spool in `dir`. A process that has just been forked off the last holder shares it until it runs a
/// program of its own: so it is waited for a moment.
fn lock(dir: &Path) -> Result<File, SpoolError> {
    let path = dir.join(LOCK);
    let file = File::create(&path).map_err(failed(&path, "create"))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Err(SpoolError::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(failed(&path, "lock")(error)),
        }
    }
}

fn directory_bytes(dir: &Path) -> io::Result<u64> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}
