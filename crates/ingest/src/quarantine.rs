//! Refused batches, kept with the reason for whoever has to find out what a device did wrong.
//!
//! Each is two files in `quarantine/`: `<name>.batch` holds the payload as it came, `<name>.json` says who sent it
//! and why it was refused. The same batch sent again is the same file. When the directory has reached its limit,
//! nothing is added: the first refusals tell more about a fault than the latest, and the operator empties the
//! directory. Nothing here is fsynced: that a batch was refused is in the log. The same thread keeps the record of
//! [conflicts](crate::conflicts), which does not count for the limit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use icecore_wire::{Code, DeviceName, Digest};
use metrics::counter;
use serde::{Deserialize, Serialize};

use crate::conflicts::{Conflict, ConflictBook};
use crate::writer::{Refusal, wall_time};

/// Refusals that may wait for the disk; more are counted, not kept. A device that sends nothing but bad batches
/// must not slow the writer.
const WAITING: usize = 64;

/// How often the record of conflicts is looked at for counts that are due.
const COUNTS_EVERY: Duration = Duration::from_secs(10);

/// The way into the quarantine; dropping it ends the thread behind it.
#[derive(Debug)]
pub(crate) struct Quarantine {
    queue: SyncSender<Entry>,
}

/// Another way in, for conflicts that are not about a batch. It may outlive the quarantine, and leads nowhere then.
#[derive(Debug, Clone)]
pub(crate) struct ConflictReports(SyncSender<Entry>);

/// What the thread is told.
#[derive(Debug)]
enum Entry {
    Refusal(Box<Refusal>),
    Conflict(Conflict),
    End,
}

/// The content of the `.json` file.
#[derive(Serialize)]
struct Reason<'a> {
    device: &'a str,
    epoch: String,
    first_sequence: u64,
    end_sequence: u64,
    code: &'static str,
    message: &'a str,
    digest: String,
    bytes: usize,
    /// Nanoseconds since the Unix epoch.
    refused_time: i64,
}

/// The directory, and how full it is.
struct Shelf {
    directory: PathBuf,
    bytes: u64,
    limit: u64,
    conflicts: ConflictBook,
}

impl Quarantine {
    /// Starts to keep refusals in `directory`, at most `limit` bytes of them.
    pub(crate) fn start(directory: PathBuf, limit: u64) -> io::Result<(Self, JoinHandle<()>)> {
        fs::create_dir_all(&directory)?;
        let bytes = bytes_in(&directory)?;
        let conflicts = ConflictBook::new(directory.clone());
        let shelf = Shelf { directory, bytes, limit, conflicts };
        let (queue, entries) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("icecore-quarantine".to_owned())
            .spawn(move || shelf.keep_all(&entries))?;
        Ok((Self { queue }, thread))
    }

    /// Hands a refusal over; never waits.
    pub(crate) fn keep(&self, refusal: Box<Refusal>) {
        if self.queue.try_send(Entry::Refusal(refusal)).is_err() {
            count_lost();
        }
    }

    /// A way in for conflicts.
    pub(crate) fn reports(&self) -> ConflictReports {
        ConflictReports(self.queue.clone())
    }
}

impl Drop for Quarantine {
    fn drop(&mut self) {
        // An error means that the thread is gone already.
        let _ = self.queue.send(Entry::End);
    }
}

impl ConflictReports {
    /// Puts a conflict on record; never waits.
    pub(crate) fn report(&self, device: &DeviceName, code: Code, message: String) {
        if self.0.try_send(Entry::Conflict(Conflict::new(device.as_str(), code, message))).is_err() {
            count_lost();
        }
    }
}

/// How many refused batches of `device` are kept in the data directory `data`.
///
/// # Errors
/// When the quarantine cannot be read.
pub fn quarantined(data: &Path, device: &DeviceName) -> io::Result<usize> {
    #[derive(Deserialize)]
    struct Kept {
        device: String,
    }
    let entries = match fs::read_dir(data.join("quarantine")) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    let prefix = file_prefix(device);
    let mut count = 0;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| name.starts_with(&prefix) && name.ends_with(".json")) {
            continue;
        }
        let kept: Option<Kept> = serde_json::from_slice(&fs::read(entry.path())?).ok();
        count += usize::from(kept.is_some_and(|kept| kept.device == device.as_str()));
    }
    Ok(count)
}

/// What the names of a device's files begin with. The cut keeps the longest name within what file systems take; the digest
/// at their end keeps names apart.
fn file_prefix(device: &DeviceName) -> String {
    format!("{:.120}-", device.path_segment())
}

impl Shelf {
    fn keep_all(mut self, entries: &Receiver<Entry>) {
        loop {
            let done = match entries.recv_timeout(COUNTS_EVERY) {
                Ok(Entry::Refusal(refusal)) => self.keep_refusal(&refusal),
                Ok(Entry::Conflict(conflict)) => self.conflicts.record(conflict, Instant::now()),
                Err(RecvTimeoutError::Timeout) => self.conflicts.write_due(Instant::now()),
                Ok(Entry::End) | Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(e) = done {
                count_lost();
                tracing::warn!(error = %e, directory = %self.directory.display(), "cannot keep what was refused");
            }
        }
        if let Err(e) = self.conflicts.write_all(Instant::now()) {
            tracing::warn!(error = %e, directory = %self.directory.display(), "cannot keep counts of conflicts");
        }
    }

    fn keep_refusal(&mut self, refusal: &Refusal) -> io::Result<()> {
        // Here and not in the writer's thread, which must not wait for whoever reads the log.
        tracing::info!(
            device = %refusal.from.device,
            first_sequence = refusal.range.start,
            code = refusal.code.name(),
            reason = refusal.message,
            "refused a batch"
        );
        self.keep(refusal)?;
        Conflict::of(refusal).map_or(Ok(()), |conflict| self.conflicts.record(conflict, Instant::now()))
    }

    fn keep(&mut self, refusal: &Refusal) -> io::Result<()> {
        let digest = Digest::of(&refusal.payload);
        let name = format!("{}{}-{digest}", file_prefix(&refusal.from.device), refusal.range.start);
        let batch = self.directory.join(format!("{name}.batch"));
        if batch.exists() {
            return Ok(());
        }
        let reason = Reason {
            device: refusal.from.device.as_str(),
            epoch: refusal.from.epoch.to_string(),
            first_sequence: refusal.range.start,
            end_sequence: refusal.range.end,
            code: refusal.code.name(),
            message: &refusal.message,
            digest: digest.to_string(),
            bytes: refusal.payload.len(),
            refused_time: wall_time(),
        };
        let reason = serde_json::to_vec_pretty(&reason).map_err(io::Error::other)?;
        let bytes = (refusal.payload.len() + reason.len()) as u64;
        if self.bytes + bytes > self.limit {
            count_lost();
            return Ok(());
        }
        fs::write(&batch, &*refusal.payload)?;
        fs::write(self.directory.join(format!("{name}.json")), reason)?;
        self.bytes += bytes;
        Ok(())
    }
}

fn count_lost() {
    counter!("icecore_quarantine_not_kept_total").increment(1);
}

fn bytes_in(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(ConflictBook::is_part) {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use icecore_wire::{Code, DeviceName, Epoch, Payload};

    use super::*;
    use crate::writer::Attachment;

    fn refusal(first: u64, content: &[u8]) -> Box<Refusal> {
        let device = DeviceName::try_from("hall/pump").unwrap();
        Box::new(Refusal {
            from: Attachment::new(1, 1, device, Epoch::from_bytes([7; 16])),
            range: first..first + 10,
            code: Code::MalformedBatch,
            message: "offsets run backwards".to_owned(),
            payload: Payload::copy_from(content),
        })
    }

    #[test]
    fn conflicts_are_on_record_when_the_thread_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (quarantine, thread) = Quarantine::start(dir.path().join("quarantine"), 2_000).unwrap();
        let (reports, pump) = (quarantine.reports(), "pump".parse().unwrap());
        reports.report(&pump, Code::IdentityConflict, "one".to_owned());
        reports.report(&pump, Code::IdentityConflict, "two".to_owned());
        quarantine.keep(Box::new(Refusal { code: Code::SequenceConflict, ..*refusal(0, b"other") }));
        drop(quarantine);
        thread.join().unwrap();
        reports.report(&pump, Code::IdentityConflict, "nobody hears".to_owned());
        let found = |device| crate::conflicts::conflicts(dir.path(), device).unwrap();
        let counts: Vec<u64> = found("pump").iter().map(|conflict| conflict.count).collect();
        assert_eq!(counts, [1, 1]);
        assert_eq!((found("hall/pump").len(), found("hall/pump")[0].code.as_str()), (1, "sequence_conflict"));
        let (again, thread) = Quarantine::start(dir.path().join("quarantine"), 2_000).unwrap();
        drop(again);
        thread.join().unwrap();
    }

    #[test]
    fn keeps_each_batch_once_and_stops_at_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("quarantine");
        let (quarantine, thread) = Quarantine::start(path.clone(), 2_000).unwrap();
        quarantine.keep(refusal(0, b"bad"));
        quarantine.keep(refusal(0, b"bad"));
        quarantine.keep(refusal(10, &[1; 3_000]));
        quarantine.keep(refusal(20, b"worse"));
        drop(quarantine);
        thread.join().unwrap();
        let mut names: Vec<String> =
            fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names.len(), 4, "{names:?}");
        let batch = names.iter().find(|n| n.starts_with("hall%2Fpump-0-") && n.ends_with(".batch")).unwrap();
        assert_eq!(fs::read(path.join(batch)).unwrap(), b"bad");
        let reason: serde_json::Value =
            serde_json::from_slice(&fs::read(path.join(batch.replace(".batch", ".json"))).unwrap()).unwrap();
        assert_eq!(reason["code"], "malformed_batch");
        assert_eq!(reason["device"], "hall/pump");
        let kept = |device: &str| quarantined(dir.path(), &device.parse().unwrap()).unwrap();
        assert_eq!((kept("hall/pump"), kept("hall")), (2, 0));
    }
}
